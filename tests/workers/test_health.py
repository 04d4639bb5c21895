"""Health on a clock that the tests move; a real worker's is in tests/integration/test_telemetry.py."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from celery import signals

from schemas.errors import BrokerUnavailable
from schemas.settings import BlobSettings, Settings, TelemetrySettings, WorkerSettings
from schemas.states import AuditQueue
from storage import telemetry
from storage.blobs import open_blob_store
from storage.database import Database
from workers.app import make_app
from workers.health import WorkerHealth
from workers.queue_metrics import BrokerLoad

LIMIT_S = 100.0


class Clock:
    """The monotonic clock of the modules under test."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Device:
    busy_s = 0.0

    def busy_for_s(self) -> float:
        return self.busy_s


class Writer:
    busy_s: float | None = 0.0

    def writer_busy_for_s(self) -> float | None:
        return self.busy_s


class Broker:
    """Says how many messages wait; None refuses."""

    waiting: dict[AuditQueue, int] | None = None

    def answer(self) -> BrokerLoad:
        if self.waiting is None:
            raise BrokerUnavailable("Redis does not answer")
        return BrokerLoad(dict.fromkeys(AuditQueue, 0) | self.waiting, 0)


class Parts:
    """One worker's health and all it depends on."""

    def __init__(self, health: WorkerHealth, clock: Clock) -> None:
        self.health, self.clock = health, clock
        self.device, self.writer, self.broker = Device(), Writer(), Broker()
        self.broker.waiting = {}
        health.metrics.broker = self.broker  # type: ignore[assignment]

    def start(self) -> None:
        """As after the model is loaded and the consumer has connected."""
        self.health.model, self.health.writer = self.device, self.writer
        self.health.watch.set_connected(True)

    def live(self, part: str) -> tuple[bool, str]:
        found = self.health.health.live()[1]["parts"][part]
        return found["ok"], found["words"]

    def ready(self, part: str) -> tuple[bool, str]:
        found = self.health.health.ready()[1]["parts"][part]
        return found["ok"], found["words"]

    def pass_s(self, seconds: float) -> None:
        """Time goes by, and the consumer's loop turns meanwhile."""
        self.clock.now_s += seconds
        self.health.watch.beat()


@pytest.fixture
def parts(sqlite: Database, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Parts]:
    clock = Clock()
    for module in ("workers.health", "workers.consumer_watch", "storage.telemetry"):
        monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=clock))
    monkeypatch.setattr(telemetry.ACTIVITY, "moved_at_s", clock.now_s)
    settings = Settings(telemetry=TelemetrySettings(stall_s=LIMIT_S), worker=WorkerSettings(hang_exit_s=50))
    blobs = open_blob_store(BlobSettings(directory=tmp_path / "blobs"))
    health = WorkerHealth(settings, sqlite, blobs, make_app(settings), [AuditQueue.HIGH, AuditQueue.DEFAULT])
    yield Parts(health, clock)
    health.close()


def test_a_worker_that_loads_its_model_lives_and_is_not_ready(parts: Parts) -> None:
    parts.broker.waiting = {AuditQueue.HIGH: 9}
    parts.pass_s(10 * LIMIT_S)
    live, report = parts.health.health.live()
    assert live, report
    ready, report = parts.health.health.ready()
    assert not ready
    assert {name for name, part in report["parts"].items() if not part["ok"]} == {"model", "consumer"}


def test_a_worker_with_everything_is_ready(parts: Parts) -> None:
    parts.start()
    assert parts.health.health.live()[0] and parts.health.health.ready()[0]


def test_messages_that_wait_while_nothing_is_taken_are_a_stall(parts: Parts) -> None:
    parts.start()
    parts.broker.waiting = {AuditQueue.HIGH: 3}
    assert parts.live("progress")[0]
    parts.pass_s(LIMIT_S + 1)
    assert parts.live("progress") == (False, "3 messages wait, and none was taken or ended for 101 s")
    telemetry.ACTIVITY.moved()
    assert parts.live("progress")[0], "something was taken"
    parts.pass_s(LIMIT_S + 1)
    assert not parts.live("progress")[0]
    parts.broker.waiting = {}
    assert parts.live("progress") == (True, "nothing waits")


