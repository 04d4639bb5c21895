"""Who may have killed a worker works alone: a picture that does so again takes no other with it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Company:
    """Lets many threads work together, or one with nobody beside it."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._together = 0
        self._alone = False
        self._wanting_alone = 0

    @contextmanager
    def together(self) -> Iterator[None]:
        """Work beside others, once nobody is alone or waits to be: who comes later must not keep that one waiting for ever."""
        with self._changed:
            self._changed.wait_for(lambda: not self._alone and not self._wanting_alone)
            self._together += 1
        try:
            yield
        finally:
            with self._changed:
                self._together -= 1
                self._changed.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Work with nobody beside, once those who are at work have finished."""
        with self._changed:
            self._wanting_alone += 1
            self._changed.wait_for(lambda: not self._alone and not self._together)
            self._wanting_alone -= 1
            self._alone = True
        try:
            yield
        finally:
            with self._changed:
                self._alone = False
                self._changed.notify_all()
