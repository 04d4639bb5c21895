"""Work on files in as many threads as there are cores: Pillow lets go of the interpreter while it decodes."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")

Progress = Callable[[int, int], None]
_WINDOW = 1024  # items that wait at a time, so that a long list does not become as many futures


def in_threads(function: Callable[[A], B], items: Sequence[A], progress: Progress | None = None) -> list[B]:
    """The function's results, in the items' order.

    Args:
        function: must be safe to call from several threads; what it raises ends the work and is raised here.
        items: its arguments.
        progress: called in this thread with (done, all) after each item.
    """
    results: list[B] = []
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for start in range(0, len(items), _WINDOW):
            for result in pool.map(function, items[start : start + _WINDOW]):
                results.append(result)
                if progress:
                    progress(len(results), len(items))
    return results
