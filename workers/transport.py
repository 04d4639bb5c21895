"""Redis as Celery reads it, guarded: what is no task message is set aside instead of stopping the worker.

kombu trusts every entry of a list: bytes that are no JSON, an envelope without its parts, a body that is no
`[args, kwargs, embed]` raise inside the consumer and end the process. Here such an entry goes to the list
`tamperwatch:malformed`, with a line in the log, and the worker reads on.
"""

import base64
import functools
import json
import logging
from collections.abc import Callable
from typing import Annotated, Any, Literal

from kombu import transport as transports
from kombu.transport import redis
from kombu.utils.encoding import bytes_to_str
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from storage import telemetry
from workers.taking import HandfulChannel, HandfulPoller

log = logging.getLogger(__name__)

MALFORMED_LIST = "tamperwatch:malformed"
# The newest are kept: enough to find who sends them, and no flood fills Redis.
MALFORMED_KEPT = 1000
_SHOWN_CHARACTERS = 200

_Text = Annotated[str, Field(min_length=1)]


class _Headers(BaseModel):
    task: _Text
    id: _Text
    eta: str | None = None
    expires: str | float | None = None
    retries: int | None = None
    timelimit: tuple[float | None, float | None] | None = None


class _DeliveryInfo(BaseModel):
    exchange: str
    routing_key: str


class _Properties(BaseModel):
    delivery_tag: _Text
    delivery_info: _DeliveryInfo
    body_encoding: Literal["base64"] | None = None


class _Envelope(BaseModel):
    """What Celery's protocol 2 writes on a list: the parts without which kombu or Celery raise."""

    body: str
    content_type: Literal["application/json"] = Field(alias="content-type")
    content_encoding: Literal["utf-8"] = Field(alias="content-encoding")
    headers: _Headers
    properties: _Properties


_BODY: TypeAdapter[tuple[list[Any], dict[str, Any], dict[str, Any] | None]] = TypeAdapter(
    tuple[list[Any], dict[str, Any], dict[str, Any] | None]
)


def envelope_problem(entry: bytes) -> str | None:
    """Why a list's entry is no task message that Celery can take; None if it is one."""
    try:
        # Not by pydantic: what the standard parser takes, kombu's takes, and the other way round.
        envelope = _Envelope.model_validate(json.loads(bytes_to_str(entry)))
        body = envelope.body.encode()
        if envelope.properties.body_encoding:
            body = base64.b64decode(body, validate=True)
        _BODY.validate_python(json.loads(body))
    except ValidationError as error:
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'entry'}: {each['msg']}" for each in error.errors())
    except (ValueError, RecursionError) as error:
        return str(error)
    return None


class GuardedChannel(HandfulChannel):
    """A channel that takes no malformed entry; its blocking pop answers "nothing there" where one was."""

    def refused(self, queue: str, entry: bytes) -> bool:
        problem = envelope_problem(entry)
        if problem is not None:
            self._set_aside(queue, entry, problem)
        return problem is not None

    def _create_client(self, asynchronous: bool = False) -> Any:
        client = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        client.parse_response = functools.partial(self._guarded, client.parse_response)
        return client

    def _guarded(self, parse: Callable[..., Any], connection: Any, command: str, **options: Any) -> Any:
        answer = parse(connection, command, **options)
        if command != "BRPOP" or not answer:
            return answer
        queue, entry = answer
        # Replies to `celery inspect` carry no task; they lie on lists of their own.
        if b".pidbox" in queue or (problem := envelope_problem(entry)) is None:
            return answer
        self._set_aside(bytes_to_str(queue), entry, problem)
        return None

    def _set_aside(self, queue: str, entry: bytes, problem: str) -> None:
        shown = ascii(entry[:_SHOWN_CHARACTERS])
        log.error("malformed entry of %s moved to %s: %s; it begins %s", queue, MALFORMED_LIST, problem, shown)
        telemetry.MALFORMED.inc()
        with self.conn_or_acquire() as client:
            client.lpush(MALFORMED_LIST, entry)
            client.ltrim(MALFORMED_LIST, 0, MALFORMED_KEPT - 1)


class GuardedTransport(redis.Transport):
    """kombu's Redis transport with guarded channels that take and acknowledge messages by the handful."""

    Channel = GuardedChannel

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[no-untyped-call]
        self.cycle: Any = HandfulPoller()  # type: ignore[no-untyped-call]


def guard_redis() -> None:
    """Let every Redis URL of this process be read through the guard, whatever its scheme.

    An app's `broker_transport` would not do: kombu takes the transport from the URL where it is `redis+socket://`.
    """
    for scheme in ("redis", "rediss"):
        transports.TRANSPORT_ALIASES[scheme] = f"{__name__}:GuardedTransport"
        # Where a connection was made before, kombu remembers what it used.
        transports._transport_cache.pop(scheme, None)
