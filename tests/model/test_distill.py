import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.config import TrainConfig
from model.distill import LOG_NAME, STATE_NAME, Progress, averaged_student, distill, follow, freeze_norm, schedule
from model.manifest import Manifest
from model.teacher import GrabCutTeacher
from schemas.errors import InvalidInput


def entries(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / LOG_NAME).read_text().splitlines()]


def test_the_schedule_warms_up_and_cools_down() -> None:
    assert schedule(0, 0.0, 10) == pytest.approx(0.1)
    assert schedule(9, 0.0, 10) == pytest.approx(1.0)
    assert schedule(50, 0.5, 10) == pytest.approx(0.505)
    assert schedule(99, 1.0, 10) == pytest.approx(0.01)


def test_the_average_follows_floats_and_copies_counters() -> None:
    average, source = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    with torch.no_grad():
        source.weight.fill_(3.0)
        source.running_mean.fill_(1.0)
        source.num_batches_tracked.fill_(7)
    follow(average, source, 0.75)
    assert average.weight.tolist() == [1.5, 1.5]
    assert average.running_mean.tolist() == [0.25, 0.25]
    assert int(average.num_batches_tracked) == 7


def test_frozen_norms_keep_their_statistics() -> None:
    norm = torch.nn.Sequential(torch.nn.BatchNorm2d(3)).train()
    freeze_norm(norm)
    norm(torch.randn(2, 3, 4, 4) + 9)
    assert norm[0].running_mean.abs().max() == 0


@pytest.mark.slow
def test_a_run_learns_the_drawn_discs(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    config = replace(
        tiny_training, steps=60, batch_size=8, lr_head=3e-3, lr_backbone=3e-3, ema_decay=0.9, evaluate_every_steps=1000
    )
    shown: list[Progress] = []
    distill(config, drawn, GrabCutTeacher(), tmp_path, shown.append)
    final = entries(tmp_path)[-1]
    assert final["f1_discs"] > 0.6
    assert final["fa_area"] < 0.1
    assert [progress.stage for progress in shown[:6]] == ["teacher"] * 6
    assert shown[-1].fraction == 1.0


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_weights(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def interrupt(progress: Progress) -> None:
        if progress.entry.get("step") == 4:
            raise Interrupted

    distill(tiny_training, drawn, GrabCutTeacher(), tmp_path / "whole", lambda _: None)
    with pytest.raises(Interrupted):
        distill(tiny_training, drawn, GrabCutTeacher(), tmp_path / "cut", interrupt)
    assert torch.load(tmp_path / "cut" / STATE_NAME, weights_only=True)["step"] == 4
    distill(tiny_training, drawn, GrabCutTeacher(), tmp_path / "cut", lambda _: None)
    whole, cut = (averaged_student(tmp_path / name)[0].state_dict() for name in ("whole", "cut"))
    for name, tensor in whole.items():
        torch.testing.assert_close(tensor.float(), cut[name].float(), atol=1e-4, rtol=1e-3, msg=name)


@pytest.mark.slow
def test_a_time_budget_ends_the_run_and_its_schedule(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    shown: list[Progress] = []
    distill(replace(tiny_training, steps=10_000, limit_minutes=0.02), drawn, GrabCutTeacher(), tmp_path, shown.append)
    assert shown[-1].fraction == 1.0
    assert averaged_student(tmp_path)[2]["step"] < 1000


@pytest.mark.slow
def test_a_folder_of_another_run_is_refused(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    distill(tiny_training, drawn, GrabCutTeacher(), tmp_path, lambda _: None)
    with pytest.raises(InvalidInput, match="another config"):
        distill(replace(tiny_training, seed=1), drawn, GrabCutTeacher(), tmp_path, lambda _: None)


def test_a_device_that_is_none_is_refused(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="'gpu' is not a device"):
        distill(tiny_training, drawn, GrabCutTeacher(), tmp_path, lambda _: None, device="gpu")


def test_a_folder_without_a_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no training run"):
        averaged_student(tmp_path)
