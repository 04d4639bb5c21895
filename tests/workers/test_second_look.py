"""The pipeline's second look at pictures near a threshold: when it is taken, at what, and what it changes."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import select

from model.budget import PixelBudget
from model.card import Card, builtin_directory
from model.compress import deliver
from model.predictor import Prediction
from model.preprocess import decode, prepare, stretch
from model.stability import SECOND_LOOK
from schemas.states import JobState
from schemas.tables import AuditResult
from tests.pictures import picture_bytes, plain_picture_bytes

MakeWorker = Callable[..., Any]
Pixels = NDArray[np.uint8]

BAND = 0.5
CALIBRATION = Card.load(builtin_directory()).calibration
NEAR_REVIEW, FAR_BELOW = CALIBRATION.review_threshold - 1e-6, CALIBRATION.review_threshold / 10
NEAR_FLAG, BELOW_FLAG = CALIBRATION.flag_threshold + 1e-6, CALIBRATION.flag_threshold - 1e-6


class Scripted:
    """A network that gives these calibrated scores one after another, and keeps what it was shown."""

    def __init__(self, *scores: float) -> None:
        self.seen: list[Pixels] = []
        self._scores = iter(scores)

    def __call__(self, pictures: Sequence[Pixels]) -> list[Prediction]:
        self.seen.extend(pictures)
        return [Prediction(np.zeros((8, 8), np.uint8), self._logit(next(self._scores))) for _ in pictures]

    def _logit(self, score: float) -> float:
        return (math.log(score / (1 - score)) - CALIBRATION.bias) * CALIBRATION.temperature


@pytest.mark.parametrize(
    ("first", "second", "verdict", "stable"),
    [
        (NEAR_FLAG, BELOW_FLAG, "review", False),
        (NEAR_FLAG, FAR_BELOW, "review", False),
        (NEAR_REVIEW, NEAR_FLAG, "review", False),
        (BELOW_FLAG, NEAR_FLAG, "review", False),
        (NEAR_FLAG, NEAR_FLAG + 1e-6, "flag", True),
        (NEAR_REVIEW, FAR_BELOW, "pass", True),
    ],
)
def test_near_a_threshold_a_second_look_decides(
    make_worker: MakeWorker, first: float, second: float, verdict: str, stable: bool
) -> None:
    network = Scripted(first, second)
    worker = make_worker(network, stability_band=BAND)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert set(audited.results) == {"none"} and len(network.seen) == 2
    own = audited.own
    assert (own.score, own.second_score) == (pytest.approx(first, abs=1e-9), pytest.approx(second, abs=1e-9))
    assert (own.verdict, own.stable) == (verdict, stable)


def test_the_second_look_is_at_the_recompressed_picture(make_worker: MakeWorker) -> None:
    network = Scripted(NEAR_FLAG, NEAR_FLAG)
    worker, data = make_worker(network, stability_band=BAND), picture_bytes(1)
    worker.run(worker.submit(data))
    first, second = network.seen
    assert np.array_equal(first, prepare(data, 32).pixels)
    assert np.array_equal(second, stretch(deliver(decode(data), SECOND_LOOK), 32))
    assert not np.array_equal(first, second)


@pytest.mark.parametrize(("score", "band"), [(FAR_BELOW, BAND), (NEAR_FLAG, 0)])
def test_far_from_the_thresholds_or_without_a_band_one_look_is_all(
    make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch, score: float, band: float
) -> None:
    decoded: list[bytes] = []
    monkeypatch.setattr("workers.auditing.preprocess.decode", lambda data, _: decoded.append(data))
    network = Scripted(score)
    worker = make_worker(network, stability_band=band)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) is None
    own = worker.outcome(message).own
    assert (own.second_score, own.stable, len(network.seen), decoded) == (None, None, 1, [])


def test_simulated_deliveries_get_no_second_look(make_worker: MakeWorker) -> None:
    network = Scripted(FAR_BELOW, NEAR_FLAG, NEAR_REVIEW)
    worker = make_worker(network, stability_band=BAND, max_batch=1)
    message = worker.submit(picture_bytes(1), profiles=["wechat", "weibo"])
    assert worker.run(message) is None
    results = worker.outcome(message).results
    assert {name: (each.verdict, each.stable) for name, each in results.items()} == {
        "none": ("pass", None),
        "wechat": ("flag", None),
        "weibo": ("pass", None),
    }
    assert len(network.seen) == 3


def test_a_second_look_beside_profiles_concerns_the_own_picture_alone(make_worker: MakeWorker) -> None:
    network = Scripted(NEAR_FLAG, NEAR_FLAG, FAR_BELOW)
    worker = make_worker(network, stability_band=BAND, max_batch=1)
    message = worker.submit(picture_bytes(1), profiles=["wechat"])
    assert worker.run(message) is None
    results = worker.outcome(message).results
    assert {name: (each.verdict, each.stable) for name, each in results.items()} == {
        "none": ("review", False),
        "wechat": ("flag", None),
    }


def test_a_second_look_keeps_to_the_pixel_budget(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[int] = []

    class Counting(PixelBudget):
        def hold(self, pixels: int) -> AbstractContextManager[None]:
            held.append(pixels)
            return super().hold(pixels)

    monkeypatch.setattr("workers.auditing._DELIVERING", Counting(96 * 72))
    worker = make_worker(Scripted(NEAR_FLAG, NEAR_FLAG, FAR_BELOW), stability_band=BAND)
    worker.run(worker.submit(picture_bytes(1)))
    worker.run(worker.submit(picture_bytes(2)))
    assert held == [96 * 72]


def test_a_second_look_that_fails_brings_the_picture_back_to_end_once(make_worker: MakeWorker) -> None:
    scripted, answers = Scripted(NEAR_FLAG, NEAR_FLAG, FAR_BELOW), iter((True, False, True, True))

    def falters(pictures: Sequence[Pixels]) -> list[Prediction]:
        if not next(answers):
            raise FloatingPointError("the second look")
        return scripted(pictures)

    worker = make_worker(falters, stability_band=BAND)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) == 2.0
    waiting = worker.outcome(message)
    assert (waiting.job.state, waiting.job.error_code, waiting.results) == (JobState.QUEUED, "model_failed", {})
    assert worker.run(message) is None
    ended = worker.outcome(message)
    assert (ended.job.state, ended.job.attempts, ended.job.error_code) == (JobState.DONE, 2, None)
    assert (ended.own.verdict, ended.own.stable) == ("review", False)


def test_pictures_in_many_hands_each_get_their_own_second_look(make_worker: MakeWorker) -> None:
    def by_brightness(pictures: Sequence[Pixels]) -> list[Prediction]:
        wanted = [NEAR_FLAG if picture.mean() < 40 else FAR_BELOW for picture in pictures]
        return [prediction for score in wanted for prediction in Scripted(score)([pictures[0]])]

    worker = make_worker(by_brightness, stability_band=BAND, max_wait_ms=100)
    dark = [worker.submit(plain_picture_bytes((10, 10, blue))) for blue in range(12, 16)]
    bright = [worker.submit(picture_bytes(seed)) for seed in range(4)]
    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(worker.run, [*dark, *bright, *dark]))
    # A message whose job is in another hand waits; one hand of each pair must have brought the outcome.
    for first, second in zip(waits[: len(dark)], waits[-len(dark) :], strict=True):
        assert None in (first, second)
    assert set(waits[len(dark) : -len(dark)]) == {None}
    assert [(each.own.verdict, each.own.stable) for each in map(worker.outcome, dark)] == [("flag", True)] * 4
    assert [(each.own.verdict, each.own.stable) for each in map(worker.outcome, bright)] == [("pass", None)] * 4
    with worker.database.read() as session:
        assert len(session.exec(select(AuditResult)).all()) == 8
