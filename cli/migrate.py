"""`tamperwatch migrate`: bring the database to the schema of this release."""

from cli.console import load_settings, stdout
from storage import migrations
from storage.database import Database
from workers.runtime import live_version


def migrate() -> None:
    """Create or upgrade the tables in TAMPERWATCH_DATABASE_URL. Doing it twice changes nothing.

    \b
    Example:
      TAMPERWATCH_DATABASE_URL=postgresql+psycopg://user@host/tamperwatch tamperwatch migrate
    """
    database = Database(load_settings().database_url)
    before = migrations.current_revision(database)
    migrations.upgrade(database)
    after = migrations.current_revision(database)
    live = live_version(database).version
    stdout.print(
        f"the database stands at revision {after}" + (" (as before)" if before == after else f" (was {before or 'empty'})")
    )
    stdout.print(f"the live model is {live}")
    database.close()
