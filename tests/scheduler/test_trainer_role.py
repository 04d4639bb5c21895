"""The trainer and the process that carries a run on: whoever dies or is told to stop, the run is there for the next one."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from scheduler import trainer_role
from scheduler.app import make_trainer_app, messages_waiting
from scheduler.night_process import STOPPED
from scheduler.trainer_role import NightProcess, call_for_waiting, run_once
from schemas.settings import Settings
from schemas.states import RetrainState, RetrainTrigger
from storage import leases, runs
from storage.database import Database
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
# Says that it is there, and its name in the lease, then works until it is told to stop.
OBEDIENT = """
import signal, sys, threading
from pathlib import Path
told = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: told.set())
Path(sys.argv[1]).write_text(sys.argv[2])
told.wait()
sys.exit(75)
"""
# As the real one begins: it ends with its parent.
ORPHAN = """
import subprocess, sys
from scheduler import night_process, trainer_role
from schemas.settings import Settings
child = "import sys, threading; from scheduler import night_process as n; threading.Thread(target=n._end_with_parent).start();"
child += "print('there', flush=True)"
trainer_role.NightProcess(Settings(), [sys.executable, "-c", child]).run()
"""


def process_of(code: str, *arguments: str) -> NightProcess:
    return NightProcess(Settings(), [sys.executable, "-c", code, *arguments])


def begin(database: Database) -> None:
    with database.write() as session:
        runs.begin(session, RetrainTrigger.MANUAL)


def test_a_process_that_is_told_to_stop_is_waited_for(tmp_path: Path) -> None:
    process = process_of(OBEDIENT, str(tmp_path / "there"))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(process.run)
        wait_for((tmp_path / "there").exists, "start", 60)
        process.stop()
        assert ended.result(timeout=60) == STOPPED
    # Whoever is told to stop before it starts one does so as well.
    assert process.run() in (STOPPED, -signal.SIGTERM)


def test_one_that_does_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer_role, "_STOP_S", 0.2)
    deaf = "import signal, sys, pathlib; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    deaf += "pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    process = process_of(deaf, str(tmp_path / "there"))
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(process.run)
        wait_for((tmp_path / "there").exists, "start", 60)
        process.stop()
        assert ended.result(timeout=60) == -signal.SIGKILL


def test_a_killed_trainer_takes_its_process_with_it() -> None:
    with subprocess.Popen([sys.executable, "-c", ORPHAN], cwd=ROOT, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "there\n"
        (child,) = psutil.Process(trainer.pid).children()
        os.kill(trainer.pid, signal.SIGKILL)
        wait_for(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, "end of the child", 30)


def test_nothing_is_started_where_nothing_waits_or_another_is_at_it(sqlite: Database) -> None:
    process = process_of("raise AssertionError")
    started: list[int] = []
    process.run = lambda: started.append(1) or 0  # type: ignore[method-assign,func-returns-value]
    run_once(sqlite, process)
    begin(sqlite)
    with sqlite.write() as session:
        held = leases.acquire(session, runs.LEASE, "another", 60.0)
    run_once(sqlite, process)
    assert started == []
    assert held is not None
    with sqlite.write() as session:
        leases.release(session, held)
    run_once(sqlite, process)
    assert started == [1]


def test_a_trainer_that_starts_calls_itself_for_what_waits(sqlite: Database, broker_url: str) -> None:
    app = make_trainer_app(Settings(broker_url=broker_url))
    assert not call_for_waiting(sqlite, app)
    begin(sqlite)
    assert call_for_waiting(sqlite, app)
    assert (messages_waiting(app), call_for_waiting(sqlite, app)) == (1, False)
    app.close()


def test_the_whole_process_with_nothing_to_learn(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real one, on a store without a model: it fails with words, and that is written down."""
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TAMPERWATCH_DATABASE_URL", sqlite.url)
    monkeypatch.setenv("TAMPERWATCH_BLOBS__DIRECTORY", str(tmp_path / "blobs"))
    begin(sqlite)
    run_once(sqlite, NightProcess(Settings()))
    with sqlite.read() as session:
        (run,) = runs.listed(session)
        assert (run.state, run.error_code) == (RetrainState.FAILED, "invalid_input")
        assert "no model is live" in run.reason
        assert leases.holder(session, runs.LEASE) is None
    assert not [thread for thread in threading.enumerate() if thread.name == "night-stop"]
