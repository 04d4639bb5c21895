"""The second look: who gets one, what the picture goes through, and what two verdicts make together."""

import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from model.card import Calibration
from model.compress import deliver
from model.stability import SECOND_LOOK, Judgement, judge, near_threshold

PROBABILITIES = st.floats(1e-6, 1 - 1e-6)


def of(review: float = 0.5, flag: float = 0.9) -> Calibration:
    return Calibration(
        temperature=1,
        bias=0,
        review_threshold=review,
        flag_threshold=flag,
        review_false_alarm_rate=0.05,
        flag_false_alarm_rate=0.01,
    )


def log_odds(prob: float) -> float:
    return math.log(prob / (1 - prob))


# 0.2 in log-odds is 0.450 to 0.550 around one half, and 0.880 to 0.917 around 0.9.
@pytest.mark.parametrize(
    ("score", "near"),
    [(0.449, False), (0.451, True), (0.5, True), (0.549, True), (0.551, False), (0.88, False), (0.8806, True), (0.918, False)],
)
def test_near_is_measured_in_log_odds(score: float, near: bool) -> None:
    assert near_threshold(score, of(), 0.2) is near


@pytest.mark.parametrize("score", [0.0, 0.5, 0.9, 1.0])
def test_a_band_of_nothing_is_off_even_on_a_threshold(score: float) -> None:
    assert near_threshold(score, of(), 0.0) is False


@pytest.mark.parametrize(("score", "near"), [(0.0, True), (1.0, True), (1e-9, False), (1 - 1e-9, False)])
def test_thresholds_at_the_ends_have_no_neighbourhood(score: float, near: bool) -> None:
    assert near_threshold(score, of(review=0.0, flag=1.0), 0.5) is near


@given(PROBABILITIES, PROBABILITIES, PROBABILITIES, st.floats(0.01, 10))
def test_near_is_a_distance_of_at_most_the_band(score: float, review: float, flag: float, band: float) -> None:
    distance = min(abs(log_odds(score) - log_odds(threshold)) for threshold in (review, flag))
    found = near_threshold(score, of(review, flag), band)
    assert found is (distance <= band) or distance == pytest.approx(band, rel=1e-6)


@pytest.mark.parametrize(
    ("first", "second", "verdict", "stable"),
    [
        (0.1, 0.2, "pass", True),
        (0.1, 0.6, "review", False),
        (0.1, 0.95, "review", False),
        (0.6, 0.1, "review", False),
        (0.6, 0.7, "review", True),
        (0.6, 0.95, "review", False),
        (0.95, 0.1, "review", False),
        (0.95, 0.9, "review", False),  # on the threshold is not above it
        (0.95, 0.97, "flag", True),
    ],
)
def test_two_looks_that_disagree_make_review(first: float, second: float, verdict: str, stable: bool) -> None:
    assert judge(first, of(), second) == Judgement(first, verdict, second, stable)  # type: ignore[arg-type]


@pytest.mark.parametrize(("score", "verdict"), [(0.1, "pass"), (0.6, "review"), (0.95, "flag")])
def test_one_look_stands_alone(score: float, verdict: str) -> None:
    assert judge(score, of()) == Judgement(score, verdict, None, None)  # type: ignore[arg-type]


def test_the_second_look_is_jpeg_90_with_halved_chroma_at_the_pictures_own_size() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (60, 100, 3), dtype=np.uint8))
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=90, subsampling="4:2:0")
    with Image.open(jpeg) as expected:
        assert np.array_equal(np.asarray(deliver(picture, SECOND_LOOK)), np.asarray(expected))


def test_a_huge_picture_is_reduced_before_its_second_look() -> None:
    assert deliver(Image.new("RGB", (5000, 2500), "teal"), SECOND_LOOK).size == (2048, 1024)
    assert deliver(Image.new("RGB", (2048, 10), "teal"), SECOND_LOOK).size == (2048, 10)
