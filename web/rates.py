"""How often something may be done: counted in Redis for all processes, and by each for itself while Redis is away."""

import logging
import math
import time
from typing import Final

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis.exceptions import RedisError

from schemas.errors import RateLimited

log = logging.getLogger(__name__)

_TIMEOUT_S: Final = 0.5
_REST_S: Final = 5.0
_KEY_PREFIX: Final = "tamperwatch:rate"


class Rates:
    """Sliding windows of minutes, one a name."""

    def __init__(self, broker_url: str) -> None:
        """Nothing is connected yet.

        Args:
            broker_url: of the Redis to count in, as Celery spells it. Only short-lived names of our own are written.
        """
        storage = RedisStorage(
            _redis_url(broker_url),
            key_prefix=_KEY_PREFIX,
            wrap_exceptions=False,
            socket_timeout=_TIMEOUT_S,
            socket_connect_timeout=_TIMEOUT_S,
        )
        self._shared = SlidingWindowCounterRateLimiter(storage)
        self._own = SlidingWindowCounterRateLimiter(MemoryStorage())
        self._away_until_s = 0.0

    def check(self, key_id: str, per_minute: int) -> None:
        """Count one request of a key.

        Args:
            per_minute: what the key may; 0 for any number, which are not counted.

        Raises:
            RateLimited: it is one too many, and does not count.
        """
        if per_minute == 0:
            return
        left_s = self.hit(key_id, per_minute)
        if left_s is not None:
            raise RateLimited(f"more than {per_minute} requests in a minute; come again in {left_s} s", retry_after_s=left_s)

    def hit(self, name: str, most: int, minutes: int = 1) -> int | None:
        """Count one more; the seconds to wait where it would be one too many, which does not count."""
        limit = RateLimitItemPerMinute(most, minutes)
        limiter = self._counted(limit, name)
        if limiter is None:
            return None
        return max(1, math.ceil(limiter.get_window_stats(limit, name).reset_time - time.time()))

    def forget(self, name: str, most: int, minutes: int = 1) -> None:
        """Begin to count anew, with the limit that it was counted under."""
        limit = RateLimitItemPerMinute(most, minutes)
        self._own.clear(limit, name)
        if time.monotonic() >= self._away_until_s:
            try:
                self._shared.clear(limit, name)
            except (RedisError, OSError) as error:
                log.warning("a count is not forgotten, Redis does not answer: %s", error)

    def _counted(self, limit: RateLimitItemPerMinute, name: str) -> SlidingWindowCounterRateLimiter | None:
        """Who refused it; None where it was counted."""
        if time.monotonic() >= self._away_until_s:
            try:
                return None if self._shared.hit(limit, name) else self._shared
            except (RedisError, OSError) as error:
                # Not asked again for a while, or every request would wait for it.
                self._away_until_s = time.monotonic() + _REST_S
                log.warning("requests are counted by this process alone, Redis does not answer: %s", error)
        return None if self._own.hit(limit, name) else self._own


def _redis_url(broker_url: str) -> str:
    """The same Redis, as `limits` spells it."""
    if not broker_url.startswith("redis+socket://"):
        return broker_url
    return broker_url.replace("redis+socket://", "redis+unix://", 1).replace("virtual_host=", "db=", 1)
