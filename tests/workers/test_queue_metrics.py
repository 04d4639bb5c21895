import uuid
from collections.abc import Iterator
from datetime import timedelta

import pytest
from celery import Celery
from prometheus_client import CollectorRegistry

from schemas.errors import BrokerUnavailable
from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.states import AuditQueue
from schemas.tables import AuditJob, now
from storage import jobs
from storage.database import Database
from storage.jobs import NewJob
from workers.app import make_app, send_audits
from workers.queue_metrics import QueueMetrics, read_broker

AWAY = "redis://:hunter2@127.0.0.1:1/0"


@pytest.fixture
def app(broker_url: str) -> Iterator[Celery]:
    made = make_app(Settings(broker_url=broker_url))
    yield made
    made.close()


def message(queue: AuditQueue, job_id: uuid.UUID | None = None) -> AuditMessage:
    return AuditMessage(job_id=job_id or uuid.uuid4(), sha256="0" * 64, source="x", queue=queue)


def scrape(metrics: QueueMetrics) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(metrics)
    return {
        (sample.name.removeprefix("tamperwatch_"), *sample.labels.values()): sample.value  # type: ignore[misc]
        for family in registry.collect()
        for sample in family.samples
    }


def add_job(database: Database, queue: AuditQueue, age: timedelta, ref: str) -> uuid.UUID:
    new = NewJob(source=ref, sha256="ab" * 32, bytes=1, client_ref=ref, submission="s", queue=queue)
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new])
        session.get_one(AuditJob, job.id).created_at = now() - age
        return job.id


def test_queues_are_counted_in_redis_and_aged_in_sql(database: Database, app: Celery) -> None:
    send_audits(app, [message(AuditQueue.HIGH), message(AuditQueue.HIGH), message(AuditQueue.BULK)])
    add_job(database, AuditQueue.HIGH, timedelta(minutes=1), "young")
    add_job(database, AuditQueue.HIGH, timedelta(hours=1), "old")
    held = add_job(database, AuditQueue.BULK, timedelta(hours=2), "held")
    with database.write() as session:
        jobs.claim_job(session, message(AuditQueue.BULK, held))
    found = scrape(QueueMetrics(database, app))
    assert (found["up", "redis"], found["up", "sql"]) == (1, 1)
    assert [found["queue_messages", queue] for queue in ("high", "default", "bulk")] == [2, 0, 1]
    assert [found["queued_jobs", queue] for queue in ("high", "default", "bulk")] == [2, 0, 0]
    assert [found["running_jobs", queue] for queue in ("high", "default", "bulk")] == [0, 0, 1]
    assert 3600 <= found["oldest_waiting_seconds", "high"] < 3700
    assert found["oldest_waiting_seconds", "bulk"] == 0, "it is in hand and waits for nobody"
    assert found[("unacked_messages",)] == 0  # type: ignore[index]


def test_messages_in_hand_are_counted(app: Celery) -> None:
    send_audits(app, [message(AuditQueue.HIGH)])
    with app.connection_for_read() as connection:
        queue = connection.SimpleQueue(AuditQueue.HIGH.celery_name)
        taken = queue.get(timeout=5)
        assert read_broker(app).unacked == 1
        taken.ack()
        queue.close()
    assert read_broker(app).unacked == 0


def test_a_store_that_is_away_costs_its_gauges_and_no_password(sqlite: Database) -> None:
    away = make_app(Settings(broker_url=AWAY))
    found = scrape(QueueMetrics(sqlite, away))
    assert (found["up", "redis"], found["up", "sql"]) == (0, 1)
    assert ("queue_messages", "high") not in found and found["queued_jobs", "high"] == 0
    with pytest.raises(BrokerUnavailable, match=r"127.0.0.1:1/0 does not answer: .*refused") as raised:
        read_broker(away)
    assert "hunter2" not in raised.value.message


def test_a_database_that_is_away_costs_its_gauges(app: Celery) -> None:
    gone = Database("postgresql+psycopg://nobody@127.0.0.1:1/nothing")
    found = scrape(QueueMetrics(gone, app))
    gone.close()
    assert (found["up", "redis"], found["up", "sql"]) == (1, 0)
    assert ("queued_jobs", "high") not in found and found["queue_messages", "high"] == 0


def test_scrapes_in_a_row_ask_once(sqlite: Database, app: Celery) -> None:
    metrics = QueueMetrics(sqlite, app)
    assert scrape(metrics)["queue_messages", "high"] == 0
    send_audits(app, [message(AuditQueue.HIGH)])
    assert scrape(metrics)["queue_messages", "high"] == 0
    assert scrape(QueueMetrics(sqlite, app))["queue_messages", "high"] == 1


def test_registering_asks_nobody(sqlite: Database) -> None:
    metrics = QueueMetrics(sqlite, make_app(Settings(broker_url=AWAY)))
    CollectorRegistry(auto_describe=True).register(metrics)
    assert metrics.broker._newest is None and metrics.broker._asking is None
