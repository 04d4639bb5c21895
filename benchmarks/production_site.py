"""The production roles as separate processes, with the commands and variables that compose.yaml and the Dockerfile give them.

What differs is what has to, without containers: where the stores listen, a port for each process, folders below one of our own
in place of the image's, and two engine threads a worker less. Secrets are files, as compose mounts them.
"""

import os
import re
import secrets
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import httpx2
import yaml
from prometheus_client.parser import text_string_to_metric_families
from redis import Redis
from sqlalchemy import text
from sqlmodel import SQLModel

from benchmarks.chaos_servers import Servers
from cli.children import Child
from schemas.settings import BlobSettings
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from tests.local_servers import free_ports
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent
READY_S = 120.0
_GIVEN = re.compile(r"\$\{(\w+):-([^}]*)\}")
_ROLES = {"worker-1": "worker-cpu", "worker-2": "worker-cpu", "web-1": "web", "web-2": "web"}
Sample = tuple[str, ...]


@dataclass
class Role:
    """One process of a role.

    Attributes:
        service: its name in compose.yaml.
        port: of its telemetry.
        web_port: of the API, where it serves one.
        exits: the status of every process of it that was told to stop, in order.
    """

    name: str
    service: str
    port: int
    web_port: int
    child: Child
    exits: list[int] = field(default_factory=list)

    def get(self, path: str) -> httpx2.Response | None:
        """An answer of the telemetry port; None while nobody listens."""
        try:
            return httpx2.get(f"http://127.0.0.1:{self.port}{path}", timeout=10, trust_env=False)
        except httpx2.TransportError:
            return None

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200

    def metrics(self) -> dict[Sample, float]:
        """Every sample by its name and the values of its labels.

        Raises:
            RuntimeError: there is no answer.
        """
        answer = self.get("/metrics")
        if answer is None or answer.status_code != 200:
            raise RuntimeError(f"{self.name} does not show its metrics: {self.child.log_tail()}")
        families = text_string_to_metric_families(answer.text)
        return {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}


