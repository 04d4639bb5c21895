"""What a job costs as the queue grows, and whether a worker's memory does: draining queues of a thousand jobs and more.

    python -m benchmarks.queue_length [--lengths 1000 10000] [--json FILE]
    python -m benchmarks.queue_length --lengths 1000 10000 100000

Real PostgreSQL and Redis, and one real worker whose student is a no-op: the network would hide the rest. All jobs name the same
small picture in a directory, which is fetched, decoded and stored with a result each time (answers from the store are off). A
queue is filled before its worker starts, and timed from the worker's first tenth of jobs to its last job, so that starting up
counts nowhere. A cost per job that stays the same is a drain that grows linearly. The servers are those of the tests.
"""

import argparse
import contextlib
import hashlib
import json
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from benchmarks.ours import done_jobs
from benchmarks.pictures import SAMPLES, write_jpegs
from cli.children import Child
from cli.stack import environment_of
from schemas.settings import BlobSettings, Settings
from storage import jobs, migrations
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.jobs import NewJob
from tests.servers import new_postgres_database, postgres_for_tests, redis_for_tests
from workers.app import make_app, send_audits
from workers.sweeper import message_of

_BATCH = 500
_WARM_JOBS = 1000
_WARM_SHARE = 0.1
_POLL_S = 0.1


@dataclass(frozen=True)
class Drained:
    """One queue emptied by one worker.

    Attributes:
        length: jobs.
        wall_ms, cpu_ms: time, and CPU time of the worker, a job.
        redis_ms, sql_ms: CPU time of the servers a job; nan where they are not processes of this command.
        warm_mb, end_mb: resident memory of the worker after the first thousand jobs (or the first half), and at the end.
    """

    length: int
    wall_ms: float
    cpu_ms: float
    redis_ms: float
    sql_ms: float
    warm_mb: float
    end_mb: float


def main() -> None:
    """Measure and print."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="tamperwatch-queue-") as name, contextlib.ExitStack() as servers:
        folder = Path(name)
        redis = servers.enter_context(redis_for_tests(folder))
        postgres = servers.enter_context(postgres_for_tests())
        results = []
        for length in sorted(options.lengths):
            with new_postgres_database(postgres) as database_url:
                results.append(drained(length, database_url, f"{redis}/0", folder / str(length)))
            _print_line(results[-1])
    shortest, longest = results[0], results[-1]
    wall, cpu = longest.wall_ms / shortest.wall_ms, longest.cpu_ms / shortest.cpu_ms
    print(f"a job in the longest queue costs {wall:.2f} x the time and {cpu:.2f} x the CPU of one in the shortest")
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in results], indent=1) + "\n", encoding="utf-8")


def drained(length: int, database_url: str, broker_url: str, folder: Path) -> Drained:
    """Fill a queue, start a worker, and wait for the last job."""
    folder.mkdir()
    settings = Settings(database_url=database_url, broker_url=broker_url, blobs=BlobSettings(directory=folder / "blobs"))
    settings.worker.reuse_results = False
    with contextlib.closing(Database(database_url)) as database:
        migrations.upgrade(database)
        _fill(length, database, settings, folder)
        with _worker(settings, folder) as worker:
            return _watched(length, database, worker)


def _fill(length: int, database: Database, settings: Settings, folder: Path) -> None:
    (path,) = write_jpegs(SAMPLES, folder, 1, megapixels=0.01)
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    open_blob_store(settings.blobs).put(picture_key(sha256), data)
    with make_app(settings) as app:
        for begin in range(0, length, _BATCH):
            numbers = range(begin, min(begin + _BATCH, length))
            new = [NewJob(f"{number}.jpg", sha256, len(data), uuid.uuid4().hex, "bench") for number in numbers]
            with database.write() as session:
                added = jobs.add_jobs(session, new)
            send_audits(app, map(message_of, added))


@contextlib.contextmanager
def _worker(settings: Settings, folder: Path) -> Iterator[Child]:
    own = str(Path(__file__).resolve().parent.parent)
    # As operations.md says for workers on glibc.
    environment = os.environ | environment_of(settings) | {"PYTHONPATH": own, "MALLOC_MMAP_THRESHOLD_": str(4 << 20)}
    child = Child("worker", [sys.executable, "-m", "benchmarks.idle_worker"], folder / "worker.log", environment)
    try:
        yield child
    finally:
        child.stop(grace_s=30)


def _watched(length: int, database: Database, worker: Child) -> Drained:
    process = psutil.Process(worker.pid)
    begun = _wait(int(length * _WARM_SHARE), database, worker)
    started_s = _times_s(process)
    _wait(min(_WARM_JOBS, length // 2), database, worker)
    warm_mb = process.memory_info().rss / 1e6
    _wait(length, database, worker)
    took_ms = [
        (ended_s - begun_s) * 1000 / (length - begun) for begun_s, ended_s in zip(started_s, _times_s(process), strict=True)
    ]
    return Drained(length, *took_ms, warm_mb, process.memory_info().rss / 1e6)


def _times_s(worker: psutil.Process) -> tuple[float, float, float, float]:
    """The time, and the CPU time so far of the worker, Redis and PostgreSQL."""
    return time.perf_counter(), _cpu_s([worker]), _cpu_s(_children("redis-server")), _cpu_s(_children("postgres"))


def _children(name: str) -> list[psutil.Process]:
    children = psutil.Process().children(recursive=True)
    return [child for child in children if name in child.name()]


def _wait(wanted: int, database: Database, worker: Child) -> int:
    while (done := done_jobs(database)) < wanted:
        if not worker.running:
            sys.exit(f"the worker died: {worker.log_tail()}")
        time.sleep(_POLL_S)
    return done


def _cpu_s(processes: Iterable[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return sum(each.user + each.system for each in times) if times else float("nan")


def _print_line(measured: Drained) -> None:
    growth = measured.end_mb / measured.warm_mb - 1
    print(
        f"{measured.length:>8} jobs: {measured.wall_ms:6.2f} ms a job; CPU of the worker {measured.cpu_ms:.2f} ms, "
        f"of Redis {measured.redis_ms:.2f} ms, of PostgreSQL {measured.sql_ms:.2f} ms a job; "
        f"worker {measured.warm_mb:.0f} MB after the first thousand, {measured.end_mb:.0f} MB at the end ({growth:+.1%})",
        flush=True,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 10_000], help="jobs in each queue")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
