"""Many threads hand in single items; one thread runs them in batches and settles each item's future alone."""

import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")

_CLOSE: Final = None


class MicroBatcher(Generic[Item, Answer]):
    """Collects items until there are `max_batch` of them or the first has waited `max_wait_s`.

    Used twice: in front of the device, which only this thread touches, and in front of the SQL store, where a batch
    is one transaction.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Sequence[Answer]], max_batch: int, max_wait_s: float, name: str) -> None:
        """Start the thread.

        Args:
            run: takes 1 to `max_batch` items and returns one answer each, in order. If it raises on several items it
                is called again for each alone, so that only the one to blame fails.
            max_batch: items a call at most.
            max_wait_s: how long the first item of a batch waits for company.
            name: of the thread, for stack dumps.
        """
        self._run = run
        self._max_batch = max_batch
        self._max_wait_s = max_wait_s
        self._waiting: queue.SimpleQueue[tuple[Item, Future[Answer]] | None] = queue.SimpleQueue()
        self._busy_since: float | None = None
        self._closed = False
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)
        self._thread.start()

    def submit(self, item: Item) -> Future[Answer]:
        """Hand in one item. Cancelling the future before its batch starts takes it out again.

        Raises:
            RuntimeError: the batcher is closed.
        """
        future: Future[Answer] = Future()
        with self._gate:
            if self._closed:
                raise RuntimeError("the batcher is closed")
            self._waiting.put((item, future))
        return future

    def busy_for_s(self) -> float:
        """How long the call now running has taken; 0 between calls. A watchdog's view of a hung device."""
        since = self._busy_since
        return 0.0 if since is None else time.monotonic() - since

    def close(self) -> None:
        """Run what was handed in, then end the thread."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._waiting.put(_CLOSE)
        self._thread.join()

    def _loop(self) -> None:
        open_ = True
        while open_:
            batch, open_ = self._collect()
            started = [pair for pair in batch if pair[1].set_running_or_notify_cancel()]
            if started:
                self._busy_since = time.monotonic()
                self._settle(started)
                self._busy_since = None

    def _collect(self) -> tuple[list[tuple[Item, Future[Answer]]], bool]:
        """The next batch, and whether more may come after it."""
        batch: list[tuple[Item, Future[Answer]]] = []
        deadline = 0.0
        while len(batch) < self._max_batch:
            try:
                pair = self._waiting.get(timeout=max(0.0, deadline - time.monotonic())) if batch else self._waiting.get()
            except queue.Empty:
                break
            if pair is _CLOSE:
                return batch, False
            if not batch:
                deadline = time.monotonic() + self._max_wait_s
            batch.append(pair)
        return batch, True

    def _settle(self, batch: list[tuple[Item, Future[Answer]]]) -> None:
        try:
            answers = self._run([item for item, _ in batch])
            if len(answers) != len(batch):
                raise RuntimeError(f"{len(answers)} answers for {len(batch)} items")
        except Exception as error:
            if len(batch) == 1:
                batch[0][1].set_exception(error)
                return
            for pair in batch:
                self._settle([pair])
            return
        for (_, future), answer in zip(batch, answers, strict=True):
            future.set_result(answer)
