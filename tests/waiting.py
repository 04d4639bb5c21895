"""Wait for a condition instead of sleeping for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")
_POLL_S = 0.05


def wait_for(condition: Callable[[], Value], what: str, timeout_s: float = 30.0) -> Value:
    """Call `condition` until its answer is true, and return that answer.

    Raises:
        TimeoutError: naming what was waited for.
    """
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"after {timeout_s:g} s there is still no {what}")
        time.sleep(_POLL_S)
    return answer
