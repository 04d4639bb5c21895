"""The servers of a chaos run: killed, stopped and started again where they were."""

import contextlib
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
from redis import Redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from cli.children import Child
from tests.local_servers import running_postgres, running_redis, running_s3
from tests.servers import S3Server, takes_puts
from tests.waiting import wait_for


@dataclass(frozen=True)
class Servers:
    """Three servers that may be killed and started again where they were."""

    redis_url: str
    postgres_url: str
    s3: S3Server
    redis: Child
    postgres: Child
    weed: Child
    folder: Path

    def heal(self) -> None:
        """Whatever was done to them, let them run and answer again."""
        for child in (self.redis, self.postgres, self.weed):
            signal_to(child, signal.SIGCONT)
            child.revive()
        for child in (self.redis, self.weed):
            limit_file_size(child, resource.RLIM_INFINITY)
        with Redis.from_url(self.redis_url, retry=Retry(ConstantBackoff(0.1), 100)) as client:
            client.client_unpause()
            client.config_set("maxmemory", "0")

    def forget_redis(self) -> None:
        """Delete the append-only file of a Redis that does not run."""
        for path in self.folder.glob("appendonly*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


@contextlib.contextmanager
def chaos_servers(folder: Path) -> Iterator[Servers]:
    """Redis with its append-only file, PostgreSQL and SeaweedFS, ready for use."""
    with ExitStack() as stack:
        redis_url, redis = stack.enter_context(running_redis(folder, append_only=True))
        postgres_url, postgres = stack.enter_context(running_postgres())
        *address, weed = stack.enter_context(running_s3(folder))
        s3 = S3Server(*address)
        wait_for(lambda: takes_puts(s3), "accepted put from S3", 60)
        yield Servers(redis_url, postgres_url, s3, redis, postgres, weed, folder)


def limit_file_size(child: Child, limit_bytes: int) -> None:
    """Let a process write no file beyond this size, if it still runs. The hard limit stays, so that it can be lifted again."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(child.pid)
        _, most = process.rlimit(psutil.RLIMIT_FSIZE)
        process.rlimit(psutil.RLIMIT_FSIZE, (limit_bytes, most))


def signal_to(child: Child | None, number: signal.Signals) -> None:
    """Send a signal to a process, if it still runs."""
    if child is not None and child.running:
        os.kill(child.pid, number)
