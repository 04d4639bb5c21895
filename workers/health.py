"""What "alive" and "ready" mean for an audit worker.

Alive: its consumer turns, its device and its writer answer, and it takes messages where messages wait. Nothing of that asks
whether Redis or SQL are well: a worker that waits for them must not be started again and again meanwhile.
Ready: it has a model, every store answers, its consumer is subscribed and nobody has told it to stop.
"""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from celery import Celery

from schemas.settings import Settings
from schemas.states import AuditQueue
from storage import telemetry
from storage.blobs import BlobStore
from storage.database import Database
from storage.telemetry_health import Health, store_checks
from workers.consumer_watch import ConsumerWatch
from workers.queue_metrics import QueueMetrics


class Model(Protocol):
    """What is asked of the model's runtime."""

    def busy_for_s(self) -> float: ...


class Writer(Protocol):
    """What is asked of the pipeline."""

    def writer_busy_for_s(self) -> float | None:
        """How long the transaction now running has taken; None if the writer's thread is gone."""
        ...


class NotWell(Exception):
    """A check's reason to say no; never leaves the checks, so it is none of the errors with a code."""


class WorkerHealth:
    """The checks of one worker. Its model and its pipeline are told when they are there."""

    def __init__(
        self, settings: Settings, database: Database, blobs: BlobStore, app: Celery, queues: Sequence[AuditQueue]
    ) -> None:
        """Nothing is asked yet.

        Args:
            settings: time limits.
            database, blobs, app: the worker's own.
            queues: those it serves.
        """
        self.model: Model | None = None
        self.writer: Writer | None = None
        self.metrics = QueueMetrics(database, app)
        self.watch = ConsumerWatch(app)
        self._settings = settings
        self._queues = tuple(queues)
        self._stall = _StallWatch(settings.telemetry.stall_s, self._waiting)
        self.health = Health(
            "worker",
            live={"consumer": self._consumer, "progress": self._progress, "device": self._device, "writer": self._writing},
            ready={
                "model": self._model,
                "consumer": self._subscribed,
                "redis": self._redis,
                **store_checks(database, blobs),
                "shutdown": self._staying,
            },
        )

    def close(self) -> None:
        """Hear of signals no more."""
        self.watch.close()

    def _consumer(self) -> str:
        limit_s, watch = self._settings.telemetry.stall_s, self.watch
        if watch.silent_for_s() > limit_s:
            raise NotWell(f"the consumer's loop has not turned for {watch.silent_for_s():.0f} s")
        if watch.connected:
            return "connected"
        if self.model is None:
            return "not started yet"
        if not watch.stopping and watch.unchanged_for_s() > limit_s and self._redis_answers():
            raise NotWell(f"not connected for {watch.unchanged_for_s():.0f} s though Redis answers")
        return f"reconnecting for {watch.unchanged_for_s():.0f} s"

    def _progress(self) -> str:
        if not self.watch.connected:
            self._stall.forget()
            return "not consuming"
        return self._stall.check()

    def _device(self) -> str:
        busy_s = self.model.busy_for_s() if self.model else 0.0
        if busy_s > self._settings.worker.hang_exit_s:
            raise NotWell(f"the device has not answered for {busy_s:.0f} s")
        return "answers" if self.model else "loading"

    def _writing(self) -> str:
        if self.writer is None:
            return "not started yet"
        busy_s = self.writer.writer_busy_for_s()
        if busy_s is None:
            raise NotWell("the thread that writes outcomes has ended")
        if busy_s > self._settings.telemetry.stall_s:
            raise NotWell(f"one transaction has taken {busy_s:.0f} s so far")
        return "alive"

    def _model(self) -> str:
        if self.model is None:
            raise NotWell("the model is being loaded")
        return "loaded and warm"

    def _subscribed(self) -> str:
        if not self.watch.connected:
            raise NotWell("not subscribed to its queues")
        return "subscribed"

    def _redis(self) -> str:
        waiting = sum(self.metrics.broker.answer().depths.values())
        return f"answers; {waiting} messages wait"

    def _staying(self) -> str:
        if self.watch.stopping:
            raise NotWell("told to stop")
        return "not asked for"

    def _redis_answers(self) -> bool:
        return self._waiting() is not None

    def _waiting(self) -> int | None:
        try:
            depths = self.metrics.broker.answer().depths
        except Exception:
            # Of no matter here why: whoever asks needs to know that nothing is known.
            return None
        return sum(depths[queue] for queue in self._queues)


class _StallWatch:
    """Tells a worker that has nothing to do from one that does nothing."""

    def __init__(self, limit_s: float, waiting: Callable[[], int | None]) -> None:
        self._limit_s = limit_s
        self._waiting = waiting
        self._waiting_since_s: float | None = None

    def forget(self) -> None:
        """What waits is not ours to take at this time."""
        self._waiting_since_s = None

    def check(self) -> str:
        """Messages that wait at one look after another, while nothing was taken or ended, are a stall."""
        waiting = self._waiting()
        at_s = time.monotonic()
        if not waiting:
            self._waiting_since_s = None
            return "nothing waits" if waiting == 0 else "unknown: Redis does not answer"
        if self._waiting_since_s is None:
            self._waiting_since_s = at_s
        idle_s = at_s - max(self._waiting_since_s, telemetry.ACTIVITY.moved_at_s)
        if idle_s > self._limit_s:
            raise NotWell(f"{waiting} messages wait, and none was taken or ended for {idle_s:.0f} s")
        return f"{waiting} messages wait; the last was taken or ended {idle_s:.0f} s ago"
