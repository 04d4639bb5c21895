"""Which queue a worker asks first: weighted shares of Redis' queues, so that bulk neither starves nor delays high.

kombu asks Redis with one BRPOP for all queues, which answers from the first in its list that holds something. So the list
always names every queue, an empty one costs nothing, and only the order is ours: stride scheduling (Waldspurger and Weihl,
1995). Each queue has a time at which it is due again, one service of weight w moves it on by 1/w, and the earliest goes
first. A queue that was asked before another and gave nothing was empty: it is due as of now, so that it neither saves up
turns for later nor has to wait for its first.
"""

from collections.abc import Iterable, Mapping

from schemas.settings import WorkerSettings
from schemas.states import AuditQueue


class WeightedOrder:
    """A `queue_order_strategy` of kombu's Redis channel; each channel has its own."""

    def __init__(self, weights: Mapping[str, float]) -> None:
        """`weights`: share of each queue by its name in Redis, above 0; a queue without one weighs 1."""
        self._weights = dict(weights)
        self._due: dict[str, float] = {}
        self._asked: list[str] = []

    def update(self, queues: Iterable[str]) -> None:
        """From now on these queues are served. One that is new is due with the earliest."""
        earliest = min(self._due.values(), default=0.0)
        self._due = {queue: self._due.get(queue, earliest) for queue in queues}

    def consume(self, count: int) -> list[str]:
        """The first `count` queues in the order in which to ask them; among those due at once, the heaviest first."""
        self._asked = sorted(self._due, key=lambda queue: (self._due[queue], -self._weight(queue), queue))
        return self._asked[:count]

    def rotate(self, served: str) -> str:
        """Note which queue gave a message to the last order, and return it."""
        if served in self._due:
            at = self._due[served]
            for queue in self._asked[: self._asked.index(served)] if served in self._asked else ():
                self._due[queue] = at
            self._due[served] = at + 1 / self._weight(served)
        return served

    def _weight(self, queue: str) -> float:
        return self._weights.get(queue, 1.0)


def shares_of(settings: WorkerSettings) -> dict[str, float]:
    """The weight of each queue by its name in Redis."""
    shares = {
        AuditQueue.HIGH: settings.share_high,
        AuditQueue.DEFAULT: settings.share_default,
        AuditQueue.BULK: settings.share_bulk,
    }
    return {queue.celery_name: float(share) for queue, share in shares.items()}