def test_an_idle_worker_whose_first_message_comes_late_is_no_stall(parts: Parts) -> None:
    parts.start()
    parts.pass_s(100 * LIMIT_S)
    parts.broker.waiting = {AuditQueue.HIGH: 1}
    assert parts.live("progress")[0]


def test_a_queue_that_others_serve_is_no_stall(parts: Parts) -> None:
    parts.start()
    parts.broker.waiting = {AuditQueue.BULK: 99}
    assert parts.live("progress") == (True, "nothing waits")
    parts.pass_s(LIMIT_S + 1)
    assert parts.live("progress") == (True, "nothing waits")


def test_a_redis_that_is_away_takes_readiness_not_life(parts: Parts) -> None:
    parts.start()
    parts.broker.waiting = None
    parts.health.watch.set_connected(False)
    for _ in range(3):
        parts.pass_s(LIMIT_S + 1)
        live, report = parts.health.health.live()
        assert live, report
    assert parts.live("consumer") == (True, "reconnecting for 303 s")
    assert parts.ready("redis") == (False, "Redis does not answer")
    assert not parts.ready("consumer")[0]


def test_a_consumer_that_stays_away_from_a_redis_that_answers_is_not_alive(parts: Parts) -> None:
    parts.start()
    parts.health.watch.set_connected(False)
    assert parts.live("consumer")[0]
    parts.pass_s(LIMIT_S + 1)
    assert parts.live("consumer") == (False, "not connected for 101 s though Redis answers")
    parts.health.watch.set_connected(True)
    assert parts.live("consumer") == (True, "connected")


def test_a_loop_that_no_longer_turns_is_not_alive(parts: Parts) -> None:
    parts.start()
    parts.clock.now_s += LIMIT_S + 1
    assert parts.live("consumer") == (False, "the consumer's loop has not turned for 101 s")
    parts.health.watch.beat()
    assert parts.live("consumer")[0]


def test_a_hung_device_is_not_alive(parts: Parts) -> None:
    parts.start()
    parts.device.busy_s = 49.0
    assert parts.live("device")[0]
    parts.device.busy_s = 51.0
    assert parts.live("device") == (False, "the device has not answered for 51 s")


def test_a_writer_that_is_gone_or_stuck_is_not_alive(parts: Parts) -> None:
    parts.start()
    parts.writer.busy_s = None
    assert parts.live("writer") == (False, "the thread that writes outcomes has ended")
    parts.writer.busy_s = LIMIT_S + 1
    assert parts.live("writer") == (False, "one transaction has taken 101 s so far")
    parts.writer.busy_s = 1.0
    assert parts.live("writer")[0]


def test_who_was_told_to_stop_lives_and_takes_no_more(parts: Parts) -> None:
    parts.start()
    signals.worker_shutting_down.send(sender="test")
    assert parts.ready("shutdown") == (False, "told to stop")
    parts.health.watch.set_connected(False)
    parts.pass_s(LIMIT_S + 1)
    assert parts.health.health.live()[0]


def test_each_store_that_is_away_is_named(parts: Parts, tmp_path: Path) -> None:
    parts.start()
    (tmp_path / "blobs").write_text("a file where the folder was")
    assert parts.ready("sql") == (True, "answers")
    ok, words = parts.ready("blobs")
    assert not ok and "cannot use" in words


def test_each_connection_is_counted(parts: Parts) -> None:
    def connections() -> float:
        return telemetry.REGISTRY.get_sample_value("tamperwatch_consumer_connections_total") or 0.0

    before = connections()
    parts.start()
    parts.health.watch.set_connected(False)
    parts.health.watch.set_connected(True)
    assert connections() == before + 2
