"""One writer at a time for what a name stands for, for as long as the caller's transaction lasts."""

import hashlib
from collections.abc import Iterable

from sqlalchemy import text
from sqlmodel import Session

_IN_ORDER = text("SELECT pg_advisory_xact_lock(each) FROM (SELECT unnest(CAST(:keys AS bigint[])) AS each ORDER BY 1) AS keys")


def take_turns(session: Session, names: Iterable[str]) -> None:
    """Wait until no other transaction that took its turn under one of these names is open; what it wrote is seen from then on.

    Call it before the first write of a transaction, once, with all names: they are taken in one order everywhere, so that no
    two transactions wait for each other. On SQLite a writing session is alone anyway.
    """
    if session.get_bind().dialect.name != "postgresql":
        return
    session.connection().execute(_IN_ORDER, {"keys": sorted({_key(name) for name in names})})


def _key(name: str) -> int:
    """A signed 64-bit number; two names that share one only wait for each other needlessly."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
