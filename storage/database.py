"""The SQL connection: one engine per process, one transaction per `with` block, errors in our own words."""

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Engine, event
from sqlalchemy.engine import Connection, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlmodel import Session, create_engine

from schemas.errors import DiskFull, InvalidInput, StoreUnavailable, TamperwatchError

_SQLITE_BUSY_TIMEOUT_S = 30
# A process that stands still, or a machine that is gone, in mid-transaction: its row locks stop all others no longer than this.
_PG_IDLE_TIMEOUT_MS = 20_000
_PG_DISK_FULL = "53100"
_WRITES = "tamperwatch_writes"


class Database:
    """SQLite (WAL) or PostgreSQL behind the same two context managers."""

    def __init__(self, url: str) -> None:
        """Open lazily: nothing is connected before the first `read` or `write`.

        Raises:
            InvalidInput: the URL is not one of a supported database.
        """
        self.url = url
        self.engine = _engine(url)

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for queries; never holds SQLite's write lock."""
        with in_our_words(), Session(self.engine) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session that commits when the block ends and rolls back when it raises.

        On SQLite the write lock is taken at the start, so that a read followed by a write can't fail half-way.

        Raises:
            StoreUnavailable: the database does not answer or refuses the transaction; nothing was written.
            DiskFull: no space is left; nothing was written.
        """
        with in_our_words(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITES: True})
            with Session(connection) as session, session.begin():
                yield session

    def close(self) -> None:
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        dialect = make_url(url).get_backend_name()
        if dialect == "sqlite":
            engine = create_engine(url, connect_args={"timeout": _SQLITE_BUSY_TIMEOUT_S, "check_same_thread": False})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        if dialect == "postgresql":
            # What claims and cursors were proven under, whatever the server's default is.
            level = "READ COMMITTED"
            connect = {"connect_timeout": 10, "options": f"-c idle_in_transaction_session_timeout={_PG_IDLE_TIMEOUT_MS}"}
            if "options" in make_url(url).query:
                del connect["options"]  # the URL's own
            return create_engine(url, pool_pre_ping=True, isolation_level=level, connect_args=connect)
    except ArgumentError as error:
        raise InvalidInput(f"TAMPERWATCH_DATABASE_URL is not a database URL: {error}") from error
    raise InvalidInput(f"TAMPERWATCH_DATABASE_URL names '{dialect}'; sqlite and postgresql+psycopg are supported")


def _prepare_sqlite(connection: sqlite3.Connection, _record: Any) -> None:
    # Python's own BEGIN comes late and deferred; we send ours in `_begin_sqlite`.
    connection.isolation_level = None
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE" if connection.get_execution_options().get(_WRITES) else "BEGIN")


@contextmanager
def in_our_words() -> Iterator[None]:
    """What the database's driver raises, as errors of ours."""
    try:
        yield
    except (DBAPIError, PoolTimeout) as error:
        raise _translated(error) from error


def _translated(error: DBAPIError | PoolTimeout) -> TamperwatchError:
    cause: Any = getattr(error, "orig", None)
    no_space = getattr(cause, "sqlstate", None) == _PG_DISK_FULL or getattr(cause, "errno", None) == errno.ENOSPC
    if no_space or getattr(cause, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return DiskFull("the results store has no space left; free some and the jobs go on")
    return StoreUnavailable(f"the results store does not answer: {str(cause or error).strip()}")
