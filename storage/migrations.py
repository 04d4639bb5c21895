"""Bring a database to the schema of this release, with Alembic, while others read and write.

On PostgreSQL each migration is a transaction of its own that waits for a lock at most `LOCK_WAIT_S`: whoever waits for a
table makes everybody behind it wait too. Where that was not enough it lets go, and comes again a little later.
`deploy/migrations/online.py` has what else a migration needs to hold nobody up.
"""

import logging
import time
from collections.abc import Callable
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util.exc import CommandError
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from schemas.errors import StoreUnavailable
from storage.database import Database, in_our_words

log = logging.getLogger(__name__)

LOCK_WAIT_S = 2.0
_PAUSE_S = 3.0
_TRIES = 60
_LOCK_NOT_AVAILABLE = "55P03"

# A path, not an import: storage knows where the scripts lie, not what is in them.
_SCRIPTS = Path(__file__).resolve().parent.parent / "deploy" / "migrations"


def upgrade(database: Database, revision: str = "head") -> None:
    """Apply every migration up to `revision`. Doing it twice changes nothing; what was cut short is gone on with.

    Raises:
        StoreUnavailable: the database does not answer, or a table was in use for minutes.
    """
    _run(database, lambda config: command.upgrade(config, revision))


def downgrade(database: Database, revision: str) -> None:
    """Take migrations back down to `revision` ("base" empties the database)."""
    _run(database, lambda config: command.downgrade(config, revision))


def current_revision(database: Database) -> str | None:
    """The revision the database stands at; None if it was never migrated."""
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head_revision() -> str | None:
    """The revision this release expects."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def is_known(revision: str) -> bool:
    """Whether this release has this revision; one that it does not have is a later release's."""
    try:
        return ScriptDirectory.from_config(_config(None)).get_revision(revision) is not None
    except CommandError:
        return False


def _run(database: Database, work: Callable[[Config], None]) -> None:
    if database.engine.dialect.name == "sqlite":
        # One writer at a time, so all of it in one transaction.
        with database.write() as session:
            work(_config(session.connection()))
        return
    for left in reversed(range(_TRIES)):
        try:
            with in_our_words(), database.engine.connect() as connection:
                _run_patiently(connection, work)
            return
        except StoreUnavailable as error:
            if left == 0 or not _was_locked(error):
                raise
            log.warning("a table to be changed is in use; nothing is held up, and it is tried again in %g s", _PAUSE_S)
            time.sleep(_PAUSE_S)


def _run_patiently(connection: Connection, work: Callable[[Config], None]) -> None:
    connection.execute(text(f"SET lock_timeout = {int(LOCK_WAIT_S * 1000)}"))
    connection.commit()
    try:
        work(_config(connection))
        connection.commit()
    finally:
        # Not back to the pool with that.
        connection.invalidate()


def _was_locked(error: StoreUnavailable) -> bool:
    cause = error.__cause__
    return isinstance(cause, OperationalError) and getattr(cause.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
