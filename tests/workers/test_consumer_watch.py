"""The step in Celery's consumer without a consumer; a real one's is in tests/integration/test_telemetry.py."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from celery import Celery, signals

from schemas.settings import Settings
from workers.app import make_app
from workers.consumer_watch import ConsumerWatch


class Hub:
    """An event loop that only remembers its timers."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []

    def call_repeatedly(self, every_s: float, call: Callable[[], None]) -> "Timer":
        self.timers.append(Timer(every_s, call))
        return self.timers[-1]


class Timer:
    def __init__(self, every_s: float, call: Callable[[], None]) -> None:
        self.every_s, self.call, self.cancelled = every_s, call, False

    def cancel(self) -> None:
        self.cancelled = True


@pytest.fixture
def app() -> Celery:
    return make_app(Settings())


@pytest.fixture
def watch(app: Celery) -> Iterator[ConsumerWatch]:
    made = ConsumerWatch(app)
    yield made
    made.close()


@pytest.fixture
def step(app: Celery, watch: ConsumerWatch) -> Any:
    """The step as Celery makes it."""
    assert not watch.connected
    (kind,) = app.steps["consumer"]
    return kind(None)


def test_it_follows_the_consumer(watch: ConsumerWatch, step: Any) -> None:
    step.start(None)
    assert watch.connected
    step.stop(None)
    assert not watch.connected


def test_the_loop_beats_with_one_timer_however_often_it_starts(watch: ConsumerWatch, step: Any) -> None:
    hub = Hub()
    step.start(None)
    for _ in range(3):
        step.register_with_event_loop(None, hub)
    assert [timer.cancelled for timer in hub.timers] == [True, True, False]
    watch._beat_at_s -= 50
    assert watch.silent_for_s() >= 50
    hub.timers[-1].call()
    assert watch.silent_for_s() < 50


def test_silence_counts_only_while_connected(watch: ConsumerWatch, step: Any) -> None:
    watch._beat_at_s -= 50
    assert watch.silent_for_s() == 0
    step.start(None)
    assert watch.silent_for_s() < 50, "a new connection begins with a beat"


def test_after_close_nothing_is_heard(app: Celery) -> None:
    watch = ConsumerWatch(app)
    watch.close()
    signals.worker_shutting_down.send(sender="test")
    assert not watch.stopping
