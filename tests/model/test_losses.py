import math

import pytest
import torch

from model.augment import Sample
from model.config import TrainConfig
from model.losses import distillation_loss, match_loss, soft_dice
from model.student import StudentOutput

CONFIG = TrainConfig(positive_weight=3.0, dice_weight=0.5, score_weight=0.25)


def output(logit: float, score: float, count: int = 1) -> StudentOutput:
    return StudentOutput(torch.full((count, 1, 4, 4), logit), torch.full((count,), score))


def batch(soft: torch.Tensor, labels: torch.Tensor, weight: float = 1.0, score_weights: torch.Tensor | None = None) -> Sample:
    """Samples with the masks [B, 1, M, M], 0..1, and labels given."""
    count = len(soft)
    pixels, match = torch.zeros(count, 16, 16, 3, dtype=torch.uint8), torch.full((count, 2, 2), -1)
    masks, weights = torch.round(soft.squeeze(1) * 255).to(torch.uint8), torch.full((count,), weight)
    return Sample(pixels, masks, labels, weights, torch.ones(count) if score_weights is None else score_weights, match)


def test_the_terms_are_what_they_say() -> None:
    soft, labels = torch.ones(1, 1, 4, 4), torch.ones(1)
    terms = distillation_loss(output(0.0, 0.0), batch(soft, labels), CONFIG)
    assert float(terms.mask) == pytest.approx(3 * math.log(2))
    assert float(terms.dice) == pytest.approx(1 - (2 * 8 + 1) / (4 + 16 + 1))
    assert float(terms.score) == pytest.approx(math.log(2))
    assert float(terms.total) == pytest.approx(float(terms.mask) + 0.5 * float(terms.dice) + 0.25 * float(terms.score))


def test_agreement_costs_nothing() -> None:
    soft = torch.zeros(2, 1, 4, 4)
    soft[0, 0, :2] = 1
    logits = (soft * 2 - 1) * 40
    terms = distillation_loss(StudentOutput(logits, torch.tensor([40.0, -40.0])), batch(soft, torch.tensor([1.0, 0.0])), CONFIG)
    assert float(terms.total) == pytest.approx(0, abs=1e-5)


def test_authentic_pictures_carry_no_dice() -> None:
    prob, soft = torch.full((2, 1, 4, 4), 0.5), torch.zeros(2, 1, 4, 4)
    assert float(soft_dice(prob, soft, torch.zeros(2))) == 0
    assert float(soft_dice(prob, soft, torch.tensor([1.0, 0.0]))) > 0


def test_a_soft_label_pulls_to_its_own_value() -> None:
    logits = torch.zeros(1, 1, 1, 1, requires_grad=True)
    soft = torch.full((1, 1, 1, 1), 51 / 255)
    unweighted = TrainConfig(positive_weight=1.0, dice_weight=0.0, score_weight=0.0)
    for _ in range(400):
        loss = distillation_loss(StudentOutput(logits, torch.zeros(1)), batch(soft, torch.zeros(1)), unweighted).total
        (gradient,) = torch.autograd.grad(loss, logits)
        logits = (logits - 2 * gradient).detach().requires_grad_()
    assert float(torch.sigmoid(logits.detach())) == pytest.approx(0.2, abs=0.005)


def test_the_score_averages_over_the_examples_it_is_given() -> None:
    soft, labels = torch.zeros(3, 1, 4, 4), torch.tensor([1.0, 0.0, 1.0])
    scores = StudentOutput(torch.zeros(3, 1, 4, 4), torch.tensor([2.0, 2.0, -7.0]))
    terms = distillation_loss(scores, batch(soft, labels, score_weights=torch.tensor([1.0, 1.0, 0.0])), CONFIG)
    assert float(terms.score) == pytest.approx((math.log1p(math.exp(-2)) + math.log1p(math.exp(2))) / 2)
    nothing = distillation_loss(scores, batch(soft, labels, score_weights=torch.zeros(3)), CONFIG)
    assert float(nothing.score) == 0


def test_a_doubted_mask_weighs_less_but_its_label_does_not() -> None:
    soft, labels = torch.ones(1, 1, 4, 4), torch.ones(1)
    full = distillation_loss(output(0.0, 0.0), batch(soft, labels), CONFIG)
    half = distillation_loss(output(0.0, 0.0), batch(soft, labels, weight=0.5), CONFIG)
    assert float(half.mask) == pytest.approx(float(full.mask) / 2)
    assert float(half.dice) == pytest.approx(float(full.dice) / 2)
    assert float(half.score) == float(full.score)


CELLS = 12


def one_copy(target: tuple[int, int], source: tuple[int, int]) -> torch.Tensor:
    match = torch.full((1, CELLS, CELLS), -1)
    match[0, target[0], target[1]] = source[0] * CELLS + source[1]
    return match


def test_finding_the_source_costs_nothing_and_next_to_it_neither() -> None:
    match = one_copy((1, 1), (9, 9))
    for found in ((9, 9), (8, 10)):
        logits = torch.zeros(1, CELLS**2, CELLS**2)
        logits[0, CELLS + 1, found[0] * CELLS + found[1]] = 50.0
        assert float(match_loss(logits, match)) == pytest.approx(0, abs=1e-4)
    nothing_found = match_loss(torch.zeros(1, CELLS**2, CELLS**2), match)
    assert float(nothing_found) == pytest.approx(math.log(CELLS**2 / 9), rel=1e-4)


def test_sources_too_near_to_be_seen_are_not_asked_for() -> None:
    logits = torch.zeros(1, CELLS**2, CELLS**2)
    assert float(match_loss(logits, one_copy((5, 5), (5, 9)))) == 0
    assert float(match_loss(logits, one_copy((5, 5), (5, 10)))) > 0
    assert float(match_loss(logits, torch.full((1, CELLS, CELLS), -2))) == 0


def test_the_match_term_joins_the_total() -> None:
    soft, labels = torch.ones(1, 1, 4, 4), torch.ones(1)
    sample = batch(soft, labels)._replace(match=one_copy((1, 1), (9, 9)))
    seen = output(0.0, 0.0)._replace(match_logits=torch.zeros(1, CELLS**2, CELLS**2))
    terms = distillation_loss(seen, sample, CONFIG)
    without = distillation_loss(output(0.0, 0.0), sample, CONFIG)
    assert float(terms.total - without.total) == pytest.approx(CONFIG.match_weight * math.log(CELLS**2 / 9), rel=1e-4)
