import json
import os
import signal
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.config import TrainConfig
from model.course import Progress
from model.distill import averaged_student, distill
from model.manifest import Manifest
from model.run_folder import RunFolder
from model.selection import Best
from model.teacher import GrabCutTeacher
from schemas.errors import InvalidInput

ROOT = Path(__file__).parents[2]
OF_THE_CLOCK = ("pictures_per_s", "waited_s", "elapsed_s")
# Trains with the arguments config.json, data folder, run folder, and kills itself without warning after the step named last.
KILLED = """
import json, os, signal, sys
from pathlib import Path
from model.config import train_config_of
from model.distill import distill
from model.manifest import read_manifest
from model.teacher import GrabCutTeacher

def report(progress):
    if progress.stage == "student" and progress.done == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

config = train_config_of(json.loads(Path(sys.argv[1]).read_text()))
distill(config, read_manifest(Path(sys.argv[2])), GrabCutTeacher(), Path(sys.argv[3]), report)
"""


def losses(run: Path) -> list[dict[str, Any]]:
    """The log without what the clock says."""
    entries = RunFolder(run).entries()
    return [{name: value for name, value in entry.items() if name not in OF_THE_CLOCK} for entry in entries]


def state_of(run: Path) -> dict[str, Any]:
    state = RunFolder(run).load_state()
    assert state is not None
    return state


@pytest.mark.slow
def test_a_run_learns_the_drawn_discs(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    config = replace(
        tiny_training, steps=60, batch_size=8, lr_head=3e-3, lr_backbone=3e-3, ema_decay=0.9, evaluate_every_steps=1000
    )
    shown: list[Progress] = []
    distill(config, drawn, GrabCutTeacher(), tmp_path, shown.append)
    final = RunFolder(tmp_path).entries()[-1]
    assert final["f1_discs"] > 0.6
    assert final["fa_area"] < 0.1
    teacher = [progress for progress in shown if progress.stage == "teacher"]
    assert [progress.done for progress in teacher] == [*range(7), 6]
    assert teacher[-1].entry.keys() == {"pictures", "dropped", "mean_quality"}
    assert (shown[-1].stage, shown[-1].done, shown[-1].count) == ("student", 60, 60)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_losses_to_the_bit(
    drawn: Manifest, drawn_folder: Path, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    config = replace(tiny_training, steps=9, checkpoint_every_steps=4, threads=1)
    (tmp_path / "config.json").write_text(json.dumps(asdict(config)))
    distill(config, drawn, GrabCutTeacher(), tmp_path / "whole", lambda _: None)
    arguments = [tmp_path / "config.json", drawn_folder, tmp_path / "cut", 7]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, check=False, timeout=300
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert [entry["step"] for entry in losses(tmp_path / "cut")] == [1, 2, 3, 4, 5, 6, 7]
    assert state_of(tmp_path / "cut")["step"] == 4
    distill(config, drawn, GrabCutTeacher(), tmp_path / "cut", lambda _: None)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    whole, cut = state_of(tmp_path / "whole"), state_of(tmp_path / "cut")
    for name in ("student", "average"):
        assert all(torch.equal(tensor, cut[name][key]) for key, tensor in whole[name].items())


@pytest.mark.slow
def test_the_last_weights_are_published_unless_earlier_ones_were_clearly_better(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    distill(tiny_training, drawn, GrabCutTeacher(), tmp_path, lambda _: None)
    state = state_of(tmp_path)
    student, config, record = averaged_student(tmp_path)
    assert config == tiny_training
    assert (record["step"], record["elapsed_s"]) == (6, state["pace"]["elapsed_s"])
    assert torch.equal(student.mask_head.weight, state["average"]["mask_head.weight"])
    earlier = {name: torch.zeros_like(tensor) for name, tensor in state["average"].items()}
    best = Best(step=3, tuning=0.9, figures={}, average=earlier)
    RunFolder(tmp_path).save_state(state | {"best": best, "figures": {"f1_discs": 0.8, "image_auc": 0.8}})
    student, _, record = averaged_student(tmp_path)
    assert record["step"] == 3
    assert not student.mask_head.weight.any()


@pytest.mark.slow
def test_a_folder_of_another_run_is_refused(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    distill(tiny_training, drawn, GrabCutTeacher(), tmp_path, lambda _: None)
    with pytest.raises(InvalidInput, match=r"another config.*seed was 20251, now 1"):
        distill(replace(tiny_training, seed=1), drawn, GrabCutTeacher(), tmp_path, lambda _: None)


def test_a_device_that_is_none_is_refused_before_anything_is_written(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="'gpu' is not a device"):
        distill(tiny_training, drawn, GrabCutTeacher(), tmp_path / "run", lambda _: None, device="gpu")
    assert not os.path.lexists(tmp_path / "run")


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no training run"):
        averaged_student(tmp_path)
    RunFolder(tmp_path).claim({"config": {}}, planned=1)
    with pytest.raises(InvalidInput, match="saved state yet"):
        averaged_student(tmp_path)
