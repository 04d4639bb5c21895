import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlmodel import select

from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import jobs, queries
from storage.database import Database
from storage.jobs import NewJob

MakeJob = Callable[..., NewJob]
MakeResult = Callable[..., AuditResult]


@pytest.fixture
def add(database: Database, new_job: MakeJob) -> Callable[..., uuid.UUID]:
    """Add one job, and give it the stated columns."""

    def added(client_ref: str, *, columns: dict[str, object] | None = None, **new: object) -> uuid.UUID:
        with database.write() as session:
            (job,) = jobs.add_jobs(session, [new_job(client_ref, **new)])
        with database.write() as session:
            row = session.get_one(AuditJob, job.id)
            for name, value in (columns or {}).items():
                setattr(row, name, value)
        return job.id

    return added


@pytest.fixture
def finish(database: Database, new_result: MakeResult) -> Callable[..., None]:
    def finished(job_id: uuid.UUID, *profiles: str, **changes: object) -> None:
        with database.write() as session:
            jobs.finish_job(session, job_id, [new_result(job_id, profile, **changes) for profile in ("none", *profiles)])

    return finished


def ago(seconds: float) -> datetime:
    return now() - timedelta(seconds=seconds)


def test_counts_name_every_state_and_keep_submissions_apart(database: Database, add: Callable[..., uuid.UUID]) -> None:
    with database.read() as session:
        assert queries.job_counts(session) == dict.fromkeys(JobState, 0)
    add("a", submission="one")
    add("b", submission="one", columns={"state": JobState.DONE})
    add("c", submission="two", columns={"state": JobState.DONE})
    with database.read() as session:
        assert queries.job_counts(session) == {**dict.fromkeys(JobState, 0), JobState.QUEUED: 1, JobState.DONE: 2}
        assert queries.job_counts(session, "one")[JobState.DONE] == 1


def test_verdicts_are_counted_for_pictures_as_submitted(
    database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]
) -> None:
    finish(add("a"), "wechat", verdict=Verdict.FLAG)
    finish(add("b"), verdict=Verdict.PASS)
    with database.read() as session:
        assert queries.verdict_counts(session) == {Verdict.PASS: 1, Verdict.REVIEW: 0, Verdict.FLAG: 1}


def test_failures_are_counted_by_code(database: Database, add: Callable[..., uuid.UUID]) -> None:
    for name, code in (("a", "empty"), ("b", "empty"), ("c", "too_large")):
        job_id = add(name)
        with database.write() as session:
            jobs.fail_job(session, job_id, ErrorRecord(code=code, message=name))
    waiting = add("waiting")
    with database.write() as session:
        jobs.claim_job(session, AuditMessage(job_id=waiting, sha256="ab" * 32, source="x"))
        jobs.release_job(session, waiting, ErrorRecord(code="disk_full", message="not the end"))
    with database.read() as session:
        assert queries.failure_counts(session) == {"empty": 2, "too_large": 1}
        assert {job.client_ref for job in queries.failed_jobs(session)} == {"a", "b", "c"}
        assert [job.client_ref for job in queries.failed_jobs(session, limit=1)] == ["c"]


def test_the_oldest_waiting_job_is_not_an_ended_one(database: Database, add: Callable[..., uuid.UUID]) -> None:
    with database.read() as session:
        assert queries.oldest_waiting(session) is None
    at = ago(60)
    add("a", columns={"created_at": at})
    add("b")
    add("c", columns={"created_at": ago(600), "state": JobState.FAILED})
    with database.read() as session:
        assert queries.oldest_waiting(session) == at


def test_reading_results_by_cursor_never_repeats_and_never_skips(
    database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]
) -> None:
    expected, seen, cursor = [], [], 0
    for number in range(9):
        job_id = add(f"job {number}")
        finish(job_id, "wechat", "weibo")
        expected.append(job_id)
        if number % 2:  # read while others still write
            with database.read() as session:
                page = queries.read_results(session, cursor, limit=2)
            for audited in page:
                assert audited.own is not None and audited.own.id is not None
                assert set(audited.results) == {"none", "wechat", "weibo"}
                cursor = audited.own.id
            seen += [audited.job.id for audited in page]
    with database.read() as session:
        seen += [audited.job.id for audited in queries.read_results(session, cursor, limit=100)]
    assert seen == expected


