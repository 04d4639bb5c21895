"""The way of a batch through the device, on the CPU and on hardware that behaves like a device: padded, with two lanes."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.hardware import HostHardware, Step
from model.staging import Staging, padded
from tests.waiting import wait_for

SIDE, MASK = 4, 2
PATIENCE_S = 20


def brightness(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """The first channel's corners as masks, the mean as logit."""
    return pictures[:, ::2, ::2, 0].clone(), pictures.float().mean((1, 2, 3))


class Padding(HostHardware):
    """Two lanes and few sizes, like a GPU; counts what is recorded, and remembers the sizes that ran."""

    lanes = 2
    fixed_shapes = True

    def __init__(self) -> None:
        self.recorded: list[int] = []
        self.ran: list[int] = []

    def record(self, step: Step, pictures: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
        self.recorded.append(len(pictures))

        def replay() -> tuple[Tensor, Tensor]:
            self.ran.append(len(pictures))
            return step(pictures)

        return replay


def drawn(count: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8))


def assert_right(pictures: list[NDArray[np.uint8]], masks: NDArray[np.uint8], logits: NDArray[np.float32]) -> None:
    assert (masks.shape, masks.dtype) == ((len(pictures), MASK, MASK), np.uint8)
    assert (logits.shape, logits.dtype) == ((len(pictures),), np.float32)
    for picture, mask, logit in zip(pictures, masks, logits, strict=True):
        assert np.array_equal(mask, picture[::2, ::2, 0])
        assert logit == pytest.approx(picture.mean(), abs=1e-3)


@pytest.mark.parametrize(("count", "size"), [(1, 1), (2, 2), (3, 4), (4, 4), (5, 8), (16, 16), (17, 32)])
def test_sizes_are_powers_of_two(count: int, size: int) -> None:
    assert padded(count) == size


@pytest.mark.parametrize("hardware", [HostHardware(), Padding()], ids=["cpu", "padding"])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_each_picture_gets_its_own_answer(hardware: HostHardware, count: int) -> None:
    staging = Staging(brightness, SIDE, MASK, hardware)
    for seed in range(3):  # what the batch before left in the buffers must not show
        pictures = drawn(count, seed)
        assert_right(pictures, *staging.run(pictures))


def test_work_is_recorded_once_a_size() -> None:
    hardware = Padding()
    staging = Staging(brightness, SIDE, MASK, hardware)
    for count in (1, 3, 4, 2, 3, 1, 4):
        staging.run(drawn(count))
    assert (hardware.recorded, hardware.ran) == ([1, 4, 2], [1, 4, 4, 2, 4, 1, 4])


def test_answers_outlive_the_next_batch() -> None:
    staging = Staging(brightness, SIDE, MASK, Padding())
    first = staging.run(drawn(2, seed=1))
    kept = [array.copy() for array in first]
    staging.run(drawn(2, seed=2))
    assert all(np.array_equal(before, after) for before, after in zip(kept, first, strict=True))


def test_many_threads_of_many_sizes_do_not_mix_up_their_pictures() -> None:
    staging = Staging(brightness, SIDE, MASK, Padding())

    def check(seed: int) -> None:
        pictures = drawn(1 + seed % 7, seed)
        assert_right(pictures, *staging.run(pictures))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(check, range(200)))


class Waiting(Padding):
    """A device whose batches end when they are let, though they have begun in order."""

    def __init__(self) -> None:
        super().__init__()
        self.may_end = threading.Semaphore(0)

    def passage(self) -> "Held":
        return Held(self.may_end)


class Held:
    """A passage that ends when it is let."""

    def __init__(self, may_end: threading.Semaphore) -> None:
        self._may_end = may_end
        host = HostHardware().passage()
        self.sending, self.computing = host.sending, host.computing

    def wait(self) -> float:
        assert self._may_end.acquire(timeout=PATIENCE_S)
        return 0.25


def test_the_next_batch_is_begun_while_the_one_before_is_waited_for_and_no_third() -> None:
    device = Waiting()
    staging = Staging(brightness, SIDE, MASK, device)
    batches = [drawn(2, seed) for seed in range(3)]
    with ThreadPoolExecutor(3) as threads:
        futures = [threads.submit(staging.run, batch) for batch in batches]
        wait_for(lambda: len(device.ran) == 2, "two batches begun")
        device.may_end.release()
        wait_for(lambda: len(device.ran) == 3, "third batch begun")
        assert sum(future.done() for future in futures) == 1
        device.may_end.release(2)
        for pictures, future in zip(batches, futures, strict=True):
            assert_right(pictures, *future.result(PATIENCE_S))
    assert staging.busy_s == 0.75


def test_a_batch_that_failed_leaves_its_lane_to_the_next() -> None:
    failing = [True, True, True]

    def step(pictures: Tensor) -> tuple[Tensor, Tensor]:
        if failing:
            failing.pop()
            raise RuntimeError("out of memory")
        return brightness(pictures)

    staging = Staging(step, SIDE, MASK, Padding())
    for _ in range(3):  # more often than there are lanes
        with pytest.raises(RuntimeError, match="out of memory"):
            staging.run(drawn(2))
    pictures = drawn(2)
    assert_right(pictures, *staging.run(pictures))


def test_a_size_that_could_not_be_made_is_tried_anew() -> None:
    class Full(Padding):
        full = True

        def record(self, step: Step, pictures: Tensor) -> Callable[[], tuple[Tensor, Tensor]]:
            if self.full:
                raise RuntimeError("CUDA out of memory")
            return super().record(step, pictures)

    device = Full()
    staging = Staging(brightness, SIDE, MASK, device)
    with pytest.raises(RuntimeError, match="out of memory"):
        staging.run(drawn(4))
    device.full = False
    pictures = drawn(4)
    assert_right(pictures, *staging.run(pictures))


def test_no_gradients_are_kept() -> None:
    seen: list[bool] = []

    def step(pictures: Tensor) -> tuple[Tensor, Tensor]:
        seen.append(torch.is_inference_mode_enabled())
        return brightness(pictures)

    with ThreadPoolExecutor(1) as threads:
        threads.submit(Staging(step, SIDE, MASK, HostHardware()).run, drawn(1)).result(PATIENCE_S)
    assert seen == [True]
