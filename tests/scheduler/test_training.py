"""A run's training for real, small: the budget becomes steps, and whoever stops it on the way changes nothing."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.card import Card
from model.pace import PLANNING_STEPS
from model.run_folder import RunFolder
from scheduler.bench import Bench
from scheduler.run_steps import _lesson, take
from scheduler.trainers import Lesson
from scheduler.training import StudentTrainer
from schemas.settings import BlobSettings, Settings
from schemas.states import RetrainTrigger
from storage import leases, runs
from storage.blobs import open_blob_store
from storage.database import Database
from tests.nights import ENOUGH, annotate, make_live, one_thread, tiny_student

pytestmark = pytest.mark.slow
STEPS = 8


class Halt(Exception):
    """Whatever ends a step."""


@pytest.fixture
def lesson(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lesson:
    """Of a run that is about to train."""
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)
    for name, value in ENOUGH.items():
        monkeypatch.setenv(f"TAMPERWATCH_{name}", value)
    monkeypatch.setenv("TAMPERWATCH_ENGINE__MODEL_CACHE", str(tmp_path / "cache"))
    settings = Settings(blobs=BlobSettings(directory=tmp_path / "blobs"))
    blobs = open_blob_store(settings.blobs)
    make_live(sqlite, blobs, tiny_student(tmp_path / "first", steps=1))
    annotate(sqlite, blobs, range(40))
    with sqlite.write() as session:
        held = leases.acquire(session, runs.LEASE, "test", 3600.0)
        run, _ = runs.begin(session, RetrainTrigger.MANUAL)
        session.expunge(run)
    assert held is not None
    bench = Bench(sqlite, blobs, settings, StudentTrainer, tmp_path / "run", lambda *_, **__: None, held)
    for _ in range(3):
        after = take(run, bench)
        with sqlite.write() as session:
            run = runs.move(session, held, run.id, after.state, **after.changes)
            session.expunge(run)
    return _lesson(run, bench)


def test_a_training_that_is_stopped_goes_on_and_ends_with_the_same_student(lesson: Lesson, tmp_path: Path) -> None:
    trainer, told = StudentTrainer(), list[str]()

    def halt(message: str, **changes: Any) -> None:
        told.append(message)
        if changes.get("step") == 3 and message.startswith("training"):
            raise Halt

    with one_thread():
        with pytest.raises(Halt):
            trainer.train(lesson, STEPS, halt)
        assert any(message.startswith("training: step 3 of 8, loss") for message in told)
        state = RunFolder(lesson.folder / "training").load_state()
        assert state is not None and state["step"] == 3
        cut = trainer.train(lesson, STEPS, lambda *_, **__: None)
        whole = StudentTrainer().train(_elsewhere(lesson, tmp_path), STEPS, lambda *_, **__: None)
    assert [entry["step"] for entry in RunFolder(lesson.folder / "training").entries()] == list(range(1, STEPS + 1))
    assert Card.load(cut).version == Card.load(whole).version
    assert Card.load(cut).training["teacher"] == lesson.teacher_id
    assert Card.load(cut).training["initial"].startswith(Card.load(lesson.parent).version)
    assert Card.load(cut).training["manifest_sha256"] == lesson.manifest_sha256
    assert trainer.record(lesson)["steps"] == STEPS
    assert {path.name for path in trainer.files(lesson)} == {"curves.png", "log.jsonl"}


def test_a_budget_becomes_a_number_of_steps_before_training_begins(lesson: Lesson) -> None:
    told: list[str] = []
    with one_thread():
        steps = StudentTrainer().plan(replace(lesson, budget_minutes=0.2), lambda message, **_: told.append(message))
    assert PLANNING_STEPS <= steps < 10**6
    assert "finding out how fast it trains: step 25 of 25" in told
    assert not (lesson.folder / "pace").exists() and not (lesson.folder / "training").exists()


def _elsewhere(lesson: Lesson, folder: Path) -> Lesson:
    """The same on another machine, where nothing was done yet."""
    return replace(lesson, folder=folder / "elsewhere")
