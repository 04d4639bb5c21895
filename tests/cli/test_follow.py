"""`results --follow`: in this process with a store that goes away, and as a process that gets a Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from cli import follow as following
from cli import patience
from cli.follow import Wanted, follow, line_of
from schemas.errors import StoreUnavailable
from schemas.records import AuditRecord
from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import jobs
from storage.database import Database
from storage.jobs import NewJob
from tests.cli.conftest import Tamperwatch
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]


def store(database: Database, name: str, verdict: Verdict = Verdict.FLAG, source_profile: str | None = None) -> None:
    job_facts = {"client_ref": uuid.uuid4().hex, "submission": "s", "source_profile": source_profile}
    new = NewJob(source=name, sha256=None, bytes=0, **job_facts)
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new])
        session.add(
            AuditResult(
                job_id=job.id, model_version="m", score=0.75, verdict=verdict, area=0.5, mask_png=b"x", width_px=6, height_px=4,
                latency_ms=1.0,
            )
        )  # fmt: skip
        session.flush()


class Follower:
    """A follower in a thread: what it has shown, and its cursor when it was stopped."""

    def __init__(
        self, database: Database, since: int | None = 0, verdict: Verdict | None = None, source_profile: str | None = None
    ) -> None:
        self.shown: list[str] = []
        self._stop = threading.Event()
        self._thread = ThreadPoolExecutor(1)
        self._cursor: Future[int] = self._thread.submit(
            follow, database, since, Wanted(verdict, source_profile), self._show, self._stop.is_set
        )

    def _show(self, record: AuditRecord) -> None:
        self.shown.append(record.image)

    def wait_until_shown(self, *names: str) -> None:
        wait_for(lambda: self.shown == list(names) or self._cursor.done(), f"{names} shown, only {self.shown}")
        assert self.shown == list(names)

    def stop(self) -> int:
        self._stop.set()
        self._thread.shutdown()
        return self._cursor.result()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.01)
    monkeypatch.setattr(patience, "_FIRST_PAUSE_S", 0.01)


@pytest.fixture
def start(quick: None) -> Iterator[Callable[..., Follower]]:  # noqa: ARG001
    started: list[Follower] = []

    def begin(*arguments: object) -> Follower:
        started.append(Follower(*arguments))  # type: ignore[arg-type]
        return started[-1]

    yield begin
    for follower in started:
        follower.stop()


def test_what_comes_in_is_shown_once_and_in_order(database: Database, start: Callable[..., Follower]) -> None:
    store(database, "a")
    follower = start(database, 0)
    follower.wait_until_shown("a")
    store(database, "b")
    store(database, "c")
    follower.wait_until_shown("a", "b", "c")
    cursor = follower.stop()
    store(database, "d")
    again = start(database, cursor)
    again.wait_until_shown("d")


def test_one_verdict(sqlite: Database, start: Callable[..., Follower]) -> None:
    follower = start(sqlite, 0, Verdict.PASS)
    store(sqlite, "a")
    store(sqlite, "b", Verdict.PASS)
    follower.wait_until_shown("b")


def test_one_source(sqlite: Database, start: Callable[..., Follower]) -> None:
    follower = start(sqlite, 0, None, "wechat")
    store(sqlite, "a", source_profile="weibo")
    store(sqlite, "b", source_profile="wechat")
    follower.wait_until_shown("b")


def test_without_a_cursor_it_begins_now(
    sqlite: Database, start: Callable[..., Follower], monkeypatch: pytest.MonkeyPatch
) -> None:
    store(sqlite, "before")
    begun = threading.Event()
    newest = following._newest

    def noted(database: Database) -> int:
        try:
            return newest(database)
        finally:
            begun.set()

    monkeypatch.setattr(following, "_newest", noted)
    follower = start(sqlite, None)
    assert begun.wait(10)
    store(sqlite, "after")
    follower.wait_until_shown("after")


@pytest.mark.slow
def test_a_database_that_goes_away_and_comes_back(
    migrated_postgres_url: str, postgres_url: str, start: Callable[..., Follower], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its connections are cut and new ones refused, as during a restart."""
    database, other = Database(migrated_postgres_url), Database(migrated_postgres_url)
    name = migrated_postgres_url.rpartition("/")[2]
    server = create_engine(postgres_url, isolation_level="AUTOCOMMIT")
    said: list[str] = []

    def waiting() -> bool:
        said.append(capsys.readouterr().err)
        return "waiting" in "".join(said)

    store(database, "a")
    follower = start(database, 0)
    follower.wait_until_shown("a")
    with server.connect() as admin:
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false"))
        admin.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = :name"), {"name": name})
        wait_for(waiting, "word about the wait")
        admin.execute(text(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true"))
    store(other, "b")
    follower.wait_until_shown("a", "b")
    follower.stop()
    assert "answers again" in "".join(said) + capsys.readouterr().err
    for each in (database, other):
        each.close()
    server.dispose()


def test_a_store_that_stays_away_is_given_up(quick: None) -> None:  # noqa: ARG001
    def read() -> int:
        raise StoreUnavailable("gone")

    with pytest.raises(StoreUnavailable, match="gone"):
        patience.read_patiently(read, lambda: False, give_up_s=0.05)
    assert patience.read_patiently(read, iter([False, False, True, True]).__next__) is None


def test_a_line_shows_a_name_without_its_escapes() -> None:
    record = AuditRecord(image="\x1b[31m.jpg", status="done", score=0.5, verdict=Verdict.REVIEW, area=0.125)
    assert line_of(record).plain == "review  0.50   12.5%  \N{REPLACEMENT CHARACTER}[31m.jpg"


def test_failures_cannot_be_followed(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("results", "--follow", "--failed")
    assert (ran.code, "Use one of" in " ".join(ran.err.split())) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.usefixtures("as_in_a_terminal")
def test_ctrl_c_ends_it_with_the_cursor(sqlite: Database, number: signal.Signals) -> None:
    store(sqlite, "a.jpg")
    argv = [sys.executable, "-m", "cli.main", "results", "--follow", "--since", "0", "--json"]
    variables = {**os.environ, "TAMPERWATCH_DATABASE_URL": sqlite.url}
    with subprocess.Popen(argv, cwd=ROOT, env=variables, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        assert json.loads(child.stdout.readline())["image"] == "a.jpg"
        child.send_signal(number)
        assert child.wait(30) == 0
        assert (child.stdout.read(), child.stderr.read()) == ("", "next cursor: 1\n")
