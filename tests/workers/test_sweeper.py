import functools
import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from sqlmodel import Session

from schemas.errors import BrokerUnavailable
from schemas.settings import Settings
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, now
from storage import recovery
from storage.database import Database
from storage.recovery import FailedJobs
from tests.local_servers import free_ports
from tests.waiting import wait_for
from workers.app import make_app, queue_depths, send_audits
from workers.sweeper import Sweeper, message_of, retry_failed, sweep

AddJob = Callable[..., AuditJob]


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    made = make_app(Settings(broker_url=broker_url))
    yield made
    made.close()


@pytest.fixture
def add(sqlite: Database) -> AddJob:
    """Adds a job last heard of so many seconds ago."""

    def added(
        age_s: float, state: JobState = JobState.QUEUED, queue: AuditQueue = AuditQueue.DEFAULT, code: str | None = None
    ) -> AuditJob:
        job = AuditJob(source="a.jpg", sha256="ab" * 32, queue=queue, state=state, profiles=["wechat"], error_code=code)
        job.updated_at = now() - timedelta(seconds=age_s)
        with sqlite.write() as session:
            session.add(job)
            session.flush()
            session.refresh(job)
            session.expunge(job)
        return job

    return added


@pytest.mark.slow
def test_lost_messages_are_sent_again_once(sqlite: Database, app: Celery, add: AddJob) -> None:
    add(100)
    add(100, JobState.RUNNING)
    add(100, queue=AuditQueue.HIGH)
    add(10)
    add(100, JobState.DONE)
    add(100, JobState.FAILED)
    assert sweep(sqlite, app, older_than_s=60) == 3
    assert queue_depths(app) == {AuditQueue.HIGH: 1, AuditQueue.DEFAULT: 2, AuditQueue.BULK: 0}
    # What was sent is fresh again: the next sweep leaves it alone even where a worker has emptied the queue since.
    with app.connection_for_write() as connection:
        connection.default_channel.client.flushdb()
    assert sweep(sqlite, app, older_than_s=60) == 0


@pytest.mark.slow
def test_behind_a_queue_nothing_is_lost(sqlite: Database, app: Celery, add: AddJob) -> None:
    waiting = add(100)
    add(100, queue=AuditQueue.BULK)
    send_audits(app, [message_of(waiting)])
    assert sweep(sqlite, app, older_than_s=60) == 1
    assert queue_depths(app) == {AuditQueue.HIGH: 0, AuditQueue.DEFAULT: 1, AuditQueue.BULK: 1}


def test_with_nothing_stale_redis_is_not_asked(sqlite: Database, add: AddJob) -> None:
    add(10)
    assert sweep(sqlite, make_app(Settings(broker_url="redis://127.0.0.1:1/0")), older_than_s=60) == 0


@pytest.mark.slow
def test_a_sweep_without_redis_changes_nothing(sqlite: Database, add: AddJob) -> None:
    job = add(100)
    app = make_app(Settings(broker_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0"))
    with pytest.raises(BrokerUnavailable):
        sweep(sqlite, app, older_than_s=60)
    with sqlite.read() as session:
        assert session.get_one(AuditJob, job.id).updated_at == job.updated_at
    app.close()


def test_the_message_says_what_the_job_says(add: AddJob) -> None:
    job = add(0, queue=AuditQueue.BULK)
    message = message_of(job)
    assert (message.job_id, message.sha256, message.source) == (job.id, "ab" * 32, "a.jpg")
    assert (message.queue, message.profiles) == (AuditQueue.BULK, ("wechat",))


def test_a_job_without_bytes_has_no_message() -> None:
    with pytest.raises(ValueError, match="nothing to send"):
        message_of(AuditJob(id=uuid.uuid4(), source="x", sha256=None))


@pytest.mark.slow
def test_lost_messages_of_any_number_are_sent_in_one_sweep(
    sqlite: Database, app: Celery, add: AddJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.sweeper.recovery.take_lost", functools.partial(recovery.take_lost, limit=2))
    for _ in range(5):
        add(100)
    assert sweep(sqlite, app, older_than_s=60) == 5
    assert queue_depths(app)[AuditQueue.DEFAULT] == 5


@pytest.mark.slow
def test_a_sweep_that_takes_long_sends_no_job_twice(
    sqlite: Database, app: Celery, add: AddJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(100)
    take, sent_at = recovery.take_lost, []

    def slowly(session: Session, *given: Any, **named: Any) -> list[AuditJob]:
        """The batch before was sent longer ago than a message may be under way."""
        if sent_at:
            wait_for(lambda: now() - sent_at[0] > timedelta(seconds=0.1), "time to pass")
        lost = take(session, *given, **named)
        assert not (lost and sent_at), "sent again in the same sweep"
        sent_at.append(now())
        return lost

    monkeypatch.setattr("workers.sweeper.recovery.take_lost", slowly)
    assert sweep(sqlite, app, older_than_s=0.05) == 1
    assert queue_depths(app)[AuditQueue.DEFAULT] == 1


@pytest.mark.slow
def test_failed_jobs_are_put_back_on_their_queues(sqlite: Database, app: Celery, add: AddJob) -> None:
    for code, queue in (("model_timeout", AuditQueue.HIGH), ("model_failed", AuditQueue.BULK), ("empty", AuditQueue.BULK)):
        add(100, JobState.FAILED, queue, code)
    assert sum(retry_failed(sqlite, app, FailedJobs())) == 2
    assert queue_depths(app) == {AuditQueue.HIGH: 1, AuditQueue.DEFAULT: 0, AuditQueue.BULK: 1}
    assert sum(retry_failed(sqlite, app, FailedJobs())) == 0


@pytest.mark.slow
def test_a_defect_does_not_end_the_sweeping(
    sqlite: Database, app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(*_: object) -> int:
        raise KeyError("oops")

    monkeypatch.setattr("workers.sweeper.sweep", broken)
    sweeper = Sweeper(sqlite, app, visibility_timeout_s=0.05)
    try:
        wait_for(lambda: caplog.text.count("KeyError: 'oops'") >= 2, "second try")
    finally:
        sweeper.close()


@pytest.mark.slow
def test_a_worker_sweeps_as_long_as_it_runs(sqlite: Database, app: Celery, add: AddJob) -> None:
    sweeper = Sweeper(sqlite, app, visibility_timeout_s=0.1)
    try:
        job = add(100)
        wait_for(lambda: queue_depths(app)[job.queue] == 1, "message of the lost job")
    finally:
        sweeper.close()


@pytest.mark.slow
def test_sweeping_survives_a_redis_that_is_away(sqlite: Database, add: AddJob, caplog: pytest.LogCaptureFixture) -> None:
    away = make_app(Settings(broker_url=f"redis://127.0.0.1:{free_ports(1)[0]}/0"))
    add(100)
    sweeper = Sweeper(sqlite, away, visibility_timeout_s=0.05)
    try:
        wait_for(lambda: caplog.text.count("no sweep this time") >= 2, "second try")
    finally:
        sweeper.close()
        away.close()
