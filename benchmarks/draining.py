"""One worker that empties a filled queue on real servers, and what each picture costs there: time, CPU of all parts, memory."""

import contextlib
import math
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.ours import done_jobs
from cli.children import Child
from cli.stack import environment_of
from schemas.settings import Settings
from storage.database import Database

_WARM_JOBS = 1000
_WARM_SHARE = 0.1
_POLL_S = 0.1
# Each look counts all jobs: more often than this, and looking would grow with the square of the queue.
_POLL_S_A_JOB = 20e-6


@dataclass(frozen=True)
class Drained:
    """One queue emptied by one worker; times are a job's.

    Attributes:
        length: jobs.
        wall_ms, cpu_ms: time, and CPU time of the worker.
        redis_ms, sql_ms, s3_ms: CPU time of the servers; nan where they are not processes of this command.
        warm_mb, end_mb: resident memory of the worker after the first thousand jobs (or the first half), and at the end.
    """

    length: int
    wall_ms: float
    cpu_ms: float
    redis_ms: float
    sql_ms: float
    s3_ms: float
    warm_mb: float
    end_mb: float

    @property
    def growth(self) -> float:
        """By which share the worker's memory grew after the first thousand jobs."""
        return self.end_mb / self.warm_mb - 1


@contextlib.contextmanager
def worker_process(module: Sequence[str], settings: Settings, folder: Path, **variables: str) -> Iterator[Child]:
    """A worker with these settings for as long as the `with` block lasts.

    Args:
        module: what `python -m` runs, and its arguments.
        folder: takes its log.
        variables: of its environment, beside the settings: `environment_of` leaves secrets out.
    """
    own = str(Path(__file__).resolve().parent.parent)
    # As operations.md says for workers on glibc.
    ours = environment_of(settings) | {"PYTHONPATH": own, "MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
    child = Child("worker", [sys.executable, "-m", *module], folder / "worker.log", os.environ | ours | variables)
    try:
        yield child
    finally:
        child.stop(grace_s=30)


def watched(length: int, database: Database, worker: Child) -> Drained:
    """Wait for the last job, measuring from its first tenth on, or its first thousand, so that starting up counts nowhere."""
    process = psutil.Process(worker.pid)
    begun = _wait(min(_WARM_JOBS, int(length * _WARM_SHARE)), length, database, worker)
    started_s = _times_s(process)
    _wait(min(_WARM_JOBS, length // 2), length, database, worker)
    warm_mb = process.memory_info().rss / 1e6
    _wait(length, length, database, worker)
    wall_ms, cpu_ms, redis_ms, sql_ms, s3_ms = (
        (ended_s - begun_s) * 1000 / (length - begun) for begun_s, ended_s in zip(started_s, _times_s(process), strict=True)
    )
    return Drained(length, wall_ms, cpu_ms, redis_ms, sql_ms, s3_ms, warm_mb, process.memory_info().rss / 1e6)


def as_text(measured: Drained) -> str:
    """One line for people to read."""
    servers = {"Redis": measured.redis_ms, "PostgreSQL": measured.sql_ms, "S3": measured.s3_ms}
    costs = ", ".join(f"of {name} {cost_ms:.2f} ms" for name, cost_ms in servers.items() if not math.isnan(cost_ms))
    return (
        f"{measured.length:>8} jobs: {measured.wall_ms:6.2f} ms a job; "
        f"CPU of the worker {measured.cpu_ms:.2f} ms, {costs} a job; "
        f"worker {measured.warm_mb:.0f} MB after the first thousand, {measured.end_mb:.0f} MB at the end ({measured.growth:+.1%})"
    )


def _times_s(worker: psutil.Process) -> tuple[float, ...]:
    """The time, and the CPU time so far of the worker, Redis, PostgreSQL and S3."""
    servers = (_cpu_s(_children(name)) for name in ("redis-server", "postgres", "weed"))
    return time.perf_counter(), _cpu_s([worker]), *servers


def _children(name: str) -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if name in child.name()]


def _wait(wanted: int, length: int, database: Database, worker: Child) -> int:
    while (done := done_jobs(database)) < wanted:
        if not worker.running:
            sys.exit(f"the worker died: {worker.log_tail()}")
        time.sleep(max(_POLL_S, length * _POLL_S_A_JOB))
    return done


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    times = [spent_s for spent_s in map(_spent_s, processes) if spent_s is not None]
    return sum(times) if times else math.nan


def _spent_s(process: psutil.Process) -> float | None:
    """CPU time of a process, and of its children that have ended: PostgreSQL's maintenance comes and goes."""
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return None
    return float(times.user + times.system + times.children_user + times.children_system)
