"""What the dashboard shows, asked of Redis and SQL: every answer is kept for seconds, however many people look.

A store that is away, or slow, costs its own part of the picture and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from schemas.errors import BrokerUnavailable, TamperwatchError
from schemas.states import AuditQueue, Verdict
from schemas.tables import now
from storage import leases, queries, runs, stream_figures
from storage.database import Database
from storage.queries import QueueLoad
from storage.stream_figures import Ended, FailingWebhook, Failures, Newest
from storage.telemetry_probe import Probe
from workers.queue_metrics import BrokerLoad, read_broker

Value = TypeVar("Value")
_PATIENCE_S: Final = 1.0
_PING_S: Final = 0.5
_SEEN_FOR_S: Final = 10.0


@dataclass(frozen=True)
class Stream:
    """What SQL says of late."""

    endings: Sequence[Ended]
    failures: Sequence[Failures]
    newest: Newest
    webhooks: Sequence[FailingWebhook]
    trainer: str | None


@dataclass(frozen=True)
class QueueRow:
    """One queue; None is what could not be asked.

    Attributes:
        messages: that wait in Redis.
        queued, running: jobs in SQL that nobody holds, and those in a worker's hand.
        oldest_s: age of the oldest queued job; None also where none waits.
    """

    queue: AuditQueue
    messages: int | None
    queued: int | None
    running: int | None
    oldest_s: float | None


@dataclass(frozen=True)
class Look:
    """The dashboard at one moment; None where a store did not answer in time.

    Attributes:
        at: the moment.
        queues: all of them.
        unacked: messages that workers hold.
        stream: what SQL says.
        workers: names of those that answered a call just now.
        away: what could not be asked, in words.
        late: what has not answered yet, and may have at the next look.
    """

    at: datetime
    queues: Sequence[QueueRow]
    unacked: int | None
    stream: Stream | None
    workers: Sequence[str] | None
    away: Sequence[str]
    late: Sequence[str]

    @property
    def verdicts(self) -> list[tuple[Verdict, int, float]]:
        """The newest results by verdict, with shares; none without results."""
        counts: Mapping[Verdict, int] = self.stream.newest.verdicts if self.stream else {}
        total = sum(counts.values())
        return [(verdict, count, count / total) for verdict, count in counts.items()] if total else []


class Board:
    """The questions of one web process."""

    def __init__(self, database: Database, app: Celery) -> None:
        """Nothing is asked yet."""
        self._broker: Probe[BrokerLoad] = Probe("Redis", lambda: read_broker(app), patience_s=_PATIENCE_S)
        self._loads: Probe[Mapping[AuditQueue, QueueLoad]] = Probe(
            "the results store", lambda: _loads(database), patience_s=_PATIENCE_S
        )
        self._stream: Probe[Stream] = Probe("the results store", lambda: _stream(database), patience_s=_PATIENCE_S)
        self._workers: Probe[Sequence[str]] = Probe("the workers", lambda: _answering(app), _SEEN_FOR_S, 2 * _PATIENCE_S)

    def look(self) -> Look:
        """Everything that can be told now."""
        missing = _Missing([], [])
        broker, loads = missing.unless(self._broker, "Redis"), missing.unless(self._loads, "the queues in SQL")
        stream = missing.unless(self._stream, "the results store")
        # Without Redis nobody can be called.
        workers = missing.unless(self._workers, "the workers") if broker is not None else None
        rows = [_row(queue, broker, loads) for queue in AuditQueue]
        return Look(now(), rows, broker.unacked if broker else None, stream, workers, missing.away, missing.late)

    def forget(self) -> None:
        """Ask SQL anew at the next look: somebody has just changed what it says."""
        self._stream.expire()
        self._loads.expire()


@dataclass(frozen=True)
class _Missing:
    """What a look has to do without."""

    away: list[str]
    late: list[str]

    def unless(self, probe: Probe[Value], name: str) -> Value | None:
        """The answer, or else a word on why there is none. What a driver says of its connection is for the log alone."""
        try:
            return probe.answer()
        except TimeoutError:
            self.late.append(name)
        except TamperwatchError as error:
            self.away.append(f"{name}: {(type(error).__doc__ or error.code).strip().rstrip('.')}")
        return None


def _row(queue: AuditQueue, broker: BrokerLoad | None, loads: Mapping[AuditQueue, QueueLoad] | None) -> QueueRow:
    load = loads[queue] if loads is not None else None
    oldest_s = max(0.0, (now() - load.oldest).total_seconds()) if load is not None and load.oldest is not None else None
    messages = broker.depths[queue] if broker is not None else None
    return QueueRow(queue, messages, load.queued if load else None, load.running if load else None, oldest_s)


def _loads(database: Database) -> Mapping[AuditQueue, QueueLoad]:
    with database.read() as session:
        return queries.queue_loads(session)


def _stream(database: Database) -> Stream:
    with database.read() as session:
        return Stream(
            endings=stream_figures.endings(session),
            failures=stream_figures.failures(session),
            newest=stream_figures.newest_results(session),
            webhooks=stream_figures.failing_webhooks(session),
            trainer=leases.holder(session, runs.LEASE),
        )


def _answering(app: Celery) -> Sequence[str]:
    """Call all workers, and name those that answer.

    Raises:
        BrokerUnavailable: Redis does not take the call.
    """
    try:
        answers: list[dict[str, Any]] = app.control.ping(timeout=_PING_S)
    except (OperationalError, RedisError, OSError) as error:
        raise BrokerUnavailable(str(error)) from error
    return sorted(name for answer in answers for name in answer)
