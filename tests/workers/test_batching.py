import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from schemas.errors import DeviceMemoryFull
from tests.waiting import wait_for
from workers.batching import MicroBatcher

PATIENCE_S = 20
UNLUCKY = 1313


class Doubler:
    """Doubles numbers; remembers its batches; can be held up and told what to choke on."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.entered.set()
        assert self.open.wait(PATIENCE_S)
        if UNLUCKY in numbers:
            raise ArithmeticError("unlucky")
        return [2 * number for number in numbers]


@pytest.fixture
def doubler() -> Doubler:
    return Doubler()


@pytest.fixture
def make(doubler: Doubler) -> Iterator[Callable[..., MicroBatcher[int, int]]]:
    made: list[MicroBatcher[int, int]] = []

    def batcher(
        max_batch: int = 8, max_wait_s: float = 0.01, run: Callable[..., list[int]] | None = None, lanes: int = 1
    ) -> MicroBatcher[int, int]:
        made.append(MicroBatcher(run or doubler, max_batch, max_wait_s, "test", lanes))
        return made[-1]

    yield batcher
    doubler.open.set()
    for each in made:
        each.close()


def hold(batcher: MicroBatcher[int, int], doubler: Doubler) -> None:
    """Keep the thread busy with one item, so that what follows piles up."""
    doubler.open.clear()
    batcher.submit(0)
    assert doubler.entered.wait(PATIENCE_S)


def test_what_piles_up_runs_in_full_batches_and_in_order(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make()
    hold(batcher, doubler)
    futures = [batcher.submit(number) for number in range(1, 21)]
    doubler.open.set()
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(1, 21)]
    assert doubler.batches == [[0], list(range(1, 9)), list(range(9, 17)), list(range(17, 21))]


def test_many_waiting_threads_fill_the_batches(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make(max_wait_s=0.5)
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda number: batcher.submit(number).result(PATIENCE_S), range(100, 500)))
    assert answers == [2 * number for number in range(100, 500)]
    assert 400 / len(doubler.batches) > 6


def test_a_lone_item_does_not_wait_for_company_for_ever(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    assert make().submit(5).result(PATIENCE_S) == 10
    assert doubler.batches == [[5]]


def test_items_within_the_waiting_time_travel_together(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make(max_wait_s=PATIENCE_S, max_batch=3)
    futures = [batcher.submit(number) for number in (1, 2, 3)]
    assert [future.result(PATIENCE_S / 2) for future in futures] == [2, 4, 6]
    assert doubler.batches == [[1, 2, 3]]


def test_one_bad_item_fails_alone(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make()
    hold(batcher, doubler)
    futures = {number: batcher.submit(number) for number in (12, UNLUCKY, 14)}
    doubler.open.set()
    assert (futures[12].result(PATIENCE_S), futures[14].result(PATIENCE_S)) == (24, 28)
    with pytest.raises(ArithmeticError, match="unlucky"):
        futures[UNLUCKY].result(PATIENCE_S)
    assert doubler.batches == [[0], [12, UNLUCKY, 14], [12, UNLUCKY], [12], [UNLUCKY], [14]]
    assert batcher.submit(15).result(PATIENCE_S) == 30


def test_finding_the_bad_item_takes_few_calls(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make(max_batch=16)
    hold(batcher, doubler)
    futures = [batcher.submit(UNLUCKY if number == 5 else number) for number in range(16)]
    doubler.open.set()
    assert [future.result(PATIENCE_S) for future in futures if future is not futures[5]] == [2 * n for n in range(16) if n != 5]
    assert isinstance(futures[5].exception(PATIENCE_S), ArithmeticError)
    assert len(doubler.batches) == 1 + 1 + 2 * 4  # the one that held it up, the batch, two halves at each of four sizes


def test_all_bad_items_fail_each_with_its_own_error(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    def refuse(numbers: Sequence[int]) -> list[int]:
        doubler(numbers)
        raise ValueError(f"not {list(numbers)}")

    batcher = make(run=refuse)
    hold(batcher, doubler)
    futures = [batcher.submit(number) for number in (1, 2, 3)]
    doubler.open.set()
    assert [str(future.exception(PATIENCE_S)) for future in futures] == ["not [1]", "not [2]", "not [3]"]


class Cramped(Doubler):
    """Has memory for a certain number of items."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self.room = room

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        answers = super().__call__(numbers)
        if len(numbers) > self.room:
            raise DeviceMemoryFull(f"{len(numbers)} do not fit")
        return answers


