"""Open the results store for a verb that expects one to be there."""

import logging
from pathlib import Path

from sqlalchemy.engine import make_url

from schemas.errors import EnvironmentMissing
from storage import migrations
from storage.database import Database

log = logging.getLogger(__name__)


def open_store(url: str) -> Database:
    """The database behind a URL, checked to stand at this release's schema, or at that of the release after it.

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
    if found is not None and not migrations.is_known(found):
        # A release's migrations leave what the release before needs, so that both may run while one takes the other's place.
        log.warning("the results store stands at revision %s of a later release; update this one soon", found)
    elif found != wanted:
        raise EnvironmentMissing(
            f"the results store stands at revision {found or 'none'}, not {wanted}; run `tamperwatch migrate`"
        )
    return database
