"""Signatures of webhooks, as the Standard Webhooks specification has them (github.com/standard-webhooks/standard-webhooks).

HMAC-SHA256 over `id.timestamp.body` with the secret's bytes, as `webhook-signature: v1,BASE64`. Whoever receives results
checks them with `verify`:

    event = verify(secret, request.headers, request.body)   # WebhookRefused where it is not ours, or is old
    if seen_before(event.id): ...                           # the same delivery, tried again
"""

import base64
import binascii
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = "whsec_"
_TOLERANCE_S: Final = 300.0


class WebhookRefused(Exception):
    """A delivery that nobody should act upon: not signed by our secret, or not now."""


@dataclass(frozen=True)
class Delivered:
    """A delivery whose signature is right and recent.

    Attributes:
        id: stays the same for every try of a delivery: drop what you have seen.
        sent_at_s: when this try was signed, seconds since 1970.
        body: as it came, JSON.
    """

    id: str
    sent_at_s: int
    body: bytes


def signature(secret: str, message_id: str, timestamp_s: int, body: bytes) -> str:
    """The header `webhook-signature` of a delivery.

    Args:
        secret: as it was shown, `whsec_` and base64.
        message_id: the header `webhook-id`.
        timestamp_s: the header `webhook-timestamp`, seconds since 1970.
    """
    key = base64.b64decode(secret.removeprefix(_PREFIX))
    signed = f"{message_id}.{timestamp_s}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


def verify(
    secret: str, headers: Mapping[str, str], body: bytes, tolerance_s: float = _TOLERANCE_S, now_s: float | None = None
) -> Delivered:
    """Check a delivery that came in.

    Args:
        secret: as it was shown when the webhook was made.
        headers: of the request, in any case of letters.
        body: the bytes as they came, before anything parsed them.
        tolerance_s: how far the sender's clock, or a delay, may be off; older deliveries are replays.
        now_s: for tests.

    Raises:
        WebhookRefused: a header is missing, the time is too far off, or the signature is of another secret or body.
    """
    given = {name.lower(): value for name, value in headers.items()}
    try:
        message_id, timestamp, signed = (given[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError as error:
        raise WebhookRefused(f"the header {error.args[0]} is missing") from error
    timestamp_s = _seconds(timestamp)
    off_s = abs((time.time() if now_s is None else now_s) - timestamp_s)
    if off_s > tolerance_s:
        raise WebhookRefused(f"signed {off_s:.0f} s from now; {tolerance_s:g} s are allowed. It may be a replay")
    try:
        expected = signature(secret, message_id, timestamp_s, body).encode()
    except binascii.Error as error:
        raise WebhookRefused("the secret is no `whsec_` and base64") from error
    # Several may stand there while a secret is changed for another.
    if not any(hmac.compare_digest(each.encode(), expected) for each in signed.split()):
        raise WebhookRefused("the signature is not of this secret and body")
    return Delivered(message_id, timestamp_s, body)


def _seconds(timestamp: str) -> int:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        raise WebhookRefused("the header webhook-timestamp is no number of seconds")
    return int(timestamp)
