"""Celery's pool of threads, which can be told to stop while some of them are at work.

Celery's own raises NotImplementedError when a worker cancels what it still has in hand at the end of its grace period, and
then waits for it however long that takes. Threads cannot be ended. Here they are left behind: their messages go back to
Redis as the worker closes its connection, their claims as the pipeline closes, and fences keep out what they still bring.
"""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from celery.concurrency import thread

_THREADS = "audit-task"


class LeftBehind(thread.ApplyResult):  # type: ignore[misc]
    """A task handed to a thread, as Celery holds it."""

    def terminate(self, signal: Any = None) -> None:
        """Nothing: it goes on until the process ends."""


class TaskPool(thread.TaskPool):  # type: ignore[misc]
    """A thread for each of `limit` tasks."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # In place of Celery's, which has no thread yet, so that its threads can be told from others.
        self.executor = ThreadPoolExecutor(self.limit, _THREADS)
        self._giving_up = False

    def on_apply(self, *args: Any, **kwargs: Any) -> LeftBehind:
        """Hand a task to a thread."""
        return LeftBehind(super().on_apply(*args, **kwargs).f)

    def terminate_job(self, pid: int, signal: Any = None) -> None:  # noqa: ARG002
        """Told for each task in hand when the grace period is over: wait for none of them."""
        self._giving_up = True

    def on_stop(self) -> None:
        """Wait for the threads, unless they were given up."""
        if self._giving_up:
            self.executor.shutdown(wait=False, cancel_futures=True)
        else:
            super().on_stop()


def threads_left() -> bool:
    """Whether threads that were left behind would keep this process from ending."""
    return any(each.name.startswith(_THREADS) for each in threading.enumerate())
