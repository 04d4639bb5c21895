"""How much may be decoded at once: a file of 46 bytes can hold 80 million pixels, and a worker has many threads."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class PixelBudget:
    """Threads that hold pixels, never more of them together than the budget; who finds no room waits."""

    def __init__(self, pixels: int) -> None:
        """Begin with everything free.

        Args:
            pixels: width x height, summed over all that is held at one time.
        """
        self._pixels = pixels
        self._held = 0
        self._changed = threading.Condition()
        self._turn = threading.Lock()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Wait for room, and hold it while the block runs. What exceeds the whole budget goes alone."""
        wanted = min(pixels, self._pixels)
        # One waits at a time and the others behind it, or small pictures would overtake a large one for ever.
        with self._turn, self._changed:
            self._changed.wait_for(lambda: self._held + wanted <= self._pixels)
            self._held += wanted
        try:
            yield
        finally:
            with self._changed:
                self._held -= wanted
                self._changed.notify_all()
