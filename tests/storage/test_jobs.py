import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlmodel import select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import jobs
from storage.database import Database
from storage.jobs import Claim, Finished, Held, NewJob

MakeJob = Callable[..., NewJob]
MakeResult = Callable[..., AuditResult]
SHA256 = "ab" * 32
OOPS = ErrorRecord(code="decode_failed", message="truncated")


def add(database: Database, *new: NewJob) -> list[AuditJob]:
    with database.write() as session:
        return jobs.add_jobs(session, new)


def job_of(database: Database, job_id: uuid.UUID) -> AuditJob:
    with database.read() as session:
        job = session.get(AuditJob, job_id)
        assert job is not None
        session.expunge(job)
        return job


def results_of(database: Database, job_id: uuid.UUID) -> list[AuditResult]:
    with database.read() as session:
        return list(session.exec(select(AuditResult).where(AuditResult.job_id == job_id)))


def claim(database: Database, job_id: uuid.UUID, lease_s: float = 0.0) -> Claim | Held | None:
    """By default as a worker that comes when every earlier claim has lapsed."""
    message = AuditMessage(job_id=job_id, sha256=SHA256, source="x", queue=AuditQueue.BULK, profiles=("wechat",))
    with database.write() as session:
        return jobs.claim_job(session, message, lease_s)


def fail(database: Database, job_id: uuid.UUID, error: ErrorRecord = OOPS) -> None:
    with database.write() as session:
        jobs.fail_job(session, job_id, error)


def finish(database: Database, job_id: uuid.UUID, *results: AuditResult) -> bool:
    with database.write() as session:
        return jobs.finish_job(session, job_id, results)


def test_jobs_are_added_once_per_client_reference(database: Database, new_job: MakeJob) -> None:
    first = add(database, new_job("a"), new_job("b"))
    again = add(database, new_job("b", submission="later"), new_job("c"))
    assert [job.client_ref for job in first] == ["a", "b"]
    assert [job.client_ref for job in again] == ["b", "c"]
    assert again[0].id == first[1].id
    with database.read() as session:
        assert len(session.exec(select(AuditJob)).all()) == 3
        assert len(session.exec(select(Picture)).all()) == 1
    assert job_of(database, first[1].id).submission == "later"


def test_the_same_reference_twice_in_one_call_is_one_job_and_one_message(database: Database, new_job: MakeJob) -> None:
    assert [job.client_ref for job in add(database, new_job("a"), new_job("b"), new_job("a"))] == ["a", "b"]


def test_adding_nothing_is_allowed(database: Database) -> None:
    assert add(database) == []


def test_a_job_keeps_what_was_asked_for(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("ü\n", source="Ordner/ü 🦆.jpg", queue=AuditQueue.HIGH, profiles=("wechat", "weibo")))
    stored = job_of(database, job.id)
    assert (stored.source, stored.queue, stored.profiles) == ("Ordner/ü 🦆.jpg", AuditQueue.HIGH, ["wechat", "weibo"])
    assert (stored.state, stored.attempts, stored.finished_at) == (JobState.QUEUED, 0, None)
    assert stored.created_at.utcoffset() is not None


