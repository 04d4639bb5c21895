"""What Celery's consumer is doing, seen from inside: connected or not, and whether its loop still turns."""

import threading
import time
from typing import Any

from celery import Celery, bootsteps, signals

from storage import telemetry

_BEAT_S = 1.0


class ConsumerWatch:
    """Written by the consumer, read by health checks. All times are on the monotonic clock."""

    def __init__(self, app: Celery) -> None:
        """Hook into the worker that `app` will run. Nothing is connected yet."""
        self._gate = threading.Lock()
        self._connected = False
        self._changed_at_s = self._beat_at_s = time.monotonic()
        self.stopping = False
        app.steps["consumer"].add(_step(self))
        signals.worker_shutting_down.connect(self._stopping, weak=False)

    @property
    def connected(self) -> bool:
        return self._connected

    def unchanged_for_s(self) -> float:
        """Since when it is connected, or is not."""
        return time.monotonic() - self._changed_at_s

    def silent_for_s(self) -> float:
        """How long the loop of a connected consumer has not turned; 0 while it is not connected."""
        with self._gate:
            return time.monotonic() - self._beat_at_s if self._connected else 0.0

    def close(self) -> None:
        """Hear of signals no more."""
        signals.worker_shutting_down.disconnect(self._stopping)

    def set_connected(self, connected: bool) -> None:
        """The consumer has connected to Redis, or has lost it."""
        with self._gate:
            self._connected = connected
            self._changed_at_s = self._beat_at_s = time.monotonic()
        if connected:
            telemetry.CONNECTIONS.inc()

    def beat(self) -> None:
        """The loop has turned."""
        self._beat_at_s = time.monotonic()

    def _stopping(self, **_: Any) -> None:
        self.stopping = True


def _step(watch: ConsumerWatch) -> type[Any]:
    """A step of Celery's consumer: started each time it has connected and subscribed, stopped each time it loses that."""

    class Watch(bootsteps.StartStopStep):  # type: ignore[misc]
        """Started after the subscription to the queues, and so stopped with it."""

        requires = ("celery.worker.consumer.tasks:Tasks",)

        def __init__(self, parent: Any, **options: Any) -> None:
            super().__init__(parent, **options)
            self._timer: Any = None

        def start(self, parent: Any) -> None:  # noqa: ARG002
            watch.set_connected(True)

        def stop(self, parent: Any) -> None:  # noqa: ARG002
            watch.set_connected(False)

        def register_with_event_loop(self, parent: Any, hub: Any) -> None:  # noqa: ARG002
            if self._timer is not None:
                self._timer.cancel()
            self._timer = hub.call_repeatedly(_BEAT_S, watch.beat)

    return Watch
