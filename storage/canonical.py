"""Records as bytes that have one form only: JSON Lines, ASCII, sorted keys, no spaces. Their sha256 is their name.

Whoever reads such bytes back names the hash he expects, so a changed byte is refused before anything is believed.
"""

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from schemas.errors import BlobCorrupt, InvalidInput


def encoded(records: Iterable[dict[str, Any]]) -> bytes:
    """One line a record, each ended by a newline.

    Raises:
        ValueError: a number that is not finite.
    """
    lines = (json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False) for record in records)
    return "".join(f"{line}\n" for line in lines).encode("ascii")


def digest(data: bytes) -> str:
    """Hex sha256."""
    return hashlib.sha256(data).hexdigest()


def decoded(data: bytes, sha256: str, what: str) -> list[dict[str, Any]]:
    """The records, after the hash has been checked.

    Args:
        data: what `encoded` wrote.
        sha256: the hash that was written down when it was frozen.
        what: its name in messages.

    Raises:
        BlobCorrupt: the bytes do not have that hash.
        InvalidInput: they have, but are no such records.
    """
    found = digest(data)
    if found != sha256:
        raise BlobCorrupt(f"{what} was frozen as {sha256[:12]} but its bytes are {found[:12]}; restore it, or start another run")
    try:
        records = [json.loads(line) for line in data.decode("ascii").splitlines()]
    except ValueError as error:
        raise InvalidInput(f"{what} is not JSON Lines: {error}") from error
    if not all(isinstance(record, dict) for record in records):
        raise InvalidInput(f"{what} has a line that is no object")
    return records
