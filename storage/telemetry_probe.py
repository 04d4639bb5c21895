"""Questions to a store that may not answer: asked one at a time, answered from memory for a while, never waited for long."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Generic, TypeVar

Value = TypeVar("Value")

_PATIENCE_S = 2.0
# An answer that was costly is kept for longer, so that no number of readers loads the store by more than a twentieth.
_REST_PER_COST = 20.0


class Probe(Generic[Value]):
    """One question, at most one asking of it under way, and its newest answer."""

    def __init__(self, name: str, ask: Callable[[], Value], fresh_s: float = 5.0, patience_s: float = _PATIENCE_S) -> None:
        """Nothing is asked yet.

        Args:
            name: of who is asked, for messages.
            ask: the question; it may take long, and raises where there is no answer.
            fresh_s: for how long an answer, or the error in its place, is given again without asking.
            patience_s: how long a caller waits for a new answer.
        """
        self._name = name
        self._ask = ask
        self._fresh_s = fresh_s
        self._patience_s = patience_s
        self._gate = threading.Lock()
        self._newest: Future[Value] | None = None
        self._asking: Future[Value] | None = None
        self._asked_at = 0.0
        self._stale_at = 0.0

    def answer(self) -> Value:
        """The newest answer.

        Raises:
            TimeoutError: none has come within the patience. The question stays asked; a later call may find its answer.
            Exception: what the question raised.
        """
        pending = self._pending()
        if not wait([pending], timeout=self._patience_s).done:
            raise TimeoutError(f"{self._name} has not answered for {time.monotonic() - self._asked_at:.0f} s")
        return pending.result()

    def expire(self) -> None:
        """Ask anew at the next call, unless the question is under way."""
        with self._gate:
            self._stale_at = 0.0

    def _pending(self) -> "Future[Value]":
        with self._gate:
            if self._asking is not None:
                return self._asking
            if self._newest is not None and time.monotonic() < self._stale_at:
                return self._newest
            self._asking, self._asked_at = Future(), time.monotonic()
            # Not a pool: a thread that hangs in a driver would keep the process from ending.
            threading.Thread(target=self._run, args=(self._asking,), name=f"probe-{self._name}", daemon=True).start()
            return self._asking

    def _run(self, asking: "Future[Value]") -> None:
        rest_s = self._fresh_s
        try:
            asking.set_result(self._ask())
            rest_s = max(rest_s, _REST_PER_COST * (time.monotonic() - self._asked_at))
        except Exception as error:
            # Time lost on somebody who is away is no load: whether they are back is looked at as soon as ever.
            asking.set_exception(error)
        with self._gate:
            self._newest, self._asking, self._stale_at = asking, None, time.monotonic() + rest_s
