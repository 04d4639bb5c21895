"""Reading a store that may be away for a while."""

import time
from collections.abc import Callable
from typing import TypeVar

from cli.console import plain, stderr
from schemas.errors import StoreUnavailable

Answer = TypeVar("Answer")
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 15.0
_SLICE_S = 0.1


def read_patiently(read: Callable[[], Answer], stopped: Callable[[], bool], give_up_s: float | None = None) -> Answer | None:
    """The answer of `read`, tried again with growing pauses while the store is away; says so once on standard error.

    Args:
        read: one whole reading; doing it again must do no harm.
        stopped: whether a person wants to stop.
        give_up_s: how long the store may be away; None waits for as long as it takes.

    Returns:
        What was read, or None if a person stopped it first.

    Raises:
        StoreUnavailable: the store was away for longer than `give_up_s`.
    """
    since, pause_s, said = time.monotonic(), _FIRST_PAUSE_S, ""
    while not stopped():
        try:
            answer = read()
        except StoreUnavailable as error:
            if give_up_s is not None and time.monotonic() - since > give_up_s:
                raise
            if error.message != said:
                stderr.print(f"[yellow]waiting[/]: {plain(error.message)}", highlight=False, soft_wrap=True)
            said = error.message
            pause(pause_s, stopped)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            continue
        if said:
            stderr.print("the results store answers again", highlight=False)
        return answer
    return None


def pause(seconds: float, stopped: Callable[[], bool]) -> None:
    """Sleep, but not on after a person wants to stop: Python resumes a sleep that a noted signal interrupted."""
    until = time.monotonic() + seconds
    while not stopped() and (left_s := until - time.monotonic()) > 0:
        time.sleep(min(left_s, _SLICE_S))
