"""What a dead worker had taken goes back to its queue, however many workers are busy beside.

kombu gives back message by message: it watches the hash of all unacknowledged ones, and begins again when another worker
takes or acknowledges something meanwhile. Each takes a few round trips, and after each the main thread waits behind those
that decode, while it takes nothing. And whoever dies at it leaves a lock behind, which stops all others for a while. Here a
script gives back a hundred in one step, and no lock is needed.
"""

import contextlib
import functools
import time
from collections.abc import Sequence
from typing import Any

from kombu.exceptions import InconsistencyError
from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

# KEYS: the index of unacknowledged messages, their hash, then the list that each message goes back to. ARGV: the latest time
# of taking, then tag and entry of each message. One that was taken later, or is acknowledged by now, stays as it is: another
# worker was quicker. An empty entry stands for a tag that the hash did not know. Answers with how many were dealt with.
_RESTORE = """
local count, ours = 0, {}
for list = 3, #KEYS do
  local tag, entry = ARGV[2 * list - 4], ARGV[2 * list - 3]
  local taken_at = redis.call('ZSCORE', KEYS[1], tag)
  if taken_at and tonumber(taken_at) <= tonumber(ARGV[1]) then
    local known = redis.call('HEXISTS', KEYS[2], tag) == 1
    if known == (entry ~= '') then
      redis.call('ZREM', KEYS[1], tag)
      redis.call('HDEL', KEYS[2], tag)
      ours[tag], count = true, count + 1
    end
  end
  if ours[tag] and entry ~= '' then redis.call('RPUSH', KEYS[list], entry) end
end
return count
"""
_AT_ONCE = 100


class _Pushed(list[tuple[str, str]]):
    """Stands in for kombu's pipeline, and only remembers what would be pushed where."""

    def rpush(self, key: str, entry: str) -> None:
        self.append((key, entry))


class RestoringQoS(redis.QoS):
    """What a channel has taken and not acknowledged; it also gives back what any dead worker's channel had."""

    @functools.cached_property
    def _script(self) -> Any:
        return self.channel.second_client.register_script(_RESTORE)

    def restore_visible(self, start: int = 0, num: int | None = None, interval: int = 1) -> None:  # noqa: ARG002
        """Give back what was taken longer ago than the visibility timeout, the oldest to be served first."""
        client, before_s = self.channel.second_client, time.time() - self.visibility_timeout
        batch = {"desc": True, "byscore": True, "offset": 0, "num": _AT_ONCE}
        while tags := client.zrange(self.unacked_index_key, before_s, 0, **batch):
            # None where others were quicker.
            if not self._restore_all(tags, before_s):
                break

    def _restore_all(self, tags: Sequence[bytes], before_s: float) -> int:
        keys: list[str] = [self.unacked_index_key, self.unacked_key]
        arguments: list[Any] = [before_s]
        for tag, noted in zip(tags, self.channel.second_client.hmget(self.unacked_key, tags), strict=True):
            for key, entry in self._places(noted) if noted else [(self.unacked_key, "")]:
                keys.append(key)
                arguments += [tag, entry]
        count: int = self._script(keys, arguments)
        return count

    def _places(self, noted: bytes) -> list[tuple[str, str]]:
        """The lists a message goes back to, and how it is written there: as it came, marked as redelivered."""
        payload, exchange, routing_key = loads(bytes_to_str(noted))
        pushed = _Pushed()
        with contextlib.suppress(InconsistencyError):
            self.channel._do_restore_message(payload, exchange, routing_key, pushed)
        if not pushed:
            # A foreign producer's exchange, to which nothing is bound. Our queues are named like their keys.
            self.channel._do_restore_message(payload, "", routing_key, pushed)
        return pushed
