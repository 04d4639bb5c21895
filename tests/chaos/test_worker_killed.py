"""kill -9 of each process in mid-run: every picture still ends with exactly one result, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from sqlmodel import Session, col, select

from cli.audit_run import AuditRun
from cli.stack import EmbeddedStack
from schemas.errors import StoreUnavailable
from schemas.settings import EngineSettings, Settings, WorkerSettings
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult
from storage import queries
from storage.database import Database
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from workers.submission import SourceFile, Submission

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
PICTURES = 60
_SLOW_ENOUGH_TO_HIT = WorkerSettings(max_batch=2)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(PICTURES):
        (folder / f"{number:02}.jpg").write_bytes(picture_bytes(number, 640, 480))
    return folder


@pytest.mark.parametrize("victim", ["worker", "redis"])
def test_a_process_killed_in_mid_run_loses_no_picture(
    tmp_path: Path, pictures: Path, victim: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The same run with shorter waits: what takes 45 s to be called lost takes 17 s here.
    monkeypatch.setattr("cli.stack._VISIBILITY_TIMEOUT_S", 11)
    settings = Settings(engine=EngineSettings(threads=1), worker=_SLOW_ENOUGH_TO_HIT)
    files = [SourceFile(path, path.name) for path in sorted(pictures.iterdir())]
    with EmbeddedStack(tmp_path / "stack", settings) as stack:
        done_at_the_kill: list[int] = []
        killer = threading.Thread(target=_kill, args=(stack, victim, done_at_the_kill))
        killer.start()
        with AuditRun(stack, Submission("chaos", max_bytes=10**6), tmp_path / "out") as run:
            records = run.finish(files)
        killer.join()
        with stack.database.read() as session:
            _assert_one_result_each(session)
    assert [(record.image, record.status) for record in records] == [(file.name, "done") for file in files]
    assert 0 < done_at_the_kill[0] < PICTURES


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_audit_and_the_next_one_goes_on(tmp_path: Path, pictures: Path, number: signal.Signals) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "cli.main", "audit", str(pictures), "--out", str(out)]
    env = os.environ | {"TAMPERWATCH_WORKER__MAX_BATCH": "2", "TAMPERWATCH_ENGINE__THREADS": "1"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as audit:
        _wait_for_some_results(out / ".tamperwatch" / "tamperwatch.db")
        family = psutil.Process(audit.pid).children(recursive=True)
        names = " ".join(word for process in family for word in process.cmdline())
        assert "redis-server" in names and "worker" in names
        audit.send_signal(number)
        audit.wait(60)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []
    if number is signal.SIGKILL:
        again = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=120)
        assert again.returncode == 0, again.stderr
        assert len((out / "results.jsonl").read_text(encoding="utf-8").splitlines()) == PICTURES
        _in_database(out / ".tamperwatch" / "tamperwatch.db", _assert_one_result_each)


def _kill(stack: EmbeddedStack, victim: str, done_at_the_kill: list[int]) -> None:
    """Wait until the run is under way, then kill -9."""

    def done() -> int:
        with stack.database.read() as session:
            return queries.job_counts(session)[JobState.DONE]

    wait_for(lambda: done() >= 5, "first results", 60)
    pid = stack.worker_pids[0] if victim == "worker" else _embedded_redis_pid()
    os.kill(pid, signal.SIGKILL)
    done_at_the_kill.append(done())


def _embedded_redis_pid() -> int:
    """The child that listens on a socket; a Redis of the test session listens on a port."""
    children = psutil.Process().children()
    (pid,) = [child.pid for child in children if any("redis.sock" in word for word in child.cmdline())]
    return pid


def _assert_one_result_each(session: Session) -> None:
    jobs = session.exec(select(AuditJob)).all()
    assert Counter(job.state for job in jobs) == {JobState.DONE: PICTURES}
    per_job = Counter(session.exec(select(AuditResult.job_id).where(col(AuditResult.profile) == "none")))
    assert per_job == {job.id: 1 for job in jobs}


def _wait_for_some_results(path: Path) -> None:
    def some_done() -> bool:
        try:
            return path.exists() and _in_database(path, lambda session: queries.job_counts(session)[JobState.DONE] >= 3)
        except StoreUnavailable:  # not migrated yet
            return False

    wait_for(some_done, "first results", 60)


def _in_database(path: Path, question: Callable[[Session], bool | None]) -> bool:
    database = Database(f"sqlite:///{path}")
    try:
        with database.read() as session:
            return bool(question(session))
    finally:
        database.close()
