"""The order in which rows become readable, so that a reader who goes by id neither skips nor repeats one.

Ids are drawn when a row is inserted but rows are seen when their transaction commits. On PostgreSQL a lower id may
therefore appear after a higher one was read. Every transaction that may still bring one holds ROW EXCLUSIVE on the
table, from before it draws an id until it is over, and `pg_locks` shows that. So: note the highest id to hand out, then
wait for the transactions that hold the lock at this moment, then read. Whoever comes later draws a higher id.
Nothing is locked by this: readers wait for writers, never writers for readers.

It relies on ids that are drawn upwards and never twice (PostgreSQL: a sequence that keeps none in stock, CACHE 1;
SQLite: AUTOINCREMENT and one writer at a time), on READ COMMITTED, and on the primary: a standby shows no locks.
"""

import time

from sqlalchemy import func, text
from sqlmodel import Session, col, select

from schemas.errors import StoreUnavailable
from schemas.tables import AuditResult

PATIENCE_S = 15.0
_FIRST_PAUSE_S = 0.001
_LONGEST_PAUSE_S = 0.1
_RESULTS = "audit_result"

# IS DISTINCT FROM: a prepared transaction has no process.
_WRITERS = text("""
    SELECT virtualtransaction FROM pg_locks
    WHERE locktype = 'relation' AND relation = CAST(:table AS regclass) AND mode = 'RowExclusiveLock' AND granted
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
      AND pid IS DISTINCT FROM pg_backend_pid()
""")


def newest_result(session: Session, patience_s: float = PATIENCE_S) -> int:
    """The highest id of a result, 0 if there is none; no result with this id or a lower one will appear any more.

    Raises:
        StoreUnavailable: see `wait_for_writers`.
    """
    newest = session.exec(select(func.max(col(AuditResult.id)))).one() or 0
    wait_for_writers(session, patience_s)
    return newest


def wait_for_writers(session: Session, patience_s: float = PATIENCE_S, table: str = _RESULTS) -> None:
    """Wait until every transaction that has written to a table and is open now has ended; those that begin later don't count.

    Raises:
        StoreUnavailable: one of them is still open after `patience_s`.
    """
    # SQLite has one writer, whose ids are therefore seen in their order.
    if session.get_bind().dialect.name != "postgresql":
        return
    open_now = _writers(session, table)
    deadline, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
    while open_now:
        if time.monotonic() >= deadline:
            raise StoreUnavailable(
                f"a transaction that writes to {table} has been open for over {patience_s:g} s, and its rows are only read in "
                "order; pg_stat_activity shows it, pg_terminate_backend ends it"
            )
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
        open_now &= _writers(session, table)


def _writers(session: Session, table: str) -> set[str]:
    return set(session.connection().execute(_WRITERS, {"table": table}).scalars())
