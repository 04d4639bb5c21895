import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from cli import packages
from cli.main import app
from cli.recipes import recipe_names
from model import distill, publish
from model.card import Card
from model.course import Progress
from model.run_folder import RunFolder
from schemas.errors import EnvironmentMissing, InvalidInput, WorkerLost
from tests.cli.conftest import Tamperwatch
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
TINY = """
name = "tiny"
steps = 100000
batch_size = 2
threads = 1
loader_workers = 1
checkpoint_every_steps = 100000
evaluate_every_steps = 100000
[student]
backbone = "test_efficientnet"
input_size = 64
width = 16
slots = 4
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two manipulated and two authentic pictures on each side, of noise with a grey part."""
    root, rng = tmp_path / "data", np.random.default_rng(0)
    root.mkdir()
    lines = ["set,image,mask,label,split"]
    for index in range(8):
        picture, mask = rng.integers(0, 255, (60, 80, 3), dtype=np.uint8), np.zeros((60, 80), dtype=np.uint8)
        picture[10:30, 20:50], mask[10:30, 20:50] = 128, 255
        Image.fromarray(picture).save(root / f"{index}.png")
        Image.fromarray(mask).save(root / f"{index}-mask.png")
        label = f"{index}-mask.png,tampered" if index % 2 else ",authentic"
        lines.append(f"noise,{index}.png,{label},{'training' if index < 4 else 'validation'}")
    (root / "manifest.csv").write_text("\n".join(lines) + "\n")
    return root


