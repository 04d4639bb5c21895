"""The right to do one named thing, held by one process at a time, across machines and crashes.

A lease expires by the database's clock, so it does not matter what the holders think the time is. Each change of hands raises
its fence. Whoever writes under a lease calls `check` in the same transaction: a holder that stood still while its lease ran out,
and was given to another one, is refused, and what it wanted to write is rolled back.
"""

import logging
import threading
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import ModuleType, TracebackType
from typing import Final, Self

from sqlalchemy import text
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from schemas.errors import TamperwatchError
from schemas.learning_tables import Lease
from storage.database import Database

log = logging.getLogger(__name__)

_CLOCKS: Final = {
    "postgresql": text("SELECT clock_timestamp()"),
    "sqlite": text("SELECT strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')"),
}
_RENEWALS: Final = 4  # in the time that a lease lasts: two may fail


class LeaseLost(Exception):
    """Another process has the lease by now, or nobody; whoever held it stops and writes nothing more."""


@dataclass(frozen=True)
class Held:
    """A lease in our hand.

    Attributes:
        holder: us, as we named ourselves.
        fence: higher than that of everybody who held it before.
    """

    name: str
    holder: str
    fence: int


def acquire(session: Session, name: str, holder: str, for_s: float) -> Held | None:
    """Take a lease that is free, has expired, or is our own already; None where another one holds it.

    Args:
        name: of what it gives the right to.
        holder: no two processes call themselves the same.
        for_s: how long it lasts without `renew`.
    """
    module: ModuleType = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.connection().execute(module.insert(Lease).values(name=name, fence=0).on_conflict_do_nothing())
    row = _locked(session, name)
    at = clock(session)
    if row.holder not in (None, holder) and row.expires_at is not None and row.expires_at > at:
        return None
    row.holder, row.fence, row.acquired_at, row.expires_at = holder, row.fence + 1, at, at + timedelta(seconds=for_s)
    session.add(row)
    session.flush()
    return Held(name, holder, row.fence)


def renew(session: Session, held: Held, for_s: float) -> None:
    """Let it last for so long from now on. One that has expired, but went to nobody else, is renewed as well.

    Raises:
        LeaseLost
    """
    row = _ours(session, held)
    row.expires_at = clock(session) + timedelta(seconds=for_s)
    session.add(row)


def release(session: Session, held: Held) -> None:
    """Let the next one take it at once; no error where it was lost."""
    try:
        row = _ours(session, held)
    except LeaseLost:
        return
    row.holder, row.expires_at = None, None
    session.add(row)


def check(session: Session, held: Held) -> None:
    """Make sure that it is still ours, and stays so until this transaction ends.

    Raises:
        LeaseLost
    """
    _ours(session, held)


def holder(session: Session, name: str) -> str | None:
    """Who holds a lease at this moment; None for nobody."""
    row = session.exec(select(Lease).where(Lease.name == name).execution_options(populate_existing=True)).one_or_none()
    if row is None or row.expires_at is None or row.expires_at <= clock(session):
        return None
    return row.holder


def clock(session: Session) -> datetime:
    """The time by the database, however long this transaction has been open."""
    dialect = session.get_bind().dialect.name
    found = session.connection().execute(_CLOCKS[dialect]).scalar_one()
    at = found if isinstance(found, datetime) else datetime.fromisoformat(found)
    return at.astimezone(UTC)


class Kept:
    """Renews a lease for as long as the `with` block lasts, and gives it back at its end.

    Attributes:
        held: the lease.
        lost: set when another process has it.
    """

    def __init__(self, database: Database, held: Held, for_s: float) -> None:
        self.held, self.lost = held, threading.Event()
        self._database, self._for_s = database, for_s
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"lease-{held.name}", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._closing.set()
        self._thread.join()
        try:
            with self._database.write() as session:
                release(session, self.held)
        except TamperwatchError as away:
            log.warning("the lease %s could not be given back and will expire: %s", self.held.name, away.message)

    def _loop(self) -> None:
        while not self._closing.wait(self._for_s / _RENEWALS) and not self.lost.is_set():
            try:
                with self._database.write() as session:
                    renew(session, self.held, self._for_s)
            except LeaseLost:
                log.error("%s no longer holds the lease %s: it was not renewed in time", self.held.holder, self.held.name)
                self.lost.set()
            except TamperwatchError as error:
                log.warning("the lease %s could not be renewed this time: %s", self.held.name, error.message)


def _ours(session: Session, held: Held) -> Lease:
    row = _locked(session, held.name)
    if row.fence != held.fence or row.holder != held.holder:
        raise LeaseLost(held.name)
    return row


def _locked(session: Session, name: str) -> Lease:
    """The row as it stands now, whatever this session has read before, and nobody else's until the transaction ends."""
    query = select(Lease).where(col(Lease.name) == name).with_for_update()
    return session.exec(query.execution_options(populate_existing=True)).one()
