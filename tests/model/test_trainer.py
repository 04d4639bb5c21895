from dataclasses import replace
from typing import Any

import pytest
import torch

from model import trainer as room
from model.augment import Sample
from model.config import TrainConfig
from model.data import TrainingSet, ValidationSet
from model.losses import LossTerms
from model.manifest import Manifest
from model.pace import PLANNING_STEPS
from model.pseudo_masks import PseudoMasks
from model.trainer import Diverged, Trainer, device_of, follow, freeze_norm, schedule
from schemas.errors import EnvironmentMissing, InvalidInput


@pytest.fixture
def batch(drawn: Manifest, tiny_training: TrainConfig) -> Sample:
    """Two authentic or synthetic pictures."""
    data = TrainingSet(drawn, PseudoMasks({}, {}, 0.0, ()), replace(tiny_training, real_share=0.0), 2)
    return Sample(*(torch.stack(parts) for parts in zip(data[0], data[1], strict=True)))


def trainer_of(config: TrainConfig) -> Trainer:
    return Trainer(config, torch.device("cpu"))


def same(one: Any, other: Any) -> bool:
    """Equal to the bit, through nested dicts and lists."""
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def copied(state: Any) -> Any:
    if isinstance(state, torch.Tensor):
        return state.clone()
    if isinstance(state, dict):
        return {key: copied(value) for key, value in state.items()}
    return [copied(value) for value in state] if isinstance(state, list) else state


def test_the_schedule_warms_up_and_cools_down() -> None:
    steps = PLANNING_STEPS + 100
    assert schedule(0, 10, steps) == pytest.approx(0.1)
    assert schedule(9, 10, steps) == pytest.approx(1.0)
    assert schedule(PLANNING_STEPS + 50, 10, steps) == pytest.approx(0.505)
    assert schedule(steps, 10, steps) == pytest.approx(0.01)


def test_before_the_plan_the_schedule_does_not_know_how_long_the_run_is() -> None:
    assert [schedule(step, 40, 50) for step in range(PLANNING_STEPS)] == [
        schedule(step, 40, 9000) for step in range(PLANNING_STEPS)
    ]


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
def test_a_step_reports_every_term_and_moves_the_weights(batch: Sample, tiny_training: TrainConfig) -> None:
    trainer = trainer_of(tiny_training)
    before = copied(trainer.student.state_dict())
    entry = trainer.train_step(batch, steps=6)
    assert entry.keys() == {"step", "lr", "grad_norm", *LossTerms._fields}
    assert (entry["step"], entry["lr"]) == (1, pytest.approx(0.5 * tiny_training.lr_head))
    assert not same(before, trainer.student.state_dict())


@pytest.mark.slow
def test_a_restored_trainer_goes_on_to_the_bit(batch: Sample, tiny_training: TrainConfig) -> None:
    first = trainer_of(tiny_training)
    first.train_step(batch, steps=6)
    state = copied(first.state())
    expected = first.train_step(batch, steps=6)
    torch.rand(5)  # the random state is part of what comes back
    second = trainer_of(tiny_training)
    second.restore(state)
    assert second.train_step(batch, steps=6) == expected
    assert same(first.state()["student"], second.state()["student"])
    assert same(first.state()["average"], second.state()["average"])
    assert same(first.state()["optimizer"], second.state()["optimizer"])


def test_a_state_of_another_network_is_refused(tiny_training: TrainConfig) -> None:
    wider = replace(tiny_training, student=replace(tiny_training.student, width=24))
    with pytest.raises(InvalidInput, match="does not fit this program"):
        trainer_of(tiny_training).restore(trainer_of(wider).state())


@pytest.mark.slow
@pytest.mark.parametrize("spoilt", ["loss", "gradient"])
def test_a_loss_that_is_no_number_changes_nothing(
    batch: Sample, tiny_training: TrainConfig, monkeypatch: pytest.MonkeyPatch, spoilt: str
) -> None:
    def spoil(output: Any, *_: Any) -> LossTerms:
        total = output.mask_logits.sum()
        if spoilt == "loss":
            total = total * torch.nan
        else:
            total.register_hook(lambda gradient: gradient * torch.inf)
        return LossTerms(*[total] * len(LossTerms._fields))

    trainer = trainer_of(tiny_training)
    trainer.train_step(batch, steps=6)
    before = copied(trainer.state())
    monkeypatch.setattr(room, "distillation_loss", spoil)
    with pytest.raises(Diverged, match="total"):
        trainer.train_step(batch, steps=6)
    after = trainer.state()
    assert all(same(before[name], after[name]) for name in ("student", "average", "random", "step"))
    assert same(before["optimizer"]["state"], after["optimizer"]["state"])


def test_evaluation_is_of_the_averaged_student(drawn: Manifest, tiny_training: TrainConfig) -> None:
    trainer, validation = trainer_of(tiny_training), ValidationSet(drawn, tiny_training)
    with torch.no_grad():
        trainer.average.mask_head.bias.fill_(50.0)
    validated = trainer.evaluate(validation)
    assert validated.prob.shape == validation.masks_net.shape
    assert validated.prob.min() > 0.99
    assert validated.figures == validation.figures(validated.prob, validated.score_logit)


def test_a_device_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="'gpu' is not a device"):
        device_of("gpu")
    with pytest.raises(EnvironmentMissing, match="torch sees"):
        device_of("cuda:99")


@pytest.mark.parametrize(
    ("wanted", "known", "used"),
    [
        ("bf16", {"avx512_bf16": True}, "bf16"),
        ("bf16", {"avx2": True, "avx512_bf16": False}, "fp32"),
        ("bf16", {}, "bf16"),
        ("fp32", {"avx512_bf16": True}, "fp32"),
    ],
)
def test_bf16_is_used_where_the_cpu_computes_in_it(
    monkeypatch: pytest.MonkeyPatch, tiny_training: TrainConfig, wanted: Any, known: dict[str, bool], used: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    trainer = trainer_of(replace(tiny_training, precision=wanted))
    assert trainer.precision == used
    with trainer._autocast():
        assert torch.is_autocast_enabled("cpu") is (used == "bf16")
