"""Finished pictures audited again by the live version: which ones, on which queue, and never twice."""

import uuid
from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlmodel import select

from schemas.states import AuditQueue, JobState, Verdict
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import jobs, reaudit
from storage.database import Database
from storage.jobs import NewJob
from storage.reaudit import Reaudit

NewResult = Callable[..., AuditResult]
REVIEW = Reaudit("live", (Verdict.REVIEW,))


@pytest.fixture
def audited(database: Database, new_job: Callable[..., NewJob], new_result: NewResult) -> Callable[..., uuid.UUID]:
    """Makes a finished job with a result by each (version, verdict, score) in turn."""

    def make(name: str, *said: tuple[str, Verdict, float]) -> uuid.UUID:
        with database.write() as session:
            (job,) = jobs.add_jobs(session, [new_job(name, queue=AuditQueue.HIGH)])
        for version, verdict, score in said:
            with database.write() as session:
                session.connection().execute(jobs.upsert_results(session.get_bind().dialect.name), [
                    new_result(job.id, model_version=version, verdict=verdict, score=score).model_dump(exclude={"id"})
                ])  # fmt: skip
        with database.write() as session:
            assert jobs.finish_job(session, job.id, [])
        return job.id

    return make


def taken(database: Database, wanted: Reaudit, batch: int = 500) -> list[uuid.UUID]:
    return [job.id for page in reaudit.requeue_finished(database, wanted, batch) for job in page]


def counted(database: Database, wanted: Reaudit) -> int:
    with database.read() as session:
        return reaudit.count_to_reaudit(session, wanted)


def test_only_what_an_earlier_version_was_unsure_of_last_is_taken(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    unsure = audited("a", ("old", Verdict.REVIEW, 0.5))
    audited("sure", ("old", Verdict.PASS, 0.1))
    audited("live was unsure", ("live", Verdict.REVIEW, 0.5))
    audited("live knows", ("old", Verdict.REVIEW, 0.5), ("live", Verdict.PASS, 0.1))
    audited("sure since", ("older", Verdict.REVIEW, 0.5), ("old", Verdict.FLAG, 0.9))
    again = audited("b", ("older", Verdict.PASS, 0.1), ("old", Verdict.REVIEW, 0.5))
    assert counted(database, REVIEW) == 2
    assert set(taken(database, REVIEW)) == {unsure, again}
    with database.read() as session:
        rows = session.exec(select(AuditJob).where(AuditJob.state == JobState.QUEUED)).all()
        results = session.exec(select(AuditResult).where(AuditResult.job_id == unsure)).all()
    assert {row.queue for row in rows} == {AuditQueue.BULK}
    assert {(row.attempts, row.retries, row.finished_at) for row in rows} == {(0, 1, None)}
    assert [result.model_version for result in results] == ["old"]  # it stays


def test_a_second_call_takes_nothing_twice(database: Database, audited: Callable[..., uuid.UUID], new_result: NewResult) -> None:
    job = audited("a", ("old", Verdict.REVIEW, 0.5))
    assert taken(database, REVIEW) == [job]
    assert taken(database, REVIEW) == []
    with database.write() as session:  # the live version is unsure too
        assert jobs.finish_job(session, job, [new_result(job, model_version="live", verdict=Verdict.REVIEW)])
    assert (counted(database, REVIEW), taken(database, REVIEW)) == (0, [])


def test_after_a_roll_back_what_the_live_version_said_before_counts(
    database: Database, audited: Callable[..., uuid.UUID]
) -> None:
    audited("a", ("live", Verdict.PASS, 0.1), ("rolled back from", Verdict.REVIEW, 0.5))
    assert taken(database, REVIEW) == []


def test_the_newest_come_first_up_to_the_limit_in_batches(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    ids = [audited(f"job {number}", ("old", Verdict.REVIEW, 0.5)) for number in range(5)]
    wanted = Reaudit("live", (Verdict.REVIEW,), limit=3)
    assert counted(database, wanted) == 3
    pages = [[job.id for job in page] for page in reaudit.requeue_finished(database, wanted, batch=2)]
    assert [len(page) for page in pages] == [2, 1]
    assert {each for page in pages for each in page} == set(ids[2:])


def test_only_what_ended_lately(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    old, new = (audited(name, ("old", Verdict.REVIEW, 0.5)) for name in ("a", "b"))
    with database.write() as session:
        session.get_one(AuditJob, old).finished_at = now() - timedelta(days=3)
    wanted = Reaudit("live", (Verdict.REVIEW,), since=now() - timedelta(days=1))
    assert taken(database, wanted) == [new]


def test_scores_near_a_threshold_of_their_own_version(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    near = audited("near", ("old", Verdict.PASS, 0.75))
    audited("far", ("old", Verdict.PASS, 0.65))
    audited("another version", ("older", Verdict.PASS, 0.75))
    also = audited("near the other", ("old", Verdict.FLAG, 0.95))
    assert set(taken(database, Reaudit("live", bands={"old": [(0.7, 0.85), (0.9, 0.96)]}))) == {near, also}
    assert taken(database, Reaudit("live")) == []


def test_pictures_that_are_not_kept_stay_as_they_are(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    job = audited("a", ("old", Verdict.REVIEW, 0.5))
    with database.write() as session:
        session.delete(session.exec(select(Picture)).one())
    assert taken(database, REVIEW) == []
    with database.read() as session:
        assert session.get_one(AuditJob, job).state is JobState.DONE


def test_the_versions_that_made_results(database: Database, audited: Callable[..., uuid.UUID]) -> None:
    audited("a", ("old", Verdict.REVIEW, 0.5), ("older", Verdict.PASS, 0.5))
    with database.read() as session:
        assert set(reaudit.versions_of_results(session, None)) == {"old", "older"}
        assert reaudit.versions_of_results(session, now() + timedelta(days=1)) == []
