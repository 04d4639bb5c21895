"""Probabilities that mean what they say, and thresholds that keep their promise on pictures they were not set on."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.calibration import calibrate, fit_platt, held_out, score, threshold_for, verdict
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


def test_threshold_leaves_room_for_the_next_picture() -> None:
    scores = [index / 100 for index in range(100)]

    # A 101st picture falls into each of 101 gaps alike: of five gaps the lowest begins at .95.
    assert threshold_for(scores, 0.05) == 0.95
    assert threshold_for(scores, 0.30) == 0.70
    assert threshold_for(scores, 0.0) == threshold_for(scores, 0.01) == 0.99
    assert threshold_for([0.2, 0.6], 0.01) == 0.6
    assert threshold_for([0.5] * 10, 0.3) == 0.5
    assert threshold_for([index / 28 for index in range(28)], 10 / 29) == 18 / 28  # 10, though 10 / 29 * 29 is not, in floats


def test_threshold_holds_for_pictures_it_has_not_seen() -> None:
    rng = np.random.default_rng(1)
    drawn = rng.random((4000, 150))
    thresholds = np.array([threshold_for(scores, 0.02) for scores in drawn])

    assert (1 - thresholds).mean() == pytest.approx(3 / 151, abs=5e-4)  # 3 = floor(.02 * 151); at most .02 of uniform scores


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
    assert sum(value > calibration.review_threshold for value in authentic) == 9  # the next one would make 10 of 201
    assert sum(value > calibration.flag_threshold for value in authentic) == 1


def test_held_out_calibrations_have_not_seen_their_fold() -> None:
    rng = np.random.default_rng(5)
    tampered = np.arange(60) % 2 == 0
    logits, folds = rng.normal(size=60) + tampered, np.arange(60) // 20

    judges = held_out(logits, tampered, folds)

    for index in (0, 25, 59):
        others = folds != folds[index]
        assert judges[index] == calibrate(logits[others], tampered[others])
    assert len(set(judges)) == 3


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
