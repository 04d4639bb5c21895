"""The student's stage through `distill`: what is kept, shown and said, whatever ends it."""

import json
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import get_worker_info

from model import course, trainer
from model.augment import Sample
from model.config import TrainConfig
from model.course import Progress, StopTraining
from model.data import TrainingSet
from model.distill import distill
from model.losses import LossTerms, distillation_loss
from model.manifest import Manifest
from model.run_folder import RunFolder
from model.teacher import GrabCutTeacher
from schemas.errors import DiskFull, InvalidInput, TrainingDiverged, WorkerLost

# Python 3.12 and later remark on a fork beside threads, which is how torch starts its loaders.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")]

DIFFERENT_EVERY_TIME = {"pictures_per_s", "waited_s", "elapsed_s"}


@pytest.fixture(autouse=True)
def _plain_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes most of a tiny run; only the undisturbed one needs it."""
    if "whole" in request.fixturenames:
        request.getfixturevalue("whole")
    monkeypatch.setattr(course, "curves", lambda *_: b"curves")
    monkeypatch.setattr(course, "sheet", lambda *_: b"sheet")


def train(config: TrainConfig, manifest: Manifest, run: Path, report: Any = lambda _: None) -> RunFolder:
    return RunFolder(distill(config, manifest, GrabCutTeacher(), run, report))


def losses(folder: RunFolder) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    return [{name: value for name, value in entry.items() if name not in DIFFERENT_EVERY_TIME} for entry in folder.entries()]


def stop_at(step: int) -> Any:
    def report(progress: Progress) -> None:
        if progress.stage == "student" and progress.done == step:
            raise StopTraining

    return report


def saved_step(folder: RunFolder) -> int:
    state = folder.load_state()
    assert state is not None
    step: int = state["step"]
    return step


@pytest.fixture(scope="module")
def whole(drawn: Manifest, tiny_training: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunFolder]:
    """An undisturbed run of six steps with validations after three and six."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train(tiny_training, drawn, tmp_path_factory.mktemp("whole"))
    torch.set_num_threads(threads)


def test_every_step_is_one_line_with_its_speed(whole: RunFolder) -> None:
    entries = whole.entries()
    assert [entry["step"] for entry in entries] == [1, 2, 3, 4, 5, 6]
    for entry in entries:
        assert entry.keys() >= {"lr", "grad_norm", "pictures_per_s", "waited_s", "elapsed_s", *LossTerms._fields}
        assert entry["pictures_per_s"] > 0
    assert [entry["step"] for entry in entries if "image_auc" in entry] == [3, 6]


def test_every_validation_leaves_a_sheet_and_new_curves(whole: RunFolder) -> None:
    assert sorted(path.name for path in (whole.path / "sheets").iterdir()) == ["step-000003.png", "step-000006.png"]
    for path in (whole.path / "sheets" / "step-000006.png", whole.path / "curves.png"):
        with Image.open(path) as image:
            assert np.asarray(image.convert("RGB")).std() > 10


def test_the_summary_says_what_ran(whole: RunFolder, drawn: Manifest) -> None:
    summary = whole.summary()
    assert (summary["steps"], summary["planned_steps"], summary["published_step"]) == (6, 6, 6)
    assert summary["manifest_sha256"] == drawn.sha256
    assert summary["teacher"].startswith("grabcut")
    assert summary["pseudo_masks"]["pictures"] == 6
    assert summary["last"]["figures"].keys() >= {"image_auc", "fa_area"}
    assert summary["pictures_per_s"] > 0
    assert 0 <= summary["loader_waited_share"] < 1
    assert not list(whole.path.glob("*.part"))


