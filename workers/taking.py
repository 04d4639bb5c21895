"""Messages taken from Redis by the handful, and acknowledged by the handful.

kombu takes them one by one: a BRPOP, a transaction that notes the message as unacknowledged, one that acknowledges it.
Those are three round trips a picture, and after each the worker's main thread waits for the interpreter lock behind all
threads that decode. Here a script pops as many messages as the worker has room for and notes them in the same step, so that
a worker that dies between the two loses none; BRPOP only waits where the queues are empty. Acknowledgements go to Redis
together: the first one gives the event loop a moment, in which the others of its batch come in, before it turns to Redis
again. A worker killed before that gets those messages again, finds their jobs ended, and acknowledges them.

What came back, from a worker that died or gave it up, is taken before all else, whatever its queue's share: it has waited
for a visibility timeout already, and behind a full queue of a higher share it would wait for as long again.
"""

import contextlib
import copy
import functools
import time
from collections.abc import Iterator
from typing import Any

from kombu.asynchronous import get_event_loop
from kombu.transport import redis, virtual
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import loads

from workers.restoring import RestoringQoS

# Each turn costs two round trips; a batch's acknowledgements come within milliseconds of one another.
_GATHERING_S = 0.01

# KEYS: the index of unacknowledged messages, their hash, then the lists of all queues, queue by queue.
# ARGV: the time, how many lists a queue has, then which queue's turn it is, once for each message wanted. An empty queue's
# turn goes to the first that holds something. Messages that came back go first: kombu puts them where a list is served,
# marked. Answers with queue, entry and tag of each message in a row; the tag is empty
# where an entry is no envelope and was not noted. What is noted holds the entry to the letter, as kombu would restore it.
_TAKE = """
local lists, taken, empty, all_back = tonumber(ARGV[2]), {}, {}, false
local function came_back()
  for list = 3, all_back and 0 or #KEYS do
    local entry = redis.call('LINDEX', KEYS[list], -1)
    if entry and string.find(entry, '"redelivered": true', 1, true) then
      return math.floor((list - 3) / lists) + 1, redis.call('RPOP', KEYS[list])
    end
  end
  all_back = true
end
local function pop(queue)
  for list = (queue - 1) * lists + 3, queue * lists + 2 do
    local entry = not empty[list] and redis.call('RPOP', KEYS[list])
    if entry then return entry end
    empty[list] = true
  end
end
local function next_entry(turn)
  local queue, entry = came_back()
  if entry then return queue, entry end
  entry = pop(turn)
  if entry then return turn, entry end
  for queue = 1, (#KEYS - 2) / lists do
    entry = pop(queue)
    if entry then return queue, entry end
  end
end
local function noted(entry)
  local read, tag, exchange, key = pcall(function()
    local properties = cjson.decode(entry).properties
    return properties.delivery_tag, properties.delivery_info.exchange, properties.delivery_info.routing_key
  end)
  if not read or type(tag) ~= 'string' or type(exchange) ~= 'string' or type(key) ~= 'string' then return '' end
  redis.call('ZADD', KEYS[1], ARGV[1], tag)
  redis.call('HSET', KEYS[2], tag, '[' .. entry .. ',' .. cjson.encode(exchange) .. ',' .. cjson.encode(key) .. ']')
  return tag
end
for turn = 3, #ARGV do
  local queue, entry = next_entry(tonumber(ARGV[turn]))
  if not entry then break end
  for _, value in ipairs({queue, entry, noted(entry)}) do table.insert(taken, value) end
end
return taken
"""


