"""The API over a database and a folder of this test's own, with a key for each scope."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from argon2 import PasswordHasher

from schemas.settings import BlobSettings, Settings
from storage import passwords
from storage.database import Database
from tests.web.made import NOBODY, Api, context_for, running
from tests.web.page import bundled


@pytest.fixture(scope="session", autouse=True)
def _page() -> None:
    bundled()


@pytest.fixture(scope="module", autouse=True)
def _cheap_passwords() -> Iterator[None]:
    """Real argon2id, without the costs that slow guessing down: `tests/storage/test_people.py` looks at those."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "_HASHER", PasswordHasher(time_cost=1, memory_cost=64, parallelism=1))
        passwords._nobodys.cache_clear()
        yield
    passwords._nobodys.cache_clear()


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> Settings:
    """Of an API without a Redis: what is taken in waits in SQL."""
    return Settings(database_url=sqlite_url, broker_url=NOBODY, blobs=BlobSettings(directory=tmp_path / "blobs"))


@pytest.fixture
def api(settings: Settings, sqlite: Database) -> Iterator[Api]:
    with running(sqlite, context_for(settings, sqlite)) as made:
        yield made
