"""Many threads hand in single items; few run them in batches and settle each item's future alone."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from schemas.errors import DeviceMemoryFull
from storage import telemetry
from workers.batch_size import FittingSize

Item = TypeVar("Item")
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _Waiting(Generic[Item, Answer]):
    """An item, and where its answer is waited for."""

    item: Item
    future: Future[Answer] = field(default_factory=Future)
    since_s: float = field(default_factory=time.monotonic)


class MicroBatcher(Generic[Item, Answer]):
    """Collects items until there are `max_batch` of them or the first has waited `max_wait_s`.

    Used twice: in front of the device, which only its threads touch, and in front of the SQL store, where a batch is one
    transaction. With two lanes one batch is under way ahead: while the first lane waits for the device, the second gathers
    and sends the next batch. It does so for a full one only; a smaller one goes on filling until the device is free.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Answer]],
        max_batch: int,
        max_wait_s: float,
        name: str,
        lanes: int = 1,
    ) -> None:
        """Start the threads.

        Args:
            run: takes 1 to `max_batch` items and returns one answer each, in order. If it raises on several items it
                is called again for each half of them, so that only the one to blame fails. After DeviceMemoryFull it is
                called with half as many from then on, and cautiously with more later.
            max_batch: items a call at most.
            max_wait_s: how long the first item of a batch waits for company once a call could begin.
            name: of the threads, for stack dumps and metrics.
            lanes: calls that may be under way at once.
        """
        self._run = run
        self._name = name
        self._size = FittingSize(max_batch)
        self._max_wait_s = max_wait_s
        self._waiting: deque[_Waiting[Item, Answer]] = deque()
        self._changed = threading.Condition()
        self._under_way = 0
        self._busy_since: dict[int, float] = {}
        self._closed = False
        self._threads = [
            threading.Thread(target=self._loop, args=(lane,), name=f"{name}-{lane}", daemon=True) for lane in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether its threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, item: Item) -> Future[Answer]:
        """Hand in one item. Cancelling the future before its batch starts takes it out again.

        Raises:
            RuntimeError: the batcher is closed.
        """
        waiting: _Waiting[Item, Answer] = _Waiting(item)
        with self._changed:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.append(waiting)
            self._changed.notify_all()
        return waiting.future

    def busy_for_s(self) -> float:
        """How long the longest call now running has taken; 0 between calls. A watchdog's view of a hung device."""
        since = min(self._busy_since.copy().values(), default=None)
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Run what was handed in, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _loop(self, lane: int) -> None:
        while batch := self._collect():
            self._settle([each for each in batch if each.future.set_running_or_notify_cancel()], lane)
            with self._changed:
                self._under_way -= 1
                self._changed.notify_all()

    def _collect(self) -> list[_Waiting[Item, Answer]]:
        """The next batch; empty when there will be none."""
        deadline = None
        with self._changed:
            while not self._closed and len(self._waiting) < self._size.now:
                if self._under_way or not self._waiting:
                    deadline = None
                    self._changed.wait()
                    continue
                deadline = deadline or time.monotonic() + self._max_wait_s
                if time.monotonic() >= deadline:
                    break
                self._changed.wait(deadline - time.monotonic())
            count = min(len(self._waiting), self._size.now)
            self._under_way += bool(count)
            return [self._waiting.popleft() for _ in range(count)]

    def _settle(self, batch: list[_Waiting[Item, Answer]], lane: int) -> None:
        """Answer each item: in one call if that goes, else half by half."""
        if len(batch) > self._size.now:
            self._settle_halves(batch, lane)
        elif batch:
            try:
                answers = self._called(batch, lane)
            except Exception as error:
                self._failed(batch, lane, error)
            else:
                self._size.fitted(len(batch))
                for waiting, answer in zip(batch, answers, strict=True):
                    waiting.future.set_result(answer)

    def _failed(self, batch: list[_Waiting[Item, Answer]], lane: int, error: Exception) -> None:
        if isinstance(error, DeviceMemoryFull):
            self._size.ran_out(len(batch))
        if len(batch) > 1:
            self._settle_halves(batch, lane)
        else:
            batch[0].future.set_exception(error)

    def _settle_halves(self, batch: list[_Waiting[Item, Answer]], lane: int) -> None:
        middle = (len(batch) + 1) // 2
        self._settle(batch[:middle], lane)
        self._settle(batch[middle:], lane)

    def _called(self, batch: list[_Waiting[Item, Answer]], lane: int) -> Sequence[Answer]:
        started_s = self._busy_since[lane] = time.monotonic()
        try:
            answers = self._run([waiting.item for waiting in batch])
        finally:
            del self._busy_since[lane]
            telemetry.batch_ran(self._name, [started_s - each.since_s for each in batch], time.monotonic() - started_s)
        if len(answers) != len(batch):
            raise RuntimeError(f"{len(answers)} answers for {len(batch)} items")
        return answers