def test_a_run_that_is_stopped_loses_no_step(
    whole: RunFolder, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(StopTraining):
        train(tiny_training, drawn, tmp_path, stop_at(5))
    assert saved_step(RunFolder(tmp_path)) == 5
    shown: list[Progress] = []
    again = train(tiny_training, drawn, tmp_path, shown.append)
    assert losses(again) == losses(whole)
    assert [progress.done for progress in shown if progress.stage == "student"] == [5, 6]


def test_a_run_stopped_while_the_teacher_works_keeps_its_masks(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    def report(progress: Progress) -> None:
        if progress.done == 2:
            raise StopTraining

    with pytest.raises(StopTraining):
        train(tiny_training, drawn, tmp_path, report)
    assert len(list((tmp_path / "pseudo-masks").glob("*.png"))) >= 2
    assert not (tmp_path / "state.pt").exists()


def test_a_finished_run_is_not_trained_again(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    train(tiny_training, drawn, tmp_path)
    log = (tmp_path / "log.jsonl").read_text()
    shown: list[Progress] = []
    train(tiny_training, drawn, tmp_path, shown.append)
    assert (tmp_path / "log.jsonl").read_text() == log
    assert [(progress.done, progress.count) for progress in shown if progress.stage == "student"] == [(6, 6)]


def test_a_time_budget_becomes_a_number_of_steps_once(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(course, "PLANNING_STEPS", 3)
    config = replace(tiny_training, steps=10_000, limit_minutes=0.02, checkpoint_every_steps=1000, evaluate_every_steps=1000)
    shown: list[Progress] = []

    def stop_once_planned(progress: Progress) -> None:
        shown.append(progress)
        if progress.stage == "student" and progress.count:
            raise StopTraining

    with pytest.raises(StopTraining):
        train(config, drawn, tmp_path, stop_once_planned)
    assert [progress.count for progress in shown if progress.stage == "student"][:3] == [0, 0, 0]
    folder = RunFolder(tmp_path)
    planned = folder.planned_steps()
    assert planned is not None
    assert 3 <= planned < 10_000
    folder.plan(5)  # whatever the pace is now, the number that was fixed counts
    monkeypatch.setattr(course, "steps_within", lambda *_: pytest.fail("planned a second time"))
    assert train(config, drawn, tmp_path).entries()[-1]["step"] == 5


def test_a_budget_larger_than_the_steps_changes_nothing(
    whole: RunFolder, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    folder = train(replace(tiny_training, limit_minutes=60.0), drawn, tmp_path)
    assert folder.planned_steps() == 6
    assert losses(folder) == losses(whole)


def test_divergence_keeps_the_batch_and_the_state_before_it(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def spoil_the_third(output: Any, batch: Sample, config: TrainConfig) -> LossTerms:
        calls.append(batch)
        terms = distillation_loss(output, batch, config)
        return terms._replace(total=terms.total * torch.nan) if len(calls) == 3 else terms

    monkeypatch.setattr(trainer, "distillation_loss", spoil_the_third)
    with pytest.raises(
        TrainingDiverged, match=r"step 3: .*total nan.*diverged-step-3\.pt; .*checkpoint is intact.*lower lr_head"
    ):
        train(tiny_training, drawn, tmp_path)
    folder = RunFolder(tmp_path)
    evidence = torch.load(tmp_path / "diverged-step-3.pt", weights_only=True)
    assert torch.equal(evidence["batch"]["pixels"], calls[2].pixels)
    state = folder.load_state()
    assert state is not None
    assert state["step"] == evidence["state"]["step"] == 2
    for name, tensor in state["student"].items():
        assert torch.equal(tensor, evidence["state"]["student"][name]), name
    assert [entry["step"] for entry in folder.entries()] == [1, 2]


def test_a_full_disk_keeps_the_last_checkpoint(
    whole: RunFolder, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    def fill(progress: Progress) -> None:
        if progress.entry.get("step") == 3:
            (tmp_path / "state.pt.part").symlink_to("/dev/full")

    with pytest.raises(DiskFull, match=r"state\.pt; the last checkpoint is intact"):
        train(tiny_training, drawn, tmp_path, fill)
    assert saved_step(RunFolder(tmp_path)) == 2
    assert losses(train(tiny_training, drawn, tmp_path)) == losses(whole)


def test_a_loader_that_dies_is_named(
    whole: RunFolder, drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = TrainingSet.__getitem__

    def die(data: TrainingSet, index: int) -> Sample:
        if index == 8 and get_worker_info() is not None:
            os.kill(os.getpid(), signal.SIGKILL)
        return draw(data, index)

    monkeypatch.setattr(TrainingSet, "__getitem__", die)
    with pytest.raises(WorkerLost, match=r"draws training pictures died .*memory.*--set loader_workers"):
        train(replace(tiny_training, loader_workers=1), drawn, tmp_path)
    assert losses(train(tiny_training, drawn, tmp_path)) == losses(whole)  # without loaders, where nothing dies


def test_a_broken_picture_is_told_without_a_traceback(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_data: TrainingSet, _index: int) -> Sample:
        raise InvalidInput("training picture a.jpg: truncated")

    monkeypatch.setattr(TrainingSet, "__getitem__", refuse)
    with pytest.raises(InvalidInput) as error:
        train(replace(tiny_training, loader_workers=1), drawn, tmp_path)
    assert error.value.message == "training picture a.jpg: truncated"


def test_a_state_can_be_read_by_anyone(whole: RunFolder) -> None:
    state = torch.load(whole.path / "state.pt", weights_only=True)
    assert state.keys() == {"student", "average", "optimizer", "step", "random", "pace", "best", "figures"}
    assert json.loads(json.dumps(state["pace"])) == state["pace"]
