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
import tempfile
import uuid
from dataclasses import asdict
from pathlib import Path

from benchmarks.draining import Drained, as_text, watched, worker_process
from benchmarks.pictures import SAMPLES, write_jpegs
from schemas.settings import BlobSettings, Settings
from storage import jobs, migrations
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.jobs import NewJob
from tests.servers import new_postgres_database, postgres_for_tests, redis_for_tests
from workers.app import make_app, send_audits
from workers.sweeper import message_of

_BATCH = 500


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
            print(as_text(results[-1]), flush=True)
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
        with worker_process(["benchmarks.idle_worker"], settings, folder) as worker:
            return watched(length, database, worker)


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


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[1000, 10_000], help="jobs in each queue")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