@pytest.fixture
def arguments(data: Path, tmp_path: Path) -> list[str]:
    (tmp_path / "c.toml").write_text(TINY)
    return ["train", "--config", str(tmp_path / "c.toml"), "--images", str(data), "--out", str(tmp_path / "run")]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What distill and publish are called with; neither works."""
    made: list[Any] = []

    def fake_distill(config: Any, manifest: Any, teacher: Any, run: Path, report: Any, device: str, initial: Any) -> Path:
        assert initial is None
        made.append((config, manifest, teacher.name, run, device))
        report(Progress("teacher", 2, 2, {"pictures": 2, "dropped": 0, "mean_quality": 0.5}))
        report(Progress("student", 2, 3, {"step": 2, "total": 0.25, "pictures_per_s": 7.0, "image_auc": 0.5, "fa_area": 0.1}))
        folder = RunFolder(run)
        folder.claim({"config": {}}, planned=3)
        folder.finish({"steps": 3, "minutes": 1.5, "pictures_per_s": 7.0, "precision": "fp32", "loader_waited_share": 0.25})
        return run

    def fake_publish(run: Path, manifest: Any, directory: Path, report: Any) -> Card:
        made.append((run, manifest, directory))
        report("evaluate", 1, 1)
        overall = {"f1": 0.5, "n_tampered": 2, "fa_area": 0.01, "n_authentic": 3}
        return Card.model_construct(version="s-12345678", metrics={"overall": overall, "image_auc": 0.75})

    monkeypatch.setattr(distill, "distill", fake_distill)
    monkeypatch.setattr(publish, "publish", fake_publish)
    return made


def invoke(arguments: list[str]) -> Any:
    return CliRunner().invoke(app, arguments, catch_exceptions=False)


@pytest.mark.parametrize("extra", [[], ["--publish"]])
def test_the_verb_trains_then_publishes(arguments: list[str], calls: list[Any], extra: list[str], tmp_path: Path) -> None:
    target = tmp_path / "elsewhere" if extra else tmp_path / "run" / "student"
    result = invoke([*arguments, *extra, *([str(target)] if extra else []), "--set", "outside_label=0.2"])
    assert result.exit_code == 0
    config, manifest, teacher, run, device = calls[0]
    assert (config.name, config.outside_label, run, device) == ("tiny", 0.2, tmp_path / "run", "cpu")
    assert teacher == "grabcut-320-4-0.1-0.2"
    assert calls[1] == (tmp_path / "run", manifest, target)
    assert "s-12345678" in result.stdout
    assert "pixel F1 0.500 on 2 manipulated" in result.stdout.replace("\n", " ")


def test_what_is_trained_on_is_said_first_and_how_fast_it_went_last(arguments: list[str], calls: list[Any]) -> None:
    err = invoke(arguments).stderr
    assert "tiny: test_efficientnet at 64 px, 100000 steps, batches of 2, teacher grabcut" in err
    assert "2 manipulated and 2 authentic pictures train, 2 manipulated and 2 authentic pictures validate" in err
    assert "2 pseudo-masks, mean quality 0.50" in err
    assert "AUC 0.500   authentic area marked 10.0%" in err
    assert "trained 3 steps in 1.5 minutes at 7.0 pictures/s in fp32 (the loader kept it waiting 25% of the time)" in err
    assert len(calls) == 2


def test_masks_become_boxes_before_training(arguments: list[str], calls: list[Any]) -> None:
    invoke(arguments)
    boxes = {row.image: [box.as_tuple() for box in row.boxes] for row in calls[0][1].rows}
    assert boxes["1.png"] == [(20, 10, 50, 30)]
    assert boxes["0.png"] == []


def test_a_config_with_a_typo_is_refused_before_anything_starts(arguments: list[str], calls: list[Any], tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text("stepz = 3\n")
    with pytest.raises(InvalidInput, match="stepz"):
        invoke(arguments)
    assert not (tmp_path / "run").exists()
    assert not calls


def test_bad_data_is_refused_with_all_its_problems(
    arguments: list[str], calls: list[Any], data: Path, tmp_path: Path, tamperwatch: Tamperwatch
) -> None:
    (data / "0.png").unlink()
    Image.new("L", (80, 60)).save(data / "3-mask.png")
    ran = tamperwatch(*arguments)
    assert ran.code == 2
    assert "0.png" in ran.err and "3-mask.png" in ran.err
    assert not (tmp_path / "run").exists()
    assert not calls


def test_missing_packages_are_named(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == "timm" else object())
    with pytest.raises(EnvironmentMissing, match=r"needs timm: pip install 'tamperwatch\[train\]'"):
        invoke(arguments)


def test_help_lists_the_recipes(tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    words = tamperwatch("train", "--help").out
    for name in recipe_names():
        assert name in words


def test_a_sam_checkpoint_for_a_teacher_without_sam_is_refused(arguments: list[str], calls: list[Any], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="the config says teacher"):
        invoke([*arguments, "--sam-checkpoint", str(tmp_path / "sam.pth")])
    assert not calls


@pytest.mark.usefixtures("as_in_a_terminal")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_at_the_next_step_and_says_how_to_go_on(
    tamperwatch: Tamperwatch, arguments: list[str], monkeypatch: pytest.MonkeyPatch, number: signal.Signals, status: int
) -> None:
    def stopped(*given: Any) -> None:
        os.kill(os.getpid(), number)
        given[4](Progress("student", 7, 9, {"total": 0.5, "pictures_per_s": 1.0}))

    monkeypatch.setattr(distill, "distill", stopped)
    ran = tamperwatch(*arguments)
    assert ran.code == status
    assert "stopped after step 7, which is saved. To go on, give the same command again:" in ran.err
    assert f"tamperwatch train --config {arguments[2]}" in ran.err


@pytest.mark.parametrize("signalled", [True, False])
def test_a_loader_that_a_signal_killed_is_no_error(
    tamperwatch: Tamperwatch, arguments: list[str], monkeypatch: pytest.MonkeyPatch, signalled: bool
) -> None:
    def lost(*_: Any) -> None:
        if signalled:
            os.kill(os.getpid(), signal.SIGTERM)
        raise WorkerLost("a process died")

    monkeypatch.setattr(distill, "distill", lost)
    ran = tamperwatch(*arguments)
    assert ran.code == (143 if signalled else 3)
    assert ("stopped at once, the last checkpoint is kept" in ran.err) is signalled
    assert ("error (worker_lost): a process died" in ran.err) is not signalled


def test_publishing_that_is_interrupted_says_that_training_is_complete(
    tamperwatch: Tamperwatch, arguments: list[str], calls: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: Any) -> Card:
        raise KeyboardInterrupt

    monkeypatch.setattr(publish, "publish", interrupted)
    ran = tamperwatch(*arguments)
    assert ran.code == 130
    assert "training is complete, publishing is not." in ran.err
    assert len(calls) == 1


@pytest.mark.slow
def test_a_real_run_stops_with_its_state_saved_when_it_is_told_to(arguments: list[str], tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    program = [sys.executable, "-m", "cli.main", *arguments]
    with subprocess.Popen(program, cwd=ROOT, stderr=subprocess.PIPE, text=True) as training:
        wait_for(lambda: len(run.entries()) > 2 or training.poll() is not None, "third step", timeout_s=240)
        training.terminate()
        _, err = training.communicate(timeout=120)
    assert training.returncode == 143, err
    state = run.load_state()
    assert state is not None
    assert state["step"] == run.entries()[-1]["step"]
    assert f"stopped after step {state['step']}, which is saved" in err
    assert not any(torch.isnan(tensor).any() for tensor in state["average"].values())
