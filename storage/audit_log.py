"""The log of decisions: who decided what, when. Rows are only ever added, and each holds the hash of the one before it.

An entry is written by the transaction that it tells of, so there is neither a decision without its entry nor an entry without
its decision. Entries wait in the session until it commits: the turn that keeps the chain in one line is then the last one a
transaction takes, so two of them never wait for each other, and is held for one statement only.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import event, insert
from sqlalchemy.orm import SessionTransaction
from sqlmodel import Session, col, select

from schemas.people_tables import LogEntry
from schemas.tables import now
from storage.turns import take_turns

OURSELVES: Final = "tamperwatch"
"""Who decides where no person did: the installation itself."""

START: Final = "0" * 64
"""What stands in the first entry where the others have the hash of the one before."""

_TURN: Final = "decision log"
_PENDING: Final = "decision log"
_PAGE: Final = 1000


@dataclass(frozen=True)
class Head:
    """An entry by number and hash: whoever keeps one elsewhere can prove later that nothing up to it was changed."""

    number: int
    hash: str


@dataclass(frozen=True)
class Verification:
    """What the chain says of itself.

    Attributes:
        entries: how many were read.
        head: the last entry; None for an empty log.
        problem: what is wrong with the first entry that does not fit, in words; None where all is well.
    """

    entries: int
    head: Head | None
    problem: str | None


def append(session: Session, who: str, action: str, subject: str, **details: Any) -> None:
    """Log a decision with whatever the session commits; where it does not commit, nothing is logged.

    Args:
        who: as the decision itself records it.
        action: what was done, as `noun.verb`.
        subject: what it was done to.
        details: whatever JSON can hold.
    """
    # A savepoint's end is not the transaction's.
    assert not session.in_nested_transaction()
    if not session.in_transaction():
        session.begin()  # or a rollback before the first statement would not be told to `_forget`
    pending = session.info.get(_PENDING)
    if pending is None:
        pending = session.info[_PENDING] = []
        event.listen(session, "before_commit", _write)
        event.listen(session, "after_soft_rollback", _forget)
    pending.append({"at": now(), "who": who, "action": action, "subject": subject, "details": details})


def entries(session: Session, after: int = 0, subject: str | None = None) -> Iterator[LogEntry]:
    """Entries behind a number, oldest first, read in pages; all, or those about one subject."""
    query = select(LogEntry).order_by(col(LogEntry.number)).limit(_PAGE)
    if subject is not None:
        query = query.where(LogEntry.subject == subject)
    while page := session.exec(query.where(LogEntry.number > after)).all():
        yield from page
        after = page[-1].number
        for entry in page:
            session.expunge(entry)  # or a log of years is held in memory


def newest(session: Session, most: int) -> list[LogEntry]:
    """The last entries, newest first."""
    return list(session.exec(select(LogEntry).order_by(col(LogEntry.number).desc()).limit(most)))


def verify(session: Session, noted: Head | None = None) -> Verification:
    """Recompute the whole chain.

    Args:
        noted: an entry that was written down elsewhere. Without one, a chain whose last entries were cut off, or that was
            computed anew from some entry on, looks whole.
    """
    head, count = None, 0
    for entry in entries(session):
        problem = _problem(entry, head)
        if problem is None and noted is not None and noted.number == entry.number and noted.hash != entry.hash:
            problem = f"entry {entry.number} is not the one that was noted: it has the hash {entry.hash}"
        if problem is not None:
            return Verification(count, head, problem)
        head, count = Head(entry.number, entry.hash), count + 1
    if noted is not None and (head is None or head.number < noted.number):
        return Verification(count, head, f"entry {noted.number}, which was noted, is missing: the log ends with {count}")
    return Verification(count, head, None)


def digest(value: Any) -> str:
    """The sha256 of a value in the one form it has as JSON: ASCII, sorted keys, no spaces."""
    written = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(written.encode("ascii")).hexdigest()


def _problem(entry: LogEntry, before: Head | None) -> str | None:
    expected = before.number + 1 if before else 1
    if entry.number != expected:
        return f"entry {expected} is missing: {entry.number} comes next"
    if entry.previous_hash != (before.hash if before else START):
        return f"entry {entry.number} does not follow the one before it, which was changed, replaced or moved"
    if entry.hash != _hash(_values(entry)):
        return f"entry {entry.number} was changed: its content does not have its hash"
    return None


def _write(session: Session) -> None:
    """Add what waits to the end of the chain."""
    pending: list[dict[str, Any]] = session.info.pop(_PENDING)
    take_turns(session, [_TURN])
    last = (
        session.connection()
        .execute(select(LogEntry.number, LogEntry.hash).order_by(col(LogEntry.number).desc()).limit(1))
        .first()
    )
    number, previous_hash = (last[0], last[1]) if last is not None else (0, START)
    rows = []
    for values in pending:
        number += 1
        row = {"number": number, **values, "previous_hash": previous_hash}
        row["hash"] = previous_hash = _hash(row)
        rows.append(row)
    session.connection().execute(insert(LogEntry), rows)
    pending.clear()


def _forget(session: Session, ended: SessionTransaction) -> None:
    """A transaction that did not commit decided nothing; of a savepoint's end the others know nothing."""
    if not ended.nested:
        session.info[_PENDING].clear()


def _values(entry: LogEntry) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in ("number", "at", "who", "action", "subject", "details", "previous_hash")}


def _hash(values: Mapping[str, Any]) -> str:
    """Of an entry, but for the hash itself; times are in UTC to the microsecond."""
    at: datetime = values["at"]
    return digest({**values, "at": at.astimezone(UTC).isoformat(timespec="microseconds")})
