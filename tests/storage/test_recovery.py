import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest

from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, now
from storage import recovery
from storage.database import Database
from storage.recovery import FailedJobs

AddJob = Callable[..., uuid.UUID]


@pytest.fixture
def add(database: Database) -> AddJob:
    """Adds a job last heard of so many seconds ago."""

    def added(age_s: float = 100, **columns: Any) -> uuid.UUID:
        at = now() - timedelta(seconds=age_s)
        job = AuditJob(**{"source": "a.jpg", "sha256": "ab" * 32, "state": JobState.QUEUED} | columns)
        job.updated_at = at
        job.finished_at = at if job.state.ended else None
        with database.write() as session:
            session.add(job)
            return job.id

    return added


def job_of(database: Database, job_id: uuid.UUID) -> AuditJob:
    with database.read() as session:
        job = session.get_one(AuditJob, job_id)
        session.expunge(job)
        return job


def retried(database: Database, wanted: FailedJobs, batch: int = 500) -> list[set[uuid.UUID]]:
    return [{job.id for job in jobs} for jobs in recovery.requeue_failed(database, wanted, batch)]


def test_dead_letters_are_what_another_try_may_mend() -> None:
    codes = recovery.dead_letter_codes()
    assert {"blob_store_unavailable", "model_timeout", "worker_lost", "disk_full", "internal_error"} <= codes
    assert not {"empty", "decode_failed", "blob_missing", "invalid_message", "invalid_input"} & codes


def test_failed_jobs_start_over_and_keep_their_count(database: Database, add: AddJob) -> None:
    job_id = add(state=JobState.FAILED, error_code="model_timeout", error_message="slow", attempts=5, fence=7, retries=1)
    assert retried(database, FailedJobs()) == [{job_id}]
    job = job_of(database, job_id)
    assert (job.state, job.attempts, job.retries, job.fence) == (JobState.QUEUED, 0, 2, 7)
    assert (job.error_code, job.error_message, job.finished_at, job.claimed_at) == (None, None, None, None)
    assert retried(database, FailedJobs()) == []


def test_only_what_was_asked_for_is_retried(database: Database, add: AddJob) -> None:
    failed: dict[str, Any] = {"state": JobState.FAILED, "submission": "one"}
    slow, lost = add(error_code="model_timeout", **failed), add(error_code="worker_lost", **failed)
    other = add(error_code="model_timeout", state=JobState.FAILED, submission="two")
    old = add(5000, error_code="model_timeout", **failed)
    broken = add(error_code="decode_failed", **failed)
    add(error_code="unreadable", sha256=None, **failed)  # refused at the door: there is nothing to send
    add(error_code="model_timeout", state=JobState.QUEUED, submission="one")  # waits for its next attempt
    with database.read() as session:
        assert recovery.count_failed(session, FailedJobs()) == {"model_timeout": 3, "worker_lost": 1}
        assert recovery.count_failed(session, FailedJobs(permanent=True)) == {
            "decode_failed": 1, "model_timeout": 3, "worker_lost": 1
        }  # fmt: skip
        assert recovery.count_failed(session, FailedJobs(codes=("decode_failed",))) == {}
    recent = now() - timedelta(seconds=1000)
    assert retried(database, FailedJobs(codes=("model_timeout",), submission="one", since=recent)) == [{slow}]
    assert retried(database, FailedJobs(submission="two")) == [{other}]
    assert retried(database, FailedJobs(codes=("decode_failed",), permanent=True)) == [{broken}]
    assert retried(database, FailedJobs()) == [{old, lost}]


def test_batches_take_each_job_once_and_end_even_when_jobs_fail_again(database: Database, add: AddJob) -> None:
    ids = {add(100 + number // 2, state=JobState.FAILED, error_code="model_failed") for number in range(5)}
    seen: list[uuid.UUID] = []
    for jobs in recovery.requeue_failed(database, FailedJobs(), batch=2):
        seen += [job.id for job in jobs]
        with database.write() as session:
            for job in jobs:
                again = session.get_one(AuditJob, job.id)
                again.state, again.error_code, again.updated_at = JobState.FAILED, "model_failed", now()
    assert len(seen) == 5 and set(seen) == ids


def test_two_retries_at_once_requeue_each_job_once(database: Database, add: AddJob) -> None:
    ids = {add(state=JobState.FAILED, error_code="model_failed") for _ in range(20)}
    with ThreadPoolExecutor(2) as threads:
        both = list(threads.map(lambda _: retried(database, FailedJobs(), batch=3), range(2)))
    taken = [job_id for batches in both for batch in batches for job_id in batch]
    assert len(taken) == 20 and set(taken) == ids
    assert {job_of(database, job_id).retries for job_id in ids} == {1}


def test_lost_jobs_are_unfinished_old_sendable_and_of_these_queues(database: Database, add: AddJob) -> None:
    with database.read() as session:
        assert recovery.any_lost(session, older_than_s=30) is False
    queued, running = add(50), add(60, state=JobState.RUNNING)
    add(50, queue=AuditQueue.BULK)
    add(10)
    add(50, state=JobState.DONE)
    add(50, state=JobState.FAILED)
    add(50, sha256=None)
    with database.write() as session:
        assert recovery.any_lost(session, older_than_s=30) is True
        assert [job.id for job in recovery.take_lost(session, [AuditQueue.DEFAULT], 30, limit=1)] == [running]
        assert [job.id for job in recovery.take_lost(session, [AuditQueue.DEFAULT, AuditQueue.HIGH], 30)] == [queued]
        assert recovery.take_lost(session, [AuditQueue.DEFAULT], 30) == []
        assert recovery.take_lost(session, [], 30) == []


def test_a_claimed_job_does_not_wait_for_its_queue_to_be_empty(database: Database, add: AddJob) -> None:
    claimed = add(50, state=JobState.RUNNING, queue=AuditQueue.BULK)
    add(50, queue=AuditQueue.BULK)
    add(10, state=JobState.RUNNING, queue=AuditQueue.BULK)
    with database.write() as session:
        assert [job.id for job in recovery.take_lost(session, [AuditQueue.DEFAULT], 30)] == [claimed]


def test_two_sweepers_take_different_jobs(database: Database, add: AddJob) -> None:
    ids = {add(50) for _ in range(20)}

    def take(_: int) -> list[uuid.UUID]:
        taken: list[uuid.UUID] = []
        while True:
            with database.write() as session:
                lost = recovery.take_lost(session, [AuditQueue.DEFAULT], 30, limit=3)
            if not lost:
                return taken
            taken += [job.id for job in lost]

    with ThreadPoolExecutor(2) as threads:
        taken = [job_id for each in threads.map(take, range(2)) for job_id in each]
    assert len(taken) == 20 and set(taken) == ids


def test_where_no_worker_is_alive_claims_are_forgotten_but_not_attempts(database: Database, add: AddJob) -> None:
    claimed = add(state=JobState.RUNNING, attempts=2, fence=3, claimed_at=now())
    done = add(state=JobState.DONE)
    with database.write() as session:
        recovery.forget_claims(session)
    job = job_of(database, claimed)
    assert (job.state, job.attempts, job.fence, job.claimed_at) == (JobState.QUEUED, 2, 3, None)
    assert job_of(database, done).state is JobState.DONE
