"""Where tests find their servers. In order: a URL from the environment, Docker, a program from a wheel.

Variables: TAMPERWATCH_TEST_REDIS_URL (database numbers 0 to 15 are emptied), TAMPERWATCH_TEST_POSTGRES_URL (a role that
may create databases), TAMPERWATCH_TEST_S3_ENDPOINT (host:port without TLS) with TAMPERWATCH_TEST_S3_ACCESS_KEY and
TAMPERWATCH_TEST_S3_SECRET_KEY. A server that cannot be had is an error, never a skip.
"""

import contextlib
import gc
import os
import secrets
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from minio import Minio
from minio.error import MinioException
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import OperationalError
from urllib3.exceptions import HTTPError

from schemas.errors import EnvironmentMissing
from tests.local_servers import local_postgres, local_redis, local_s3, redis_answers
from tests.waiting import wait_for

_PREFIX = "TAMPERWATCH_TEST_"
_READY_S = 60.0


@dataclass(frozen=True)
class S3Server:
    """An S3 server without TLS and the credentials it accepts."""

    endpoint: str
    access_key: str
    secret_key: str

    def client(self) -> Minio:
        return Minio(self.endpoint, access_key=self.access_key, secret_key=self.secret_key, secure=False, region="us-east-1")


@contextlib.contextmanager
def redis_for_tests(folder: Path) -> Iterator[str]:
    """A Redis; yields its URL without a database number."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get(f"{_PREFIX}REDIS_URL", "").rstrip("/")
        if not url and docker_answers():
            url = f"redis://{stack.enter_context(_container('redis:7.4', 6379))}"
        url = url or stack.enter_context(local_redis(folder))
        wait_for(lambda: redis_answers(url), f"answer from Redis at {url}", _READY_S)
        yield url


@contextlib.contextmanager
def postgres_for_tests() -> Iterator[str]:
    """A PostgreSQL; yields an SQLAlchemy URL whose role may create databases."""
    with contextlib.ExitStack() as stack:
        url = os.environ.get(f"{_PREFIX}POSTGRES_URL", "")
        if not url and docker_answers():
            password = secrets.token_hex(8)
            address = stack.enter_context(_container("postgres:17", 5432, POSTGRES_PASSWORD=password))
            url = f"postgresql+psycopg://postgres:{password}@{address}/postgres"
        url = url or stack.enter_context(local_postgres())
        wait_for(lambda: _postgres_answers(url), "answer from PostgreSQL", _READY_S)
        yield url


@contextlib.contextmanager
def s3_for_tests(folder: Path) -> Iterator[S3Server]:
    """An S3 server that takes puts already."""
    with contextlib.ExitStack() as stack:
        if f"{_PREFIX}S3_ENDPOINT" in os.environ:
            server = S3Server(*(_required(f"{_PREFIX}S3_{name}") for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY")))
        elif docker_answers():
            user, password = secrets.token_hex(8), secrets.token_hex(16)
            container = _container("minio/minio", 9000, "server /data", MINIO_ROOT_USER=user, MINIO_ROOT_PASSWORD=password)
            server = S3Server(stack.enter_context(container), user, password)
        else:
            server = S3Server(*stack.enter_context(local_s3(folder)))
        wait_for(lambda: takes_puts(server), f"accepted put from S3 at {server.endpoint}", _READY_S)
        yield server


def docker_answers() -> bool:
    """Whether a Docker engine answers within two seconds."""
    import docker
    from docker.errors import DockerException

    # The client leaves its socket open when nobody answers; collected in here, the warning stays in here.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with contextlib.closing(docker.from_env(timeout=2)) as client:
                return bool(client.ping())
        except DockerException:
            return False
        finally:
            gc.collect()


@contextlib.contextmanager
def new_postgres_database(server_url: str, template: str = "template1") -> Iterator[str]:
    """An own database on a PostgreSQL server, dropped afterwards; yields its URL."""
    name = f"tamperwatch_test_{uuid.uuid4().hex}"
    _administer(server_url, f'CREATE DATABASE {name} TEMPLATE "{template}"')
    try:
        yield make_url(server_url).set(database=name).render_as_string(hide_password=False)
    finally:
        _administer(server_url, f"DROP DATABASE {name} WITH (FORCE)")


@contextlib.contextmanager
def _container(image: str, port: int, command: str = "", **env: str) -> Iterator[str]:
    """A throw-away container; yields host:port."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from testcontainers.core.container import DockerContainer

    container = DockerContainer(image).with_exposed_ports(port)
    for name, value in env.items():
        container = container.with_env(name, value)
    with container.with_command(command) if command else container as running:
        yield f"{running.get_container_host_ip()}:{running.get_exposed_port(port)}"


def _administer(server_url: str, statement: str) -> None:
    engine = create_engine(server_url, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


def _required(name: str) -> str:
    value = os.environ.get(name)
    if not value:
        raise EnvironmentMissing(f"{name} is not set; it belongs to {_PREFIX}S3_ENDPOINT")
    return value


def _postgres_answers(url: str) -> bool:
    try:
        _administer(url, "SELECT 1")
    except OperationalError:
        return False
    return True


def takes_puts(server: S3Server) -> bool:
    """SeaweedFS answers seconds before it has a volume to write to."""
    bucket, client = f"probe-{uuid.uuid4().hex}", server.client()
    try:
        client.make_bucket(bucket)
        client.put_object(bucket, "probe", BytesIO(b"1"), 1)
        client.remove_object(bucket, "probe")
        client.remove_bucket(bucket)
    except (MinioException, HTTPError, OSError):
        return False
    return True
