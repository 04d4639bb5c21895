"""Fixtures that several rooms share: the servers of the session, and one test's own place on each of them."""

import itertools
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from pydantic import SecretStr
from redis import Redis

from schemas.settings import BlobSettings
from storage import migrations
from storage.database import Database
from tests.servers import S3Server, new_postgres_database, postgres_for_tests, redis_for_tests, s3_for_tests

_REDIS_NUMBERS = itertools.cycle(range(16))


def pytest_configure() -> None:
    # A busy machine is no defect: what is slow is marked so, not timed example by example.
    slow_is_fine = [hypothesis.HealthCheck.too_slow]
    hypothesis.settings.register_profile("tamperwatch", deadline=None, suppress_health_check=slow_is_fine)
    hypothesis.settings.load_profile("tamperwatch")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_for_tests(tmp_path_factory.mktemp("redis")) as url:
        yield url


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    with postgres_for_tests() as url:
        yield url


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    with s3_for_tests(tmp_path_factory.mktemp("s3")) as server:
        yield server


@pytest.fixture
def broker_url(redis_url: str) -> Iterator[str]:
    """An empty Redis database of this test's own."""
    url = f"{redis_url}/{next(_REDIS_NUMBERS)}"
    with Redis.from_url(url) as client:
        client.flushdb()
        yield url
        client.flushdb()


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file to copy from."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = Database(f"sqlite:///{path}")
    migrations.upgrade(database)
    database.close()
    return path


@pytest.fixture(scope="session")
def migrated_postgres(postgres_url: str) -> Iterator[str]:
    """The name of a migrated, empty PostgreSQL database to copy from."""
    with new_postgres_database(postgres_url) as url:
        database = Database(url)
        migrations.upgrade(database)
        database.close()
        yield url.rpartition("/")[2]


@pytest.fixture
def sqlite_url(tmp_path: Path, migrated_sqlite: Path) -> str:
    """A migrated, empty SQLite database of this test's own."""
    path = tmp_path / "tamperwatch.db"
    shutil.copyfile(migrated_sqlite, path)
    return f"sqlite:///{path}"


@pytest.fixture
def migrated_postgres_url(postgres_url: str, migrated_postgres: str) -> Iterator[str]:
    """A migrated, empty PostgreSQL database of this test's own."""
    with new_postgres_database(postgres_url, migrated_postgres) as url:
        yield url


@pytest.fixture
def sqlite(sqlite_url: str) -> Iterator[Database]:
    database = Database(sqlite_url)
    yield database
    database.close()


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.slow)])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated, empty database: the test runs once on SQLite and once on PostgreSQL."""
    url = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "migrated_postgres_url")
    database = Database(url)
    yield database
    database.close()


@pytest.fixture
def s3_settings(s3_server: S3Server) -> BlobSettings:
    """A bucket of this test's own; the store makes it."""
    return BlobSettings(
        backend="minio",
        endpoint=s3_server.endpoint,
        bucket=f"test-{uuid.uuid4().hex}",
        secure=False,
        access_key=SecretStr(s3_server.access_key),
        secret_key=SecretStr(s3_server.secret_key),
    )
