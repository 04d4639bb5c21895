"""How deep the queues are and how long their pictures have waited: asked of Redis and SQL at scrape time, and not often."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from celery import Celery
from kombu.exceptions import OperationalError
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from schemas.errors import BrokerUnavailable
from schemas.states import AuditQueue
from schemas.tables import now
from storage import queries
from storage.database import Database
from storage.queries import QueueLoad
from storage.telemetry_probe import Probe


@dataclass(frozen=True)
class BrokerLoad:
    """What Redis holds.

    Attributes:
        depths: messages waiting, by queue.
        unacked: messages in the hands of workers, all together, those that wait for their next attempt included.
    """

    depths: Mapping[AuditQueue, int]
    unacked: int


def read_broker(app: Celery) -> BrokerLoad:
    """Ask Redis once, without the patience that `workers.app.queue_depths` has.

    Raises:
        BrokerUnavailable: Redis does not answer.
    """
    try:
        with app.connection_for_read() as connection:
            channel: Any = connection.channel()
            depths = {queue: int(channel.client.llen(queue.celery_name)) for queue in AuditQueue}
            return BrokerLoad(depths, int(channel.client.hlen(channel.unacked_key)))
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(f"Redis at {app.connection_for_read().as_uri()} does not answer: {error}") from error


def read_store(database: Database) -> dict[AuditQueue, QueueLoad]:
    """Ask the results store once.

    Raises:
        StoreUnavailable: it does not answer.
    """
    with database.read() as session:
        return queries.queue_loads(session)


class QueueMetrics(Collector):
    """The gauges of all queues. A store that is away costs its gauges, and `tamperwatch_up` says so; never the scrape."""

    def __init__(self, database: Database, app: Celery) -> None:
        """Nothing is asked before the first scrape."""
        self.broker = Probe("Redis", lambda: read_broker(app))
        self.store = Probe("the results store", lambda: read_store(database))

    def describe(self) -> list[GaugeMetricFamily]:
        """The families without their values, so that registering asks nobody."""
        return list(_families())

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """For the registry, at each scrape."""
        up, depth, unacked, queued, running, oldest = _families()
        broker, store = _answer(self.broker), _answer(self.store)
        up.add_metric(["redis"], broker is not None)
        up.add_metric(["sql"], store is not None)
        if broker is not None:
            unacked.add_metric([], broker.unacked)
            for queue, messages in broker.depths.items():
                depth.add_metric([queue.value], messages)
        for queue, load in (store or {}).items():
            queued.add_metric([queue.value], load.queued)
            running.add_metric([queue.value], load.running)
            oldest.add_metric([queue.value], _age_s(load.oldest))
        return iter((up, depth, unacked, queued, running, oldest))


def _families() -> tuple[GaugeMetricFamily, ...]:
    by_queue = ["queue"]
    return (
        GaugeMetricFamily("tamperwatch_up", "Whether a store answered when it was asked last", labels=["store"]),
        GaugeMetricFamily("tamperwatch_queue_messages", "Messages waiting in Redis", labels=by_queue),
        GaugeMetricFamily("tamperwatch_unacked_messages", "Messages in workers' hands, all queues and workers", labels=[]),
        GaugeMetricFamily("tamperwatch_queued_jobs", "Jobs that nobody holds, in SQL", labels=by_queue),
        GaugeMetricFamily("tamperwatch_running_jobs", "Jobs in a worker's hand, in SQL", labels=by_queue),
        GaugeMetricFamily("tamperwatch_oldest_waiting_seconds", "Age of the oldest queued job; 0 if none waits", labels=by_queue),
    )


def _answer(probe: Probe[Any]) -> Any:
    try:
        return probe.answer()
    except Exception:
        # Whatever the reason: `tamperwatch_up` tells that there is one, /readyz which.
        return None


def _age_s(oldest: datetime | None) -> float:
    return 0.0 if oldest is None else max(0.0, (now() - oldest).total_seconds())
