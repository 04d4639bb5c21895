"""Pictures on a device whose memory runs out: all that fit by fewer are audited, one that does not fit alone is named."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from model.predictor import Prediction
from schemas.errors import DeviceMemoryFull
from schemas.states import JobState
from tests.pictures import picture_bytes

MakeWorker = Callable[..., Any]


class Room:
    """A network that fits so many pictures at a time."""

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self.batches: list[int] = []

    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        self.batches.append(len(pictures))
        if len(pictures) > self.pictures:
            raise DeviceMemoryFull(f"{len(pictures)} pictures do not fit")
        return [Prediction(np.zeros((8, 8), np.uint8), 0.0) for _ in pictures]


def test_every_picture_of_a_batch_that_did_not_fit_is_audited(make_worker: MakeWorker) -> None:
    room = Room(1)
    worker = make_worker(room, max_wait_ms=500)
    messages = [worker.submit(picture_bytes(seed)) for seed in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(worker.run, messages)) == [None] * 4
    jobs = [worker.outcome(message).job for message in messages]
    assert {(job.state, job.attempts) for job in jobs} == {(JobState.DONE, 1)}
    assert max(room.batches) > 1  # or nothing was put to the test
    assert room.batches.count(1) == 4


def test_a_picture_that_does_not_fit_alone_is_tried_again_and_ends_under_its_own_name(make_worker: MakeWorker) -> None:
    worker = make_worker(Room(0), max_attempts=2)
    message = worker.submit(picture_bytes(1))
    assert worker.run(message) == pytest.approx(2.0)
    assert worker.outcome(message).job.error_code == "device_memory_full"
    assert worker.run(message) is None
    job = worker.outcome(message).job
    assert (job.state, job.error_code, job.error_message) == (JobState.FAILED, "device_memory_full", "1 pictures do not fit")