def test_what_does_not_fit_is_halved_and_the_smaller_size_kept(make: Callable[..., MicroBatcher[int, int]]) -> None:
    cramped = Cramped(room=2)
    batcher = make(run=cramped)
    hold(batcher, cramped)
    futures = [batcher.submit(number) for number in range(1, 21)]
    cramped.open.set()
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(1, 21)]
    sizes = [len(batch) for batch in cramped.batches[1:]]
    assert sizes == [8, 4, *[2] * 10]  # two failures, then no more


def test_more_is_tried_again_when_all_has_long_gone_well(make: Callable[..., MicroBatcher[int, int]]) -> None:
    cramped = Cramped(room=2)
    batcher = make(run=cramped, max_batch=4)
    hold(batcher, cramped)
    futures = [batcher.submit(number) for number in range(4)]
    cramped.open.set()
    wait(futures, PATIENCE_S)
    cramped.room = 4
    futures = [batcher.submit(number) for number in range(200)]
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(200)]
    assert [len(batch) for batch in cramped.batches[-5:-1]] == [4, 4, 4, 4]


def test_an_item_that_does_not_fit_alone_fails_alone(make: Callable[..., MicroBatcher[int, int]]) -> None:
    cramped = Cramped(room=0)
    batcher = make(run=cramped)
    hold(batcher, cramped)
    futures = [batcher.submit(number) for number in range(3)]
    cramped.open.set()
    assert [type(future.exception(PATIENCE_S)) for future in futures] == [DeviceMemoryFull] * 3
    cramped.room = 1
    assert batcher.submit(4).result(PATIENCE_S) == 8


