"""Who begins a run, and who is called for it: decided from SQL at every look."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from scheduler.app import RETRAIN_QUEUE, make_trainer_app, messages_waiting, ring
from scheduler.beat import Looked, Timetable, begin_by_hand
from schemas.errors import BrokerUnavailable
from schemas.learning_tables import RetrainRun
from schemas.retrain_settings import ScheduleSettings
from schemas.settings import Settings
from schemas.states import RetrainTrigger
from storage import leases, runs, telemetry_runs
from storage.database import Database
from tests.local_servers import free_ports
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
DAY = timedelta(days=1)


@pytest.fixture
def bell(broker_url: str) -> Iterator[Celery]:
    app = make_trainer_app(Settings(broker_url=broker_url))
    yield app
    app.close()


def night(days: int = 0) -> datetime:
    """Two at night, so many days from today: rows bear the true time."""
    today = datetime.now(UTC).replace(hour=2, minute=0, second=1, microsecond=0)
    return today + DAY * (days + 1)


def look(database: Database, bell: Celery, at: datetime, **changes: object) -> Looked:
    settings = ScheduleSettings.model_validate({"least_gap_minutes": 0} | changes)
    return Timetable(database, bell, settings, lambda: at).look()


def all_runs(database: Database) -> list[RetrainRun]:
    with database.read() as session:
        found = runs.listed(session)
        session.expunge_all()
    return found


def test_a_night_begins_one_run_and_calls_one_trainer(database: Database, bell: Celery) -> None:
    assert look(database, bell, night() - timedelta(hours=3)) == Looked()
    first = look(database, bell, night())
    assert first.begun is not None and first.rung
    again = look(database, bell, night() + timedelta(minutes=1))
    assert (again.begun, again.rung, messages_waiting(bell)) == (None, False, 1)
    (run,) = all_runs(database)
    assert (run.trigger, "waits for a trainer" in run.message) == (RetrainTrigger.SCHEDULE, True)


def test_two_beats_at_once_begin_one_run(database: Database, bell: Celery) -> None:
    with ThreadPoolExecutor(3) as pool:
        looks = list(pool.map(lambda _: look(database, bell, night()), range(3)))
    assert sum(each.begun is not None for each in looks) == 1
    assert len(all_runs(database)) == 1


def test_a_run_whose_message_or_trainer_was_lost_is_rung_for_again(database: Database, bell: Celery) -> None:
    look(database, bell, night())
    with Redis.from_url(bell.conf.broker_url) as client:
        client.flushdb()
    assert look(database, bell, night()).rung
    with Redis.from_url(bell.conf.broker_url) as client:
        client.flushdb()
    with database.write() as session:
        held = leases.acquire(session, runs.LEASE, "trainer", 60.0)
    assert not look(database, bell, night()).rung
    assert held is not None
    with database.write() as session:
        leases.release(session, held)
    assert look(database, bell, night()).rung


def test_a_run_is_kept_while_redis_is_away(database: Database) -> None:
    (port,) = free_ports(1)
    bell = make_trainer_app(Settings(broker_url=f"redis://127.0.0.1:{port}/0"))
    with pytest.raises(BrokerUnavailable, match="waits in the store"):
        look(database, bell, night())
    assert len(all_runs(database)) == 1
    Timetable(database, bell, ScheduleSettings(), night).look_safely()  # a look that fails is no end
    bell.close()


def test_missed_nights_are_counted_once_and_caught_up_on(
    database: Database, bell: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    look(database, bell, night())
    with database.write() as session:
        runs.cancel(session, all_runs(database)[0].id)
    before = telemetry_runs.MISSED._value.get()
    settings = ScheduleSettings(least_gap_minutes=0)
    timetable = Timetable(database, bell, settings, lambda: night(3) + timedelta(hours=7))
    found = timetable.look()
    assert found.begun is not None and len(found.missed) >= 3
    timetable.look()
    assert telemetry_runs.MISSED._value.get() - before == len(found.missed)
    assert [record.message for record in caplog.records if "nights missed" in record.message] == caplog.messages[:1]
    assert "caught up on" in all_runs(database)[0].message


def test_a_person_begins_a_run_at_any_time_but_no_second_one(database: Database, bell: Celery) -> None:
    run_id, is_new = begin_by_hand(database, bell)
    assert is_new and messages_waiting(bell) == 1
    assert begin_by_hand(database, bell) == (run_id, False)
    assert messages_waiting(bell) == 1


def test_the_trainers_names_in_redis_are_its_own(bell: Celery) -> None:
    assert ring(bell, all_zero := runs.uuid.UUID(int=0))
    assert not ring(bell, all_zero)
    with Redis.from_url(bell.conf.broker_url) as client:
        names = [name.decode() for name in client.scan_iter()]
    assert f"tamperwatch-trainer:{RETRAIN_QUEUE}" in names
    assert all(name.startswith("tamperwatch-trainer:") for name in names)


def test_the_beat_process_looks_at_once_and_ends_when_told(sqlite: Database, broker_url: str, tmp_path: Path) -> None:
    """Started at its hour it begins a run by itself; its minutes are Celery's and its memory is SQL."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {
        "PYTHONPATH": str(ROOT),
        "TAMPERWATCH_DATABASE_URL": sqlite.url,
        "TAMPERWATCH_BROKER_URL": broker_url,
        "TAMPERWATCH_BLOBS__DIRECTORY": str(tmp_path / "blobs"),
        "TAMPERWATCH_SCHEDULE__TIME": f"{datetime.now(UTC):%H:%M}",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "cli.main", "beat"], env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    try:
        wait_for(lambda: all_runs(sqlite), "run that the beat began", 60)
        with Redis.from_url(broker_url) as client:
            wait_for(lambda: client.llen(f"tamperwatch-trainer:{RETRAIN_QUEUE}"), "message", 30)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, said
    assert "the night of" in said
    assert not list(tmp_path.glob("celerybeat*"))
