"""Probabilities that mean what they say, and thresholds that keep their promise on the pictures they were set on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.calibration import calibrate, fit_platt, score, threshold_for, verdict
from model.card import Calibration
from schemas.errors import InvalidInput

LOGITS = st.lists(st.floats(-30, 30), min_size=2, max_size=60)


def of(temperature: float = 1.0, bias: float = 0.0, review: float = 0.3, flag: float = 0.7) -> Calibration:
    return Calibration(
        temperature=temperature,
        bias=bias,
        review_threshold=review,
        flag_threshold=flag,
        review_false_alarm_rate=0.05,
        flag_false_alarm_rate=0.01,
    )


def test_score_follows_the_card() -> None:
    assert score(3.0, of(temperature=2.0, bias=-1.5)) == 0.5
    assert score(1.0, of(temperature=0.5)) == pytest.approx(1 / (1 + np.exp(-2.0)))
    assert score(-1e4, of()) == 0.0
    assert score(1e4, of()) == 1.0


def test_a_score_on_the_threshold_is_not_above_it() -> None:
    words = [verdict(value, of()) for value in (0.0, 0.3, 0.300001, 0.7, 0.700001, 1.0)]

    assert words == ["pass", "pass", "review", "review", "flag", "flag"]


def test_threshold_is_the_smallest_that_keeps_the_rate() -> None:
    scores = [index / 100 for index in range(100)]

    assert threshold_for(scores, 0.05) == 0.94  # .95, .96, .97, .98 and .99 lie above
    assert threshold_for(scores, 0.29) == 0.70
    assert threshold_for(scores, 0.0) == 0.99
    assert threshold_for([0.2, 0.6], 0.01) == 0.6
    assert threshold_for([0.5] * 10, 0.3) == 0.5


def test_fit_finds_the_logistic_model_that_drew_the_labels() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 3, 20_000)
    tampered = rng.random(20_000) < 1 / (1 + np.exp(-(0.5 * logits - 1.0)))

    slope, bias = fit_platt(logits, tampered)

    assert slope == pytest.approx(0.5, abs=0.02)
    assert bias == pytest.approx(-1.0, abs=0.05)


def test_fit_is_where_the_gradient_vanishes() -> None:
    """First-order condition of the regularised loss, on overlapping data: residuals balance the pull to (1, 0)."""
    logits, tampered = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]), np.array([False, True, False, True, True])

    slope, bias = fit_platt(logits, tampered)

    residual = 1 / (1 + np.exp(-(slope * logits + bias))) - tampered
    assert residual @ logits + 0.1 * (slope - 1) == pytest.approx(0, abs=1e-8)
    assert residual.sum() + 0.1 * bias == pytest.approx(0, abs=1e-8)


def test_separable_logits_do_not_run_away() -> None:
    slope, bias = fit_platt(np.array([-1.0, -0.9, 0.9, 1.0]), np.array([False, False, True, True]))

    assert 1 < slope < 20
    assert abs(bias) < 1e-6


def test_a_score_that_ranks_backwards_is_flattened_not_turned_round() -> None:
    calibration = calibrate([2.0, 3.0, -2.0, -3.0] * 10, [False, False, True, True] * 10)

    assert calibration.temperature == pytest.approx(100.0)
    assert score(3.0, calibration) > score(-3.0, calibration)
    assert score(0.0, calibration) == pytest.approx(0.5, abs=0.05)


@given(LOGITS, LOGITS)
def test_calibrated_rates_hold_on_the_validation_pictures(authentic: list[float], tampered: list[float]) -> None:
    labels = [False] * len(authentic) + [True] * len(tampered)
    calibration = calibrate(authentic + tampered, labels, review_false_alarm_rate=0.2, flag_false_alarm_rate=0.05)

    words = [verdict(score(logit, calibration), calibration) for logit in authentic]
    assert words.count("flag") <= 0.05 * len(authentic)
    assert words.count("flag") + words.count("review") <= 0.2 * len(authentic)
    assert calibration.review_threshold <= calibration.flag_threshold
    assert calibration.temperature > 0


def test_defaults_state_their_rates() -> None:
    logits = np.concatenate([np.linspace(-5, 1, 200), np.linspace(-1, 5, 100)])
    calibration = calibrate(logits, [False] * 200 + [True] * 100)
    authentic = [score(logit, calibration) for logit in logits[:200]]

    assert (calibration.review_false_alarm_rate, calibration.flag_false_alarm_rate) == (0.05, 0.01)
    assert sum(value > calibration.review_threshold for value in authentic) == 10
    assert sum(value > calibration.flag_threshold for value in authentic) == 2


@pytest.mark.parametrize(
    ("logits", "tampered", "rates", "message"),
    [
        ([1.0, 2.0], [True, True], (0.05, 0.01), "tampered and authentic"),
        ([1.0, 2.0], [False, False], (0.05, 0.01), "tampered and authentic"),
        ([1.0, float("nan")], [True, False], (0.05, 0.01), "not a finite number"),
        ([1.0, 2.0], [True, False], (0.01, 0.05), "flag <= review"),
        ([1.0, 2.0], [True, False], (1.0, 0.05), "flag <= review"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(
    logits: list[float], tampered: list[bool], rates: tuple[float, float], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        calibrate(logits, tampered, *rates)