class HandfulQoS(RestoringQoS):
    """What a channel has taken and not acknowledged; `noted` are tags that Redis knows already as such."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.noted: set[str] = set()
        self._acked: list[str] = []

    def append(self, message: Any, delivery_tag: str) -> None:
        if delivery_tag in self.noted:
            self.noted.discard(delivery_tag)
            virtual.QoS.append(self, message, delivery_tag)
        else:
            super().append(message, delivery_tag)  # type: ignore[no-untyped-call]

    def ack(self, delivery_tag: str) -> None:
        self._acked.append(delivery_tag)
        virtual.QoS.ack(self, delivery_tag)
        if self.channel.closed:  # no turn of the event loop will come
            self.flush()
        else:
            self.channel.connection.cycle.gather()

    def forget(self, delivery_tag: str) -> None:
        """Take a message out of Redis' notes at once."""
        self._remove_from_indices(delivery_tag).execute()  # type: ignore[no-untyped-call]

    def flush(self) -> None:
        """Tell Redis what was acknowledged since the last time."""
        tags, self._acked = self._acked, []
        if tags:
            with self.channel.second_client.pipeline() as pipe:
                pipe.zrem(self.unacked_index_key, *tags).hdel(self.unacked_key, *tags).execute()

    def restore_unacked_once(self, stderr: Any = None) -> None:
        # Without Redis they stay noted, and come again after the visibility timeout.
        with contextlib.suppress(*self.channel.connection_errors):
            self.flush()
        super().restore_unacked_once(stderr)  # type: ignore[no-untyped-call]


class HandfulChannel(redis.Channel):
    """A channel that asks for a handful of messages before it waits for one."""

    QoS = HandfulQoS

    @functools.cached_property
    def second_client(self) -> Any:
        """Beside the one that waits in BRPOP, whose socket the event loop watches and nothing else may reconnect."""
        return self._create_client()  # type: ignore[no-untyped-call]

    @functools.cached_property
    def _script(self) -> Any:
        return self.second_client.register_script(_TAKE)

    def refused(self, queue: str, entry: bytes) -> bool:  # noqa: ARG002
        """Whether an entry is no message and was dealt with otherwise; for subclasses."""
        return False

    def _brpop_start(self, timeout: float | None = None) -> None:
        # Only a consumer with a prefetch limit acknowledges, and only what is acknowledged may be noted.
        if room := self.qos.can_consume_max_estimate():
            self._take(room)
        if self.qos.can_consume():
            super()._brpop_start(timeout)  # type: ignore[no-untyped-call]

    def _take(self, room: int) -> None:
        queues = self._queue_cycle.consume(len(self.active_queues))
        lists = [self._q_for_pri(queue, priority) for queue in queues for priority in self.priority_steps]  # type: ignore[no-untyped-call]
        turns = [queues.index(queue) + 1 for queue in self._turns(room)]
        taken = self._script([self.unacked_index_key, self.unacked_key, *lists], [time.time(), len(self.priority_steps), *turns])
        for number, entry, tag in zip(*[iter(taken)] * 3, strict=True):
            self._queue_cycle.consume(len(queues))
            self._queue_cycle.rotate(queues[number - 1])
            self._hand_over(queues[number - 1], entry, bytes_to_str(tag))

    def _turns(self, count: int) -> Iterator[str]:
        """Whose turn it would be each time if no queue were empty."""
        cycle = copy.deepcopy(self._queue_cycle)
        for _ in range(count):
            yield cycle.rotate(cycle.consume(len(self.active_queues))[0])

    def _hand_over(self, queue: str, entry: bytes, tag: str) -> None:
        if self.refused(queue, entry):
            if tag:
                self.qos.forget(tag)
            return
        if tag:
            self.qos.noted.add(tag)
        self.connection._deliver(loads(bytes_to_str(entry)), queue)


class HandfulPoller(redis.MultiChannelPoller):
    """The transport's part in the worker's event loop."""

    _gathering_until_s = 0.0

    def gather(self) -> None:
        """Let acknowledgements gather for a moment. Without an event loop, which is woken at its end, there is none."""
        loop, now_s = get_event_loop(), time.monotonic()
        if loop is not None and now_s >= self._gathering_until_s:
            self._gathering_until_s = now_s + _GATHERING_S
            loop.call_later(_GATHERING_S, _turn)

    def on_poll_start(self) -> None:
        if time.monotonic() < self._gathering_until_s:
            return
        for channel in self._channels:
            channel.qos.flush()
        super().on_poll_start()  # type: ignore[no-untyped-call]


def _turn() -> None:
    """Nothing but a turn of the event loop."""
