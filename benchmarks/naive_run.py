"""Runs Celery workers that are not ours, to compare with: the app named, on files, over a private Redis."""

import os
import sqlite3
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from celery import Celery

from benchmarks.ours import WARM_SHARE
from cli.children import Child
from cli.redis_binary import redis_command, wait_for_redis
from model.card import builtin_directory

_POLL_S = 0.2


def naive_rate(
    paths: Sequence[Path], folder: Path, processes: int, student: Path | None = None, engine: str = "torch", app: str = "naive"
) -> float:
    """Images/s of `benchmarks.<app>` with this engine; 1 process takes all cores, more share them.

    Args:
        folder: made here; keeps queue, results and logs.
        student: folder of the student; the shipped one if left out.
        app: a module of this package with a Celery app and a task `<app>.audit` that takes a path.
    """
    folder.mkdir(parents=True)
    socket = folder / "redis.sock"
    environment = os.environ | {
        "NAIVE_BROKER": f"redis+socket://{socket}",
        "NAIVE_DATABASE": str(folder / "results.db"),
        "NAIVE_STUDENT": str(student or builtin_directory()),
        "NAIVE_ENGINE": engine,
        "NAIVE_THREADS": str(max(1, (os.cpu_count() or 1) // processes)),
    }
    pool = ["--pool", "solo"] if processes == 1 else ["--pool", "prefork", "--concurrency", str(processes)]
    redis = Child("redis", redis_command(socket, folder), folder / "redis.log", environment)
    command = [sys.executable, "-m", "celery", "-A", f"benchmarks.{app}", "worker", *pool, "--loglevel", "WARNING"]
    worker: Child | None = None
    try:
        wait_for_redis(socket, redis)
        with Celery(broker=environment["NAIVE_BROKER"], set_as_current=False) as sender:
            for path in paths:
                sender.send_task(f"{app}.audit", args=[str(path)])
        worker = Child(f"{app} worker", command, folder / "worker.log", environment)
        return steady_rate(_finished_s(folder / "results.db", len(paths), worker))
    finally:
        if worker is not None:
            worker.stop(grace_s=10)
        redis.stop(grace_s=5)


def steady_rate(finished_s: Sequence[float]) -> float:
    """Pictures a second after the first fifth had passed."""
    times = sorted(finished_s)
    first = int(len(times) * WARM_SHARE)
    return (len(times) - 1 - first) / (times[-1] - times[first])


def _finished_s(database: Path, count: int, worker: Child) -> list[float]:
    """When each picture was finished, once all are."""
    while len(times := stored_times_s(database)) < count:
        if not worker.running:
            sys.exit(f"{worker.name} died: {worker.log_tail()}")
        time.sleep(_POLL_S)
    return times


def stored_times_s(database: Path) -> list[float]:
    """When each picture was finished whose result is stored so far."""
    if not database.exists():
        return []
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        exists = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'result'").fetchone()[0]
        return [row[0] for row in connection.execute("SELECT finished_at FROM result")] if exists else []
