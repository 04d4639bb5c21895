"""Open the results store for a verb that expects one to be there."""

from pathlib import Path

from sqlalchemy.engine import make_url

from schemas.errors import EnvironmentMissing
from storage import migrations
from storage.database import Database


def open_store(url: str) -> Database:
    """The database behind a URL, checked to stand at this release's schema.

    Raises:
        EnvironmentMissing: there is no database, or it wants migrating.
        StoreUnavailable: it does not answer.
    """
    database = Database(url)
    parsed = make_url(url)
    # Merely connecting would leave an empty SQLite file behind.
    if parsed.get_backend_name() == "sqlite" and parsed.database and not Path(parsed.database).exists():
        raise EnvironmentMissing(
            f"no results store at {parsed.database}; run `tamperwatch migrate`, or point TAMPERWATCH_DATABASE_URL to one "
            "(an audit keeps its own in DIR/.tamperwatch/tamperwatch.db)"
        )
    found, wanted = migrations.current_revision(database), migrations.head_revision()
    if found != wanted:
        raise EnvironmentMissing(
            f"the results store stands at revision {found or 'none'}, not {wanted}; run `tamperwatch migrate`"
        )
    return database