class Device:
    """Doubles numbers in calls that end one by one, when they are let; knows how many were under way at once."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.at_once = self.most_at_once = 0
        self.may_end = threading.Semaphore(0)
        self.gate = threading.Lock()

    def __call__(self, numbers: Sequence[int]) -> list[int]:
        with self.gate:
            self.batches.append(list(numbers))
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        assert self.may_end.acquire(timeout=PATIENCE_S)
        with self.gate:
            self.at_once -= 1
        return [2 * number for number in numbers]


def test_with_two_lanes_one_full_batch_is_under_way_ahead(make: Callable[..., MicroBatcher[int, int]]) -> None:
    device = Device()
    batcher = make(run=device, max_batch=4, lanes=2)
    futures = [batcher.submit(number) for number in range(12)]
    wait_for(lambda: len(device.batches) == 2, "second batch under way")
    device.may_end.release()
    wait_for(lambda: len(device.batches) == 3, "third batch, when the first has ended")
    device.may_end.release(2)
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(12)]
    assert (device.most_at_once, sorted(map(tuple, device.batches))) == (2, [(0, 1, 2, 3), (4, 5, 6, 7), (8, 9, 10, 11)])


def test_a_batch_that_is_not_full_fills_up_while_the_device_is_busy(make: Callable[..., MicroBatcher[int, int]]) -> None:
    device = Device()
    batcher = make(run=device, max_batch=4, max_wait_s=0, lanes=2)
    futures = [batcher.submit(number) for number in range(1)]
    wait_for(lambda: device.batches == [[0]], "first batch")
    futures += [batcher.submit(number) for number in (1, 2)]
    futures += [batcher.submit(3)]
    device.may_end.release()
    wait_for(lambda: len(device.batches) == 2, "second batch")
    device.may_end.release()
    assert [future.result(PATIENCE_S) for future in futures] == [0, 2, 4, 6]
    assert (device.most_at_once, device.batches[1]) == (1, [1, 2, 3])


def test_with_two_lanes_a_bad_item_fails_alone_too(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make(max_batch=4, lanes=2)
    doubler.open.clear()
    futures = [batcher.submit(UNLUCKY if number == 6 else number) for number in range(40)]
    doubler.open.set()
    assert isinstance(futures.pop(6).exception(PATIENCE_S), ArithmeticError)
    assert [future.result(PATIENCE_S) for future in futures] == [2 * number for number in range(40) if number != 6]


def test_a_wrong_number_of_answers_is_an_error_not_a_mix_up(make: Callable[..., MicroBatcher[int, int]]) -> None:
    with pytest.raises(RuntimeError, match="2 answers for 1 items"):
        make(run=lambda numbers: [*numbers, 1]).submit(1).result(PATIENCE_S)


def test_a_cancelled_item_is_never_run(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make()
    hold(batcher, doubler)
    kept, cancelled = batcher.submit(1), batcher.submit(2)
    assert cancelled.cancel()
    doubler.open.set()
    assert kept.result(PATIENCE_S) == 2
    assert doubler.batches == [[0], [1]]


def test_a_batch_of_cancelled_items_is_not_run(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make(max_batch=2)
    hold(batcher, doubler)
    assert all([batcher.submit(number).cancel() for number in (1, 2)])
    last = batcher.submit(3)
    doubler.open.set()
    assert last.result(PATIENCE_S) == 6
    assert doubler.batches == [[0], [3]]


def test_an_item_that_runs_cannot_be_cancelled(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    doubler.open.clear()
    future = make().submit(4)
    assert doubler.entered.wait(PATIENCE_S)
    assert future.cancel() is False
    doubler.open.set()
    assert future.result(PATIENCE_S) == 8


def test_closing_runs_what_was_handed_in_and_refuses_more(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make()
    hold(batcher, doubler)
    futures = [batcher.submit(number) for number in range(20)]
    closer = threading.Thread(target=batcher.close)
    closer.start()
    doubler.open.set()
    closer.join(PATIENCE_S)
    assert not wait(futures, timeout=0).not_done
    assert [future.result(0) for future in futures] == [2 * number for number in range(20)]
    with pytest.raises(RuntimeError, match="closed"):
        batcher.submit(1)
    batcher.close()


def test_how_long_the_running_call_has_taken(make: Callable[..., MicroBatcher[int, int]], doubler: Doubler) -> None:
    batcher = make()
    assert batcher.busy_for_s() == 0
    hold(batcher, doubler)
    first = batcher.busy_for_s()
    wait_for(lambda: batcher.busy_for_s() > first > 0, "growth of the busy time")
    doubler.open.set()
    wait_for(lambda: batcher.busy_for_s() == 0, "end of the call")


def test_with_a_batch_under_way_ahead_the_longest_call_counts(make: Callable[..., MicroBatcher[int, int]]) -> None:
    device = Device()
    batcher = make(run=device, max_batch=1, lanes=2)
    futures = [batcher.submit(1), batcher.submit(2)]
    wait_for(lambda: len(device.batches) == 2, "both lanes busy")
    assert batcher.alive
    before = batcher.busy_for_s()
    device.may_end.release()
    wait_for(lambda: device.at_once == 1, "end of one of them")
    wait_for(lambda: batcher.busy_for_s() > before, "growth of the other one's time")
    device.may_end.release()
    assert {future.result(PATIENCE_S) for future in futures} == {2, 4}
    wait_for(lambda: batcher.busy_for_s() == 0, "end of both")
    batcher.close()
    assert not batcher.alive
