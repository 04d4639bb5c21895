"""Bring a database to the schema of this release, with Alembic."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from storage.database import Database

# A path, not an import: storage knows where the scripts lie, not what is in them.
_SCRIPTS = Path(__file__).resolve().parent.parent / "deploy" / "migrations"


def upgrade(database: Database, revision: str = "head") -> None:
    """Apply every migration up to `revision` in one transaction. Doing it twice changes nothing.

    Raises:
        StoreUnavailable: the database does not answer.
    """
    with database.write() as session:
        command.upgrade(_config(session.connection()), revision)


def downgrade(database: Database, revision: str) -> None:
    """Take migrations back down to `revision` ("base" empties the database)."""
    with database.write() as session:
        command.downgrade(_config(session.connection()), revision)


def current_revision(database: Database) -> str | None:
    """The revision the database stands at; None if it was never migrated."""
    with database.read() as session:
        return MigrationContext.configure(session.connection()).get_current_revision()


def head_revision() -> str | None:
    """The revision this release expects."""
    return ScriptDirectory.from_config(_config(None)).get_current_head()


def _config(connection: object) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["connection"] = connection
    return config