class Site:
    """One installation: the stores' addresses as secrets, and the roles that were started."""

    def __init__(self, servers: Servers, folder: Path, **variables: str) -> None:
        """Write the secrets; nothing is started.

        Args:
            servers: the stores, used by this site alone.
            folder: takes secrets, logs and what containers keep in their volumes.
            variables: given to compose, as a person would before `docker compose up`.
        """
        self.servers, self.folder = servers, folder
        self.roles: dict[str, Role] = {}
        self._given = variables
        self._compose = _services()
        self._secrets = folder / "secrets"
        self._write_secrets()
        self.database = Database(servers.postgres_url)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for role in self.roles.values():
            role.child.stop(grace_s=30)
        self.database.close()

    def variables(self, service: str, port: int = 0, web_port: int = 0) -> dict[str, str]:
        """The whole environment of one process."""
        ours = {
            "TAMPERWATCH_SECRETS_DIR": str(self._secrets),
            "TAMPERWATCH_BLOBS__ENDPOINT": self.servers.s3.endpoint,
            "TAMPERWATCH_TELEMETRY__PORT": str(port),
            "TAMPERWATCH_WEB__PORT": str(web_port),
            "TAMPERWATCH_ENGINE__THREADS": "1",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        theirs = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")}
        return theirs | deployed_variables(service, self.folder, self._given) | ours

    def start(self, name: str) -> Role:
        """Start a role, or start it again after it was stopped; it is not ready yet."""
        service = _ROLES.get(name, name)
        known = self.roles.get(name)
        ports = (known.port, known.web_port) if known else tuple(free_ports(2))
        argv = [sys.executable, "-m", "cli.main", *self._compose[service]["command"]]
        child = Child(name, argv, self.folder / f"{name}.log", self.variables(service, *ports))
        if known is None:
            known = self.roles[name] = Role(name, service, *ports, child)
        known.child = child
        return known

    def wait_until_ready(self, *names: str) -> None:
        """Until these roles are, or all that were started."""
        for role in [self.roles[name] for name in names] or self.roles.values():
            try:
                wait_for(lambda role=role: role.ready() or not role.child.running, f"readiness of {role.name}", READY_S)  # type: ignore[misc]
            except TimeoutError as error:
                answer = role.get("/readyz")
                raise RuntimeError(f"{error}: {answer and answer.text}; {role.child.log_tail()}") from error
            if not role.child.running:
                raise RuntimeError(f"{role.name} has ended: {role.child.log_tail()}")

    def stop(self, name: str) -> int:
        """SIGTERM, and the time that compose would give it; its exit status, which is -9 where that was not enough."""
        role = self.roles[name]
        grace_s = float(str(self._compose[role.service]["stop_grace_period"]).removesuffix("s"))
        role.exits.append(role.child.stop(grace_s))
        return role.exits[-1]

    def run(self, *argv: str) -> str:
        """Run one verb to its end, as `docker compose run --rm migrate VERB` does; its standard output.

        Raises:
            RuntimeError: it failed; with what it said.
        """
        command = [sys.executable, "-m", "cli.main", *argv]
        env = self.variables("migrate")
        done = subprocess.run(command, env=env, cwd=self.folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"tamperwatch {' '.join(argv)} ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def web(self, name: str) -> str:
        """The address of a web process."""
        return f"http://127.0.0.1:{self.roles[name].web_port}"

    def blobs(self) -> BlobStore:
        """The bucket, for whoever wants to count."""
        server = self.servers.s3
        keys = {"access_key": server.access_key, "secret_key": server.secret_key}
        where = {"endpoint": server.endpoint, "secure": False, "bucket": "tamperwatch"}
        return open_blob_store(BlobSettings.model_validate({"backend": "minio", **where, **keys}))

    def _write_secrets(self) -> None:
        self._secrets.mkdir(mode=0o700, parents=True)
        with Redis.from_url(self.servers.redis_url) as client:
            # As compose sets it up; the one of the tests starts without a password.
            password = secrets.token_hex(24)
            client.config_set("requirepass", password)
        values = {
            "TAMPERWATCH_DATABASE_URL": self.servers.postgres_url,
            "TAMPERWATCH_BROKER_URL": self.servers.redis_url.replace("redis://", f"redis://:{password}@") + "/0",
            "TAMPERWATCH_BLOBS__ACCESS_KEY": self.servers.s3.access_key,
            "TAMPERWATCH_BLOBS__SECRET_KEY": self.servers.s3.secret_key,
            "TAMPERWATCH_SELECTION__HOLDOUT_SALT": secrets.token_hex(24),
        }
        for name in self._compose["migrate"]["secrets"]:
            (self._secrets / name).write_text(values[name] + "\n", encoding="utf-8")


def rows_by_table(database: Database) -> dict[str, tuple[int, str]]:
    """How many rows every table of the schema has, and a digest of all they hold (PostgreSQL)."""
    with database.read() as session:
        connection = session.connection()
        digest = "md5(coalesce(string_agg(md5(t::text), '' ORDER BY md5(t::text)), ''))"
        queries = {name: text(f'SELECT count(*), {digest} FROM "{name}" t') for name in sorted(SQLModel.metadata.tables)}
        return {name: (int(row[0]), str(row[1])) for name, query in queries.items() for row in connection.execute(query)}


def deployed_variables(service: str, folder: Path, given: Mapping[str, str]) -> dict[str, str]:
    """What a container of this service finds in its environment, beside its secrets' folder.

    Args:
        folder: stands for the image's two folders that are written to.
        given: what compose itself is given, for `${NAME:-default}`.
    """
    places = {"/var/lib/tamperwatch": folder / "lib", "/var/cache/tamperwatch": folder / "cache"}
    image = {name: _moved(value, places) for name, value in _image_environment().items()}
    told = _services()[service]["environment"]
    return image | {name: _GIVEN.sub(lambda found: given.get(found[1], found[2]), str(value)) for name, value in told.items()}


def _services() -> dict[str, Any]:
    services: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))["services"]
    return services


def _image_environment() -> dict[str, str]:
    """The variables that the Dockerfile sets in every image, but PATH and HOME, which are the container's."""
    runtime = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8").partition(" AS runtime\n")[2].partition("\nFROM ")[0]
    lines = re.sub(r"\\\n", " ", runtime).splitlines()
    pairs = [each.split("=", 1) for line in lines if line.startswith("ENV ") for each in line.split()[1:]]
    return {name: value for name, value in pairs if name not in ("PATH", "HOME")}


def _moved(value: str, places: Mapping[str, Path]) -> str:
    for place, folder in places.items():
        if value == place or value.startswith(f"{place}/"):
            return str(folder) + value.removeprefix(place)
    return value
