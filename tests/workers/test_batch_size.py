"""How large a batch is: found on devices that are made up, halved when memory runs out, tried larger again with patience."""

import logging
from collections.abc import Callable

import pytest

from schemas.errors import DeviceMemoryFull
from workers.batch_size import FittingSize, Trial, best_batch, doublings


def device(per_call_s: float, per_picture_s: float, room: int = 10_000, needs: float = 0.0) -> Callable[[int], Trial]:
    """A device whose calls cost so much each and so much for each picture, with memory for `room` of them."""

    def try_size(size: int) -> Trial:
        if size > room:
            raise DeviceMemoryFull(f"{size} do not fit")
        return Trial(size / (per_call_s + size * per_picture_s), needs * size)

    return try_size


@pytest.mark.parametrize(
    ("per_call_s", "per_picture_s", "chosen"),
    [
        (0.0, 0.001, 1),  # nothing to share out: a batch gains nothing
        (0.001, 0.001, 16),  # 16: 17 ms, 32: 33 ms; the rate grows by 3 %
        (0.010, 0.001, 128),  # a long way to call, short work
        (0.003, 0.001, 32),
    ],
)
def test_doubling_ends_when_it_hardly_pays(per_call_s: float, per_picture_s: float, chosen: int) -> None:
    assert best_batch(device(per_call_s, per_picture_s), memory_share=1) == chosen


def test_memory_bounds_the_batch() -> None:
    assert best_batch(device(1.0, 0.001, needs=0.01), memory_share=0.4) == 32
    assert best_batch(device(1.0, 0.001, room=9), memory_share=1) == 8


def test_one_picture_is_taken_even_where_it_needs_more_than_its_share() -> None:
    assert best_batch(device(1.0, 0.001, needs=0.9), memory_share=0.4) == 1


def test_a_device_without_room_for_one_picture_says_so() -> None:
    with pytest.raises(DeviceMemoryFull, match="1 do not fit"):
        best_batch(device(1.0, 0.001, room=0), memory_share=1)


def test_no_size_beyond_the_last_is_tried() -> None:
    tried = [size for size, _ in doublings(device(1.0, 0.001), memory_share=1, largest=20)]
    assert tried == [1, 2, 4, 8, 16]


def test_what_was_measured_and_chosen_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "workers.batch_size"):
        best_batch(device(0.001, 0.001), memory_share=1)
    assert caplog.messages[0] == "a batch of 1: 500.0 pictures/s, 0 % of the device's memory"
    assert caplog.messages[-1] == "batches of up to 16 pictures"


def calls_until_more_is_tried(size: FittingSize, limit: int = 100_000) -> int:
    before = size.now
    for call in range(1, limit):
        size.fitted(before)
        if size.now > before:
            return call
    raise AssertionError(f"no more was tried in {limit} calls")


def test_halves_add_up_from_several_failures() -> None:
    size = FittingSize(16)
    for failed, left in ((16, 8), (8, 4), (16, 4), (4, 2), (2, 1), (1, 1)):
        size.ran_out(failed)
        assert size.now == left


def test_each_vain_trial_of_more_doubles_the_wait_for_the_next() -> None:
    size = FittingSize(16)
    size.ran_out(16)
    waits = []
    for _ in range(4):
        waits.append(calls_until_more_is_tried(size))
        assert size.now == 16
        size.ran_out(16)
    assert waits == [64, 128, 256, 512]


def test_only_calls_of_the_full_smaller_size_count() -> None:
    size = FittingSize(16)
    size.ran_out(16)
    for _ in range(1000):
        size.fitted(3)
    assert size.now == 8
    assert calls_until_more_is_tried(size) == 64


def test_an_odd_size_grows_back_to_itself_and_not_beyond() -> None:
    size = FittingSize(5)
    size.ran_out(5)
    assert size.now == 2
    calls_until_more_is_tried(size)
    calls_until_more_is_tried(size)
    assert size.now == size.most == 5
    size.fitted(5)
    assert size.now == 5
