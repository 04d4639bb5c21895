"""Runs begun, shown and cancelled by hand."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from redis import Redis
from rich.console import Console

from cli import packages, retrain
from cli.retrain_display import RunDisplay, described, facts_table, runs_table
from scheduler.app import RETRAIN_QUEUE
from schemas.errors import InvalidInput
from schemas.learning_tables import RetrainRun
from schemas.settings import Settings
from schemas.states import RetrainState, RetrainTrigger
from storage import leases, runs
from storage.database import Database
from tests.cli.conftest import Tamperwatch
from tests.local_servers import free_ports


def begin(database: Database) -> RetrainRun:
    with database.write() as session:
        run, _ = runs.begin(session, RetrainTrigger.BOXES)
        session.expunge(run)
    return run


def run_of(state: RetrainState, **changes: object) -> RetrainRun:
    values = {"state": state, "trigger": RetrainTrigger.SCHEDULE, "created_at": datetime(2027, 5, 2, 2, 0, tzinfo=UTC)}
    return RetrainRun(**values | changes)


@pytest.mark.slow
def test_a_run_is_begun_once_and_a_trainer_is_called(tamperwatch: Tamperwatch, sqlite: Database, broker_url: str) -> None:
    ran = tamperwatch("retrain", "--now", DATABASE_URL=sqlite.url, BROKER_URL=broker_url)
    assert ran.code == 0 and "begun; a trainer takes it" in ran.out
    again = tamperwatch("retrain", "--now", DATABASE_URL=sqlite.url, BROKER_URL=broker_url)
    assert again.code == 0 and "not begun: this one has not ended yet" in again.out
    with Redis.from_url(broker_url) as client:
        assert client.llen(f"tamperwatch-trainer:{RETRAIN_QUEUE}") == 1


@pytest.mark.slow
def test_a_run_is_begun_though_redis_is_away(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    (port,) = free_ports(1)
    ran = tamperwatch("retrain", "--now", DATABASE_URL=sqlite.url, BROKER_URL=f"redis://127.0.0.1:{port}/0")
    assert ran.code == 0 and "begun" in ran.out
    assert "does not answer" in ran.err and "waits in the store" in ran.err


def test_where_things_stand(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    before = tamperwatch("retrain", DATABASE_URL=sqlite.url, SCHEDULE__TIME="04:30")
    assert before.code == 0 and "0 new boxes" in before.out and "04:30 UTC" in before.out
    begin(sqlite)
    ran = tamperwatch("retrain", DATABASE_URL=sqlite.url, SCHEDULE__ENABLED="false")
    assert "queued  waits for a trainer" in ran.out and "start `tamperwatch trainer`" in ran.out
    assert "next night" not in ran.out
    with sqlite.write() as session:
        leases.acquire(session, runs.LEASE, "host-7", 60.0)
    assert "trainer: host-7" in tamperwatch("retrain", DATABASE_URL=sqlite.url).out


def test_runs_are_listed_shown_and_cancelled(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    none = tamperwatch("retrain", "list", DATABASE_URL=sqlite.url)
    assert (none.code, none.out) == (0, "") and "no run yet" in none.err
    run = begin(sqlite)
    name = runs.short(run.id)
    assert name in tamperwatch("retrain", "list", DATABASE_URL=sqlite.url).out
    shown = tamperwatch("retrain", "show", name, "--json", DATABASE_URL=sqlite.url)
    assert json.loads(shown.out)["id"] == str(run.id)
    cancelled = tamperwatch("retrain", "cancel", name, DATABASE_URL=sqlite.url)
    assert cancelled.code == 0 and "is cancelled" in cancelled.out
    again = tamperwatch("retrain", "cancel", name, DATABASE_URL=sqlite.url)
    assert again.code == 2 and "ended already: cancelled" in again.err
    assert tamperwatch("retrain", "show", DATABASE_URL=sqlite.url).code == 0


def test_one_that_a_trainer_is_at_is_asked_to_end(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    run = begin(sqlite)
    with sqlite.write() as session:
        leases.acquire(session, runs.LEASE, "host-7", 60.0)
    assert "at its trainer's next look" in tamperwatch("retrain", "cancel", runs.short(run.id), DATABASE_URL=sqlite.url).out


@pytest.mark.parametrize(
    "argv", [("show", "zz"), ("cancel", "zz"), ("--wait",), ("--now", "list"), ("list", "--limit", "0"), ("cancel",)]
)
def test_a_wrong_call_is_usage(tamperwatch: Tamperwatch, sqlite: Database, argv: tuple[str, ...]) -> None:
    ran = tamperwatch("retrain", *argv, DATABASE_URL=sqlite.url)
    assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err


def test_watching_ends_with_the_run_and_its_status(sqlite: Database, capsys: pytest.CaptureFixture[str]) -> None:
    run = begin(sqlite)
    with sqlite.write() as session:
        runs.cancel(session, run.id)
    watched = retrain._watched(sqlite, run.id)
    with pytest.raises(typer.Exit) as ended:
        retrain._finish(watched)
    assert ended.value.exit_code == 1
    assert "cancelled" in capsys.readouterr().out


def test_an_embedded_run_ends_with_words(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    ran = tamperwatch("retrain", "--inline", DATABASE_URL=sqlite.url, BLOBS__DIRECTORY=str(tmp_path / "blobs"))
    assert ran.code == 1
    assert "failed while it was queued: no model is live" in " ".join(ran.out.split())


def test_an_embedded_run_leaves_another_trainers_run_alone(sqlite: Database, tmp_path: Path) -> None:
    begin(sqlite)
    with sqlite.write() as session:
        leases.acquire(session, runs.LEASE, "host-7", 60.0)
    with pytest.raises(InvalidInput, match="host-7 is at run"):
        retrain._inline(Settings(), sqlite)
    assert not list(tmp_path.glob("tamperwatch-runs"))


@pytest.mark.parametrize("verb", [("trainer",), ("retrain", "--inline")])
def test_without_the_packages_nothing_is_begun(
    tamperwatch: Tamperwatch, sqlite: Database, verb: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "timm" else object())
    ran = tamperwatch(*verb, DATABASE_URL=sqlite.url)
    assert ran.code == 3 and "training needs timm" in ran.err
    with sqlite.read() as session:
        assert runs.unended(session) is None


def test_what_a_run_looks_like() -> None:
    run = run_of(
        RetrainState.REJECTED,
        reason="Rejected: worse by [b]far[/b].",
        step=40,
        steps_total=40,
        candidate_version="tiny-1",
        figures={"selection": {"taken": {"train new manipulated": 18}}},
        decision={"checks": [{"name": "f1", "passed": False, "sentence": "pixel F1 went down"}]},
    )
    page = Console(width=200, record=True, file=io.StringIO())
    page.print(runs_table([run]))
    page.print(described(run))
    page.print(facts_table(run))
    text = page.export_text()
    for words in ("2027-05-02 02:00", "40 of 40", "tiny-1", "[b]far[/b]", "train new manipulated", "failed  pixel F1 went down"):
        assert words in text


def test_a_log_file_gets_a_line_at_each_change(capsys: pytest.CaptureFixture[str]) -> None:
    with RunDisplay(Console(stderr=True, force_terminal=False, width=200)) as display:
        display.show(RetrainState.TRAINING, "training: step 1 of 40", 1, 40)
        display.show(RetrainState.TRAINING, "training: step 2 of 40", 2, 40)
        display.show(RetrainState.EVALUATING, "measuring", 40, 40)
        display.say("bye")
    assert capsys.readouterr().err.splitlines() == ["training  2%  training: step 1 of 40", "evaluating  measuring", "bye"]
