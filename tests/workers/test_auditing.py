import threading
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model import render
from model.predictor import Prediction, Predictor
from model.preprocess import prepare
from schemas.messages import AuditMessage
from schemas.settings import LimitSettings
from schemas.states import JobState
from storage.blobs import picture_key
from tests.pictures import picture_bytes, plain_picture_bytes

MakeWorker = Callable[..., Any]
Pixels = NDArray[np.uint8]


def answer(pictures: Sequence[Pixels]) -> list[Prediction]:
    return [Prediction(np.full((8, 8), 255, np.uint8), 3.0) for _ in pictures]


def is_dark(picture: Pixels) -> bool:
    return bool(picture.mean() < 40)


def test_a_picture_gets_mask_score_and_verdict(make_worker: MakeWorker, predictor: Predictor) -> None:
    worker, data = make_worker(), picture_bytes(1)
    message = worker.submit(data)
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.attempts, audited.job.error_code) == (JobState.DONE, 1, None)
    own = audited.own
    assert own is not None and set(audited.results) == {"none"}
    (direct,) = predictor.predict([prepare(data, predictor.input_size).pixels])
    assert own.mask_png == render.mask_png(direct.mask_net)
    assert (own.width_px, own.height_px, own.model_version) == (96, 72, predictor.card.version)
    assert 0 <= own.score <= 1 and own.latency_ms > 0
    assert own.mask_agreement == 1


def test_pictures_audited_together_get_what_each_gets_alone(make_worker: MakeWorker, predictor: Predictor) -> None:
    worker = make_worker(max_wait_ms=200)
    pictures = [picture_bytes(seed, 90 + seed, 60) for seed in range(6)]
    messages = [worker.submit(data) for data in pictures]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(worker.run, messages)) == [None] * 6
    for data, message in zip(pictures, messages, strict=True):
        own = worker.outcome(message).own
        (alone,) = predictor.predict([prepare(data, predictor.input_size).pixels])
        assert own is not None
        stored = render.read_mask_png(own.mask_png).astype(int)
        assert np.abs(stored - alone.mask_net).max() <= 1
        assert own.width_px == 90 + pictures.index(data)


def test_profiles_are_audited_and_compared_with_the_own_mask(make_worker: MakeWorker) -> None:
    worker = make_worker()
    message = worker.submit(picture_bytes(1), profiles=["wechat", "weibo"])
    assert worker.run(message) is None
    results = worker.outcome(message).results
    assert set(results) == {"none", "wechat", "weibo"}
    assert results["none"].mask_agreement == 1
    assert all(0 <= result.mask_agreement <= 1 for result in results.values())
    assert {(result.width_px, result.height_px) for result in results.values()} == {(96, 72)}


def test_agreement_is_the_overlap_of_the_two_masks(make_worker: MakeWorker) -> None:
    suspicious_rows = iter((8, 4))  # of the picture's own mask, then of the delivered one's

    def shrinking(pictures: Sequence[Pixels]) -> list[Prediction]:
        mask_net = np.zeros((8, 8), np.uint8)
        mask_net[: next(suspicious_rows)] = 255
        return [Prediction(mask_net, 0.0) for _ in pictures]

    worker = make_worker(shrinking, max_batch=1)
    message = worker.submit(picture_bytes(1), profiles=["wechat"])
    worker.run(message)
    results = worker.outcome(message).results
    assert (results["none"].area, results["wechat"].area) == (1.0, 0.5)
    assert (results["none"].mask_agreement, results["wechat"].mask_agreement) == (1.0, 0.5)
    assert results["none"].regions == [{"box": {"x0": 0, "y0": 0, "x1": 96, "y1": 72}, "score": 1.0}]


@pytest.mark.parametrize(
    ("data", "code"),
    [(b"", "empty"), (b"not a picture", "unsupported_format"), (picture_bytes(1)[:700], "decode_failed")],
)
def test_a_bad_picture_ends_under_its_own_name_at_once(make_worker: MakeWorker, data: bytes, code: str) -> None:
    worker = make_worker(answer)
    message = worker.submit(data)
    assert worker.run(message) is None
    audited = worker.outcome(message)
    assert (audited.job.state, audited.job.error_code, audited.job.attempts) == (JobState.FAILED, code, 1)
    assert audited.job.error_message and audited.job.finished_at
    assert audited.results == {}


def test_bytes_that_are_gone_end_the_job(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = AuditMessage(job_id=uuid.uuid4(), sha256="0" * 64, source="gone.jpg")
    assert worker.run(message) is None
    assert worker.outcome(message).job.error_code == "blob_missing"


def test_bytes_that_are_not_those_of_their_name_are_not_audited(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = AuditMessage(job_id=uuid.uuid4(), sha256="0" * 64, source="other.jpg")
    worker.blobs.put(picture_key(message.sha256), picture_bytes(1))
    assert worker.run(message) is None
    outcome = worker.outcome(message)
    assert (outcome.job.error_code, outcome.results) == ("blob_corrupt", {})


@pytest.mark.parametrize("limits", [LimitSettings(max_pixels=96 * 72 - 1), LimitSettings(max_bytes=1000)])
def test_limits_are_checked_by_the_worker_too(make_worker: MakeWorker, limits: LimitSettings) -> None:
    worker = make_worker(answer, limits=limits)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) is None
    assert worker.outcome(message).job.error_code == "too_large"


def test_an_unknown_profile_is_an_invalid_message(make_worker: MakeWorker) -> None:
    worker = make_worker(answer)
    message = worker.submit(picture_bytes(1), profiles=["wechat", "carrier pigeon"])
    assert worker.run(message) is None
    job = worker.outcome(message).job
    assert (job.state, job.error_code) == (JobState.FAILED, "invalid_message")
    assert job.error_message is not None and "carrier pigeon" in job.error_message


def test_a_model_that_chokes_on_one_picture_fails_that_one_alone(make_worker: MakeWorker) -> None:
    def chokes(pictures: Sequence[Pixels]) -> list[Prediction]:
        if any(is_dark(picture) for picture in pictures):
            raise FloatingPointError("dark")
        return answer(pictures)

    worker = make_worker(chokes, max_wait_ms=300, max_attempts=1)
    messages = [worker.submit(picture_bytes(seed)) for seed in range(3)]
    dark = worker.submit(plain_picture_bytes((10, 10, 12)))
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(worker.run, [*messages, dark]))
    assert [worker.outcome(message).job.state for message in messages] == [JobState.DONE] * 3
    job = worker.outcome(dark).job
    assert (job.state, job.error_code) == (JobState.FAILED, "model_failed")
    assert job.error_message is not None and "FloatingPointError: dark" in job.error_message


def test_a_model_that_does_not_answer_in_time(make_worker: MakeWorker) -> None:
    release = threading.Event()

    def hangs(pictures: Sequence[Pixels]) -> list[Prediction]:
        release.wait(30)
        return answer(pictures)

    worker = make_worker(hangs, predict_timeout_s=0.1)
    message = worker.submit(picture_bytes(1))
    try:
        assert worker.run(message) == 2.0
        job = worker.outcome(message).job
        assert (job.state, job.error_code) == (JobState.QUEUED, "model_timeout")
    finally:
        release.set()
    assert worker.run(message) is None
    assert worker.outcome(message).job.state is JobState.DONE