def test_results_of_one_verdict(database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]) -> None:
    flagged = add("a")
    finish(flagged, "wechat", verdict=Verdict.FLAG)
    finish(add("b"), verdict=Verdict.PASS)
    with database.read() as session:
        assert [audited.job.id for audited in queries.read_results(session, 0, verdict=Verdict.FLAG)] == [flagged]
        assert queries.read_results(session, 0, verdict=Verdict.REVIEW) == []


def test_results_and_failures_of_one_source(
    database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]
) -> None:
    theirs = [add(f"theirs {number}", source_profile="wechat") for number in range(3)]
    for job_id in (add("ours"), *theirs[:2]):
        finish(job_id, "weibo")
    with database.write() as session:
        for job_id in (theirs[2], add("ours too")):
            jobs.fail_job(session, job_id, ErrorRecord(code="empty", message="0 bytes"))
    with database.read() as session:
        first = queries.read_results(session, 0, limit=1, source_profile="wechat")
        assert first[0].own is not None and set(first[0].results) == {"none", "weibo"}
        rest = queries.read_results(session, first[0].own.id or 0, source_profile="wechat")
        assert [each.job.id for each in first + rest] == theirs[:2]
        assert queries.read_results(session, 0, verdict=Verdict.FLAG, source_profile="wechat") == []
        assert [job.id for job in queries.failed_jobs(session, source_profile="wechat")] == [theirs[2]]
        assert len(queries.failed_jobs(session)) == 2


def test_the_newest_audit_of_a_picture(database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]) -> None:
    first, last = add("first"), add("last")
    finish(first, "wechat")
    finish(last)
    failed = add("failed")
    other = add("other", sha256="cd" * 32)
    with database.write() as session:
        jobs.fail_job(session, failed, ErrorRecord(code="empty", message="0 bytes"))
    with database.read() as session:
        newest = queries.newest_audit(session, "ab" * 32)
        assert newest is not None and (newest.job.id, set(newest.results)) == (last, {"none"})
        assert queries.newest_audit(session, "cd" * 32) is None
        of_first = session.exec(select(AuditResult.id).where(AuditResult.job_id == first, AuditResult.profile == "wechat")).one()
        audited = queries.audited_of_result(session, of_first or 0)
        assert audited is not None and (audited.job.id, set(audited.results)) == (first, {"none", "wechat"})
        assert queries.audited_of_result(session, 10**6) is None
        assert session.get_one(AuditJob, other).finished_at is None


def test_following_a_submission_meets_every_end_once_even_at_the_same_instant(
    database: Database, add: Callable[..., uuid.UUID], finish: Callable[..., None]
) -> None:
    same = ago(5)
    expected = {add(f"at once {number}", columns={"state": JobState.FAILED, "finished_at": same}) for number in range(5)}
    last = add("last")
    finish(last, "wechat")
    add("still running")
    add("elsewhere", submission="other", columns={"state": JobState.DONE, "finished_at": same})
    seen: list[uuid.UUID] = []
    since: tuple[datetime, uuid.UUID] | None = None
    for _ in range(3):
        with database.read() as session:
            page = queries.ended_jobs(session, "s", since, limit=2)
        seen += [audited.job.id for audited in page]
        finished_at = page[-1].job.finished_at
        assert finished_at is not None
        since = (finished_at, page[-1].job.id)
    with database.read() as session:
        assert queries.ended_jobs(session, "s", since, limit=2) == []
    assert set(seen) == expected | {last}
    assert len(seen) == 6
    assert seen[-1] == last


def test_a_failed_job_has_no_own_result(database: Database, add: Callable[..., uuid.UUID]) -> None:
    job_id = add("a")
    with database.write() as session:
        jobs.fail_job(session, job_id, ErrorRecord(code="empty", message="0 bytes"))
    with database.read() as session:
        (audited,) = queries.ended_jobs(session, "s", None)
        assert (audited.own, audited.results, audited.job.error_code) == (None, {}, "empty")


def test_a_queue_comes_back_as_an_enum(database: Database, add: Callable[..., uuid.UUID]) -> None:
    add("a", queue=AuditQueue.HIGH)
    with database.read() as session:
        assert session.exec(select(AuditJob.queue)).all() == [AuditQueue.HIGH]
