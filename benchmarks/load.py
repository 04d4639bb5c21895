"""Jobs by the ten thousand through all real servers, from bytes to results: what a picture costs at each station.

    python -m benchmarks.load [--count 20000] [--megapixels 0.1 1.0] [--student no-op] [--json FILE]

PostgreSQL, Redis and an S3 server (those of the tests), and one real worker. Every picture is a file of its own, of the
given size: it is stored, its job and message are sent, and when all are in the worker starts. Timed from its first tenth of jobs
to its last, so that starting up counts nowhere; CPU times are those of whole processes. In the end each job must have exactly one
result, Redis must be empty, and rows and bytes must agree.

--student no-op     a network that costs nothing, with an answer of the shipped student's: all else is as it is
--student 224       the shipped student with an input of 224 pixels, about a fifth of its arithmetic
--student shipped   the shipped student
"""

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path

from pydantic import SecretStr
from redis import Redis
from sqlmodel import col, func, select

from benchmarks.draining import Drained, as_text, watched, worker_process
from benchmarks.pictures import SAMPLES, numbered, write_jpegs
from benchmarks.small_student import make_live, small_student
from schemas.settings import BlobSettings, Settings
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditResult
from storage import migrations, orphans, queries
from storage.blobs import open_blob_store
from storage.database import Database
from tests.servers import S3Server, new_postgres_database, postgres_for_tests, redis_for_tests, s3_for_tests
from workers.app import make_app
from workers.sources import Source
from workers.submission import Submission, submit_sources

_ORIGINALS = 26
_STUDENTS = ("no-op", "224", "shipped")
_PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class Loaded:
    """One size of picture, all jobs.

    Attributes:
        kb: a picture's bytes / 1000.
        submit_ms: time a picture until its bytes, row and message were in.
        drained: what came then.
        problems: what was lost, doubled or left behind.
    """

    megapixels: float
    student: str
    kb: float
    submit_ms: float
    drained: Drained
    problems: list[str]


@dataclass(frozen=True)
class Numbered:
    """The bytes of one of few pictures, made different from all others."""

    jpeg: bytes
    number: int

    def stamp(self) -> str | None:
        return None

    def read(self, max_bytes: int) -> bytes:  # noqa: ARG002
        return numbered(self.jpeg, self.number)


def main() -> None:
    """Measure and print; exit 1 where anything was lost or doubled."""
    options = _options()
    measured = []
    with tempfile.TemporaryDirectory(prefix="tamperwatch-load-") as name, contextlib.ExitStack() as servers:
        folder = Path(name)
        redis = servers.enter_context(redis_for_tests(folder))
        postgres, s3 = servers.enter_context(postgres_for_tests()), servers.enter_context(s3_for_tests(folder))
        for megapixels in options.megapixels:
            with new_postgres_database(postgres) as database_url:
                own = folder / f"{megapixels:g}"
                settings = settings_for(database_url, f"{redis}/0", s3)
                measured.append(under_load(options.count, megapixels, options.student, settings, own))
            print(_as_text(measured[-1]), flush=True)
    if options.json:
        options.json.write_text(json.dumps([asdict(each) for each in measured], indent=1) + "\n", encoding="utf-8")
    sys.exit(1 if any(each.problems for each in measured) else 0)


def settings_for(database_url: str, broker_url: str, s3: S3Server) -> Settings:
    """These servers, in a bucket of its own; every picture is audited, once."""
    blobs = BlobSettings(
        backend="minio",
        endpoint=s3.endpoint,
        bucket=f"load-{uuid.uuid4().hex}",
        secure=False,
        access_key=SecretStr(s3.access_key),
        secret_key=SecretStr(s3.secret_key),
    )
    settings = Settings(database_url=database_url, broker_url=broker_url, blobs=blobs)
    settings.worker.reuse_results = False
    settings.worker.stability_band = 0.0
    return settings


def under_load(count: int, megapixels: float, student: str, settings: Settings, folder: Path) -> Loaded:
    """Submit all pictures, start a worker, wait for the last one, and count.

    Args:
        student: one of those named above.
        folder: made here.
    """
    paths = write_jpegs(SAMPLES, folder / "pictures", _ORIGINALS, megapixels)
    originals = [path.read_bytes() for path in paths]
    with contextlib.closing(Database(settings.database_url)) as database:
        migrations.upgrade(database)
        if student.isdecimal():
            make_live(small_student(folder / "student", int(student)), database)
        started_s = time.perf_counter()
        _submit(count, originals, settings, database)
        submit_ms = (time.perf_counter() - started_s) / count * 1000
        module = ["benchmarks.idle_worker"] if student == "no-op" else ["cli.main", "worker"]
        with worker_process(module, settings, folder, **_keys(settings)) as worker:
            drained = watched(count, database, worker)
        kb = statistics.mean(map(len, originals)) / 1000
        return Loaded(megapixels, student, kb, submit_ms, drained, list(_problems(count, settings, database)))


def _submit(count: int, originals: Sequence[bytes], settings: Settings, database: Database) -> None:
    numbers = range(count)
    contents = (Numbered(originals[number % len(originals)], number) for number in numbers)
    sources = (
        Source(f"{number}.jpg", content, client_ref=str(number)) for number, content in zip(numbers, contents, strict=True)
    )
    with make_app(settings) as app:
        for _ in submit_sources(sources, Submission("load", 10**8), database, open_blob_store(settings.blobs), app):
            pass


def _keys(settings: Settings) -> dict[str, str]:
    """The secrets of the blob store, which are left out where settings become variables."""
    keys = {"ACCESS": settings.blobs.access_key, "SECRET": settings.blobs.secret_key}
    return {f"TAMPERWATCH_BLOBS__{name}_KEY": key.get_secret_value() for name, key in keys.items() if key is not None}


def _problems(count: int, settings: Settings, database: Database) -> Iterator[str]:
    """What is not as it must be after the last job."""
    with database.read() as session:
        states = {state.value: number for state, number in queries.job_counts(session).items() if number}
        results, jobs = session.exec(select(func.count(), func.count(col(AuditResult.job_id).distinct()))).one()
    if states != {JobState.DONE.value: count}:
        yield f"jobs by state: {states}"
    if (results, jobs) != (count, count):
        yield f"{results} results of {jobs} jobs"
    with contextlib.closing(Redis.from_url(settings.broker_url)) as client:
        left = {"unacknowledged": client.hlen("unacked"), "waiting": client.llen(AuditQueue.DEFAULT.celery_name)}
    if any(left.values()):
        yield f"left in Redis: {left}"
    found = orphans.check(database, open_blob_store(settings.blobs), grace_s=0.0)
    yield from islice((f"{finding.kind}: {finding.name}" for finding in found), _PROBLEMS_SHOWN)


def _as_text(measured: Loaded) -> str:
    sound = "exactly one result each; Redis is empty; rows and bytes agree"
    return (
        f"{measured.megapixels:g} megapixels ({measured.kb:.0f} kB), student {measured.student}: "
        f"{measured.submit_ms:.2f} ms a picture to submit; {'; '.join(measured.problems) or sound}\n{as_text(measured.drained)}"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000, help="pictures of each size")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.1, 1.0])
    parser.add_argument("--student", choices=_STUDENTS, default=_STUDENTS[0])
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
