"""Ctrl-C and SIGTERM as a wish to stop at the next good place, instead of an exception in the middle of something."""

import signal
from types import FrameType, TracebackType
from typing import Any


class Interruption:
    """Notes the first signal while it is entered; the second one acts at once, as it does without this.

    A signal that is ignored stays ignored: who started this with nohup or in the background meant it.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interruption":
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None) -> None:
        self._restore()

    @property
    def exit_status(self) -> int:
        """What a shell reports of a program that ended by the signal."""
        return 128 + int(self.received or 0)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.received = signal.Signals(number)
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
