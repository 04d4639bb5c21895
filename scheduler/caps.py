"""No single account decides what is learned: how many pictures of each group are kept."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")


def capped(
    items: Sequence[T], group: Callable[[T], Hashable | None], *, share: float, most: int, floor: int
) -> tuple[list[T], list[T]]:
    """Keep at most so many items of each group that none is more than its share of what is kept.

    Args:
        items: the most wanted first; of each group the first are kept.
        group: of an item; None where nothing limits it.
        share: largest part, 0..1, of all items kept that one group may have.
        most: largest number of one group, whatever its share.
        floor: the share never cuts a group below this; `most` may.

    Returns:
        Items kept and items left out, both in their order.
    """
    sizes = Counter(key for item in items if (key := group(item)) is not None)
    free = sum(group(item) is None for item in items)
    cap = min(most, max(floor, _fair_cap(sorted(sizes.values()), free, share)))
    seen: Counter[Hashable] = Counter()
    kept: list[T] = []
    out: list[T] = []
    for item in items:
        key = group(item)
        seen[key] += 1
        (kept if key is None or seen[key] <= cap else out).append(item)
    return kept, out


def _fair_cap(sizes: Sequence[int], free: int, share: float) -> int:
    """The largest c for which c is at most its share of sum(min(size, c)) + free, or beyond every size."""
    low, high = 0, max(sizes, default=0)
    while low < high:
        middle = (low + high + 1) // 2
        if middle <= share * (free + sum(min(size, middle) for size in sizes)):
            low = middle
        else:
            high = middle - 1
    return low