def test_a_finished_job_is_not_sent_again(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    finish(database, job.id, new_result(job.id))
    assert add(database, new_job("a", submission="later")) == []
    assert job_of(database, job.id).state is JobState.DONE
    assert job_of(database, job.id).submission == "later"


def test_a_failed_job_submitted_again_starts_from_the_beginning(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    fail(database, job.id)
    (again,) = add(database, new_job("a"))
    stored = job_of(database, job.id)
    assert again.id == job.id
    assert (stored.state, stored.attempts, stored.finished_at) == (JobState.QUEUED, 0, None)
    assert (stored.error_code, stored.error_message) == (None, None)
    assert (stored.retries, claim(database, job.id)) == (1, Claim(1, 2, SHA256))


def test_a_picture_refused_at_the_door_is_a_failed_job_without_a_message(database: Database, new_job: MakeJob) -> None:
    refused = new_job("a", sha256=None, bytes=0, error=ErrorRecord(code="unreadable", message="no"))
    assert add(database, refused) == []
    assert add(database, refused) == []
    with database.read() as session:
        (job,) = session.exec(select(AuditJob)).all()
        assert (job.state, job.error_code) == (JobState.FAILED, "unreadable")
        assert job.finished_at is not None
        assert session.exec(select(Picture)).all() == []


def test_each_claim_that_takes_over_counts_an_attempt(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    assert [claim(database, job.id) for _ in range(3)] == [Claim(1, 1, SHA256), Claim(2, 2, SHA256), Claim(3, 3, SHA256)]
    assert job_of(database, job.id).state is JobState.RUNNING


def test_a_job_in_another_hand_is_neither_taken_nor_counted(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    assert claim(database, job.id, lease_s=60) == Claim(1, 1, SHA256)
    held = [claim(database, job.id, lease_s=60) for _ in range(3)]
    assert all(isinstance(each, Held) and 0 < each.free_in_s <= 60 for each in held)
    stored = job_of(database, job.id)
    assert (stored.attempts, stored.fence, stored.claimed_at is not None) == (1, 1, True)


def test_a_clock_set_back_does_not_lock_a_job(database: Database, new_job: MakeJob, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = add(database, new_job("a"))
    with monkeypatch.context() as patched:
        patched.setattr("storage.jobs.now", lambda: now() + timedelta(hours=1))
        claim(database, job.id, lease_s=60)
    assert claim(database, job.id, lease_s=60) == Claim(2, 2, SHA256)


def test_two_hands_at_once_are_one_claim(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    with ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda _: claim(database, job.id, lease_s=60), range(12)))
    assert [answer for answer in answers if isinstance(answer, Claim)] == [Claim(1, 1, SHA256)]
    assert sum(isinstance(answer, Held) for answer in answers) == 11


def test_an_overtaken_worker_changes_nothing(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    claim(database, job.id)
    before = job_of(database, job.id)
    with database.write() as session:
        assert jobs.finish_job(session, job.id, [new_result(job.id)], fence=1) is False
        assert jobs.fail_job(session, job.id, OOPS, fence=1) is False
        assert jobs.release_job(session, job.id, OOPS, fence=1) is False
        jobs.give_back_job(session, job.id, fence=1)
    assert job_of(database, job.id) == before
    with database.write() as session:
        assert jobs.finish_job(session, job.id, [new_result(job.id)], fence=2) is True
    assert (job_of(database, job.id).state, job_of(database, job.id).claimed_at) == (JobState.DONE, None)


def test_a_claim_let_go_is_void_even_before_the_next(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    with database.write() as session:
        jobs.release_job(session, job.id, OOPS, fence=1)
        assert jobs.finish_job(session, job.id, [new_result(job.id)], fence=1) is False
    assert (job_of(database, job.id).state, results_of(database, job.id)) == (JobState.QUEUED, [])


def test_many_jobs_are_claimed_at_once_each_with_its_own_answer(database: Database, new_job: MakeJob) -> None:
    free, held, ended = add(database, new_job("free"), new_job("held"), new_job("ended"))
    claim(database, held.id)
    fail(database, ended.id)
    foreign = uuid.uuid4()
    ids = [ended.id, free.id, foreign, held.id, free.id]
    messages = [AuditMessage(job_id=job_id, sha256=SHA256, source="x") for job_id in ids]
    with database.write() as session:
        answers = jobs.claim_jobs(session, messages, lease_s=60)
    assert answers[:3] == [None, Claim(1, 1, SHA256), Claim(1, 1, SHA256)]
    assert all(isinstance(answer, Held) and 50 < answer.free_in_s <= 60 for answer in answers[3:])
    assert {job_of(database, job_id).state for job_id in (free.id, foreign, held.id)} == {JobState.RUNNING}


def test_many_jobs_end_at_once_but_only_those_still_held(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    ours, overtaken, ended, untouched = add(database, *(new_job(name) for name in "abcd"))
    for job in (ours, overtaken, overtaken, ended):
        claim(database, job.id)
    fail(database, ended.id)
    finished = [Finished(job.id, 1, [new_result(job.id)]) for job in (overtaken, ours, ended)]
    with database.write() as session:
        assert jobs.finish_jobs(session, [*finished, Finished(overtaken.id, 2, [])]) == [False, True, False, True]
        assert jobs.finish_jobs(session, []) == []
    assert [len(results_of(database, job.id)) for job in (ours, overtaken, ended)] == [1, 0, 0]
    done = job_of(database, ours.id)
    assert (done.state, done.claimed_at, done.finished_at is not None) == (JobState.DONE, None, True)
    assert (job_of(database, ended.id).state, job_of(database, untouched.id).state) == (JobState.FAILED, JobState.QUEUED)


def test_work_given_back_does_not_count(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    with database.write() as session:
        jobs.give_back_job(session, job.id, fence=1)
    stored = job_of(database, job.id)
    assert (stored.state, stored.attempts, stored.claimed_at) == (JobState.QUEUED, 0, None)
    assert claim(database, job.id, lease_s=60) == Claim(1, 2, SHA256)


def test_claiming_a_job_nobody_added_makes_its_row_from_the_message(database: Database) -> None:
    foreign = uuid.uuid4()
    assert [claim(database, foreign), claim(database, foreign)] == [Claim(1, 1, SHA256), Claim(2, 2, SHA256)]
    stored = job_of(database, foreign)
    assert (stored.source, stored.queue, stored.profiles) == ("x", AuditQueue.BULK, ["wechat"])
    assert (stored.sha256, stored.client_ref, stored.state) == ("ab" * 32, None, JobState.RUNNING)
    with database.read() as session:
        assert session.get_one(Picture, "ab" * 32).bytes == 0


def test_an_ended_job_cannot_be_claimed(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    done, failed = add(database, new_job("a"), new_job("b"))
    finish(database, done.id, new_result(done.id))
    fail(database, failed.id)
    assert [claim(database, done.id), claim(database, failed.id)] == [None, None]
    assert job_of(database, done.id).attempts == 0


def test_finishing_stores_all_profiles_and_ends_the_job(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    regions = [{"box": {"x0": 0, "y0": 0, "x1": 2, "y1": 2}, "score": 0.75}]
    finish(database, job.id, new_result(job.id, regions=regions), new_result(job.id, "wechat", verdict=Verdict.FLAG))
    stored = {result.profile: result for result in results_of(database, job.id)}
    assert {name: result.verdict for name, result in stored.items()} == {"none": Verdict.PASS, "wechat": Verdict.FLAG}
    assert (stored["none"].regions, stored["none"].mask_png) == (regions, b"\x89PNG\x00")
    ended = job_of(database, job.id)
    assert (ended.state, ended.error_code) == (JobState.DONE, None)
    assert ended.finished_at is not None and ended.finished_at >= ended.created_at


def test_a_second_look_is_stored_where_one_was_taken(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    unstable, stable, far = add(database, new_job("a"), new_job("b"), new_job("c"))
    finish(database, unstable.id, new_result(unstable.id, second_score=0.75, stable=False))
    finish(database, stable.id, new_result(stable.id, second_score=0.5, stable=True))
    finish(database, far.id, new_result(far.id))
    looks = [results_of(database, job.id)[0] for job in (unstable, stable, far)]
    assert [(look.second_score, look.stable) for look in looks] == [(0.75, False), (0.5, True), (None, None)]


def test_the_first_outcome_of_a_redelivered_job_stands(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    assert finish(database, job.id, new_result(job.id, score=0.1)) is True
    assert finish(database, job.id, new_result(job.id, score=0.9)) is False
    assert finish(database, job.id, new_result(job.id, model_version="m2")) is False
    assert [(result.score, result.model_version) for result in results_of(database, job.id)] == [(0.1, "m1")]


def test_result_and_end_of_job_are_one_transaction(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    with pytest.raises(ZeroDivisionError), database.write() as session:
        jobs.finish_job(session, job.id, [new_result(job.id)])
        raise ZeroDivisionError
    assert results_of(database, job.id) == []
    assert job_of(database, job.id).state is JobState.RUNNING


def test_a_job_ends_once(database: Database, new_job: MakeJob, new_result: MakeResult) -> None:
    done, failed = add(database, new_job("a"), new_job("b"))
    finish(database, done.id, new_result(done.id))
    fail(database, failed.id)
    ends = [job_of(database, done.id).finished_at, job_of(database, failed.id).finished_at]
    fail(database, done.id)
    fail(database, failed.id, ErrorRecord(code="worker_lost", message="other"))
    with database.write() as session:
        jobs.release_job(session, done.id, OOPS)
        jobs.release_job(session, failed.id, ErrorRecord(code="worker_lost", message="other"))
    assert (job_of(database, done.id).state, job_of(database, done.id).error_code) == (JobState.DONE, None)
    assert (job_of(database, failed.id).state, job_of(database, failed.id).error_code) == (JobState.FAILED, "decode_failed")
    assert [job_of(database, done.id).finished_at, job_of(database, failed.id).finished_at] == ends


def test_a_failed_job_has_no_result_even_when_a_slow_worker_brings_one(
    database: Database, new_job: MakeJob, new_result: MakeResult
) -> None:
    (job,) = add(database, new_job("a"))
    fail(database, job.id)
    assert finish(database, job.id, new_result(job.id)) is False
    assert job_of(database, job.id).state is JobState.FAILED
    assert results_of(database, job.id) == []


def test_a_released_job_waits_again_and_says_why(database: Database, new_job: MakeJob) -> None:
    (job,) = add(database, new_job("a"))
    claim(database, job.id)
    with database.write() as session:
        jobs.release_job(session, job.id, OOPS)
    stored = job_of(database, job.id)
    assert (stored.state, stored.attempts, stored.error_code) == (JobState.QUEUED, 1, "decode_failed")
    assert claim(database, job.id, lease_s=60) == Claim(2, 2, SHA256, explained=True)


def test_touched_jobs_are_fresh(database: Database, new_job: MakeJob) -> None:
    touched, other = add(database, new_job("a"), new_job("b"))
    with database.write() as session:
        jobs.touch_jobs(session, [touched.id])
    assert job_of(database, touched.id).updated_at > touched.updated_at
    assert job_of(database, other.id).updated_at == other.updated_at
