import math

import pytest
import torch

from model.config import TrainConfig
from model.losses import distillation_loss, soft_dice
from model.student import StudentOutput

CONFIG = TrainConfig(positive_weight=3.0, dice_weight=0.5, score_weight=0.25)


def output(logit: float, score: float, count: int = 1) -> StudentOutput:
    return StudentOutput(torch.full((count, 1, 4, 4), logit), torch.full((count,), score))


def test_the_terms_are_what_they_say() -> None:
    soft, labels = torch.ones(1, 1, 4, 4), torch.ones(1)
    terms = distillation_loss(output(0.0, 0.0), soft, labels, CONFIG)
    assert float(terms.mask) == pytest.approx(3 * math.log(2))
    assert float(terms.dice) == pytest.approx(1 - (2 * 8 + 1) / (4 + 16 + 1))
    assert float(terms.score) == pytest.approx(math.log(2))
    assert float(terms.total) == pytest.approx(float(terms.mask) + 0.5 * float(terms.dice) + 0.25 * float(terms.score))


def test_agreement_costs_nothing() -> None:
    soft = torch.zeros(2, 1, 4, 4)
    soft[0, 0, :2] = 1
    logits = (soft * 2 - 1) * 40
    terms = distillation_loss(StudentOutput(logits, torch.tensor([40.0, -40.0])), soft, torch.tensor([1.0, 0.0]), CONFIG)
    assert float(terms.total) == pytest.approx(0, abs=1e-5)


def test_authentic_pictures_carry_no_dice() -> None:
    prob, soft = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
    assert float(soft_dice(prob, soft, torch.zeros(2))) == 0
    assert float(soft_dice(prob, soft, torch.tensor([1.0, 0.0]))) > 0


def test_a_soft_label_pulls_to_its_own_value() -> None:
    logits = torch.zeros(1, 1, 1, 1, requires_grad=True)
    soft = torch.full((1, 1, 1, 1), 0.1)
    unweighted = TrainConfig(positive_weight=1.0, dice_weight=0.0, score_weight=0.0)
    for _ in range(400):
        loss = distillation_loss(StudentOutput(logits, torch.zeros(1)), soft, torch.zeros(1), unweighted).total
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    assert float(torch.sigmoid(logits.detach())) == pytest.approx(0.1, abs=0.005)
