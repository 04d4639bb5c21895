"""A real worker process between a real Redis, PostgreSQL and S3 server, told everything through its environment."""

import hashlib
import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from redis import Redis
from sqlalchemy import func
from sqlmodel import col, select

from cli.children import Child
from schemas.settings import BlobSettings, Settings
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, AuditResult
from storage import queries
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from tests.pictures import picture_bytes
from tests.waiting import wait_for
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]
_DONE_S = 90


class Installation:
    """The servers as one test sees them, and the workers it starts."""

    def __init__(self, settings: Settings, env: Mapping[str, str], folder: Path) -> None:
        self.settings, self.env, self.folder = settings, env, folder
        self.database = Database(settings.database_url)
        self.blobs: BlobStore = open_blob_store(settings.blobs)
        self.app = make_app(settings)
        self.workers: list[Child] = []

    def start_worker(self) -> Child:
        number = len(self.workers) + 1
        argv = [sys.executable, "-m", "cli.main", "worker"]
        self.workers.append(Child(f"worker-{number}", argv, self.folder / f"worker-{number}.log", self.env))
        return self.workers[-1]

    def submit(self, pictures: Mapping[str, bytes], **changes: Any) -> None:
        folder = self.folder / uuid.uuid4().hex
        folder.mkdir()
        for name, data in pictures.items():
            (folder / name).write_bytes(data)
        files = [SourceFile(folder / name, name) for name in pictures]
        submission = Submission("integration", max_bytes=10**6, **changes)
        assert sum(submit_files(files, submission, self.database, self.blobs, self.app)) == len(files)

    def counts(self) -> dict[JobState, int]:
        with self.database.read() as session:
            return queries.job_counts(session)

    def jobs(self) -> dict[str, AuditJob]:
        with self.database.read() as session:
            found = {job.source: job for job in session.exec(select(AuditJob))}
            session.expunge_all()
            return found

    def results_per_job(self) -> Counter[uuid.UUID]:
        with self.database.read() as session:
            own = select(AuditResult.job_id, func.count()).where(AuditResult.profile == "none").group_by(col(AuditResult.job_id))
            return Counter(dict(session.exec(own).all()))

    def wait_until_ended(self, jobs: int) -> None:
        def all_ended() -> bool:
            counts = self.counts()
            return counts[JobState.DONE] + counts[JobState.FAILED] == jobs

        try:
            wait_for(all_ended, f"end of {jobs} jobs", _DONE_S)
        except TimeoutError as error:
            logs = "\n".join(worker.log_tail() for worker in self.workers)
            raise AssertionError(f"{error}; they stand at {self.counts()}; workers say:\n{logs}") from error

    def close(self) -> None:
        for worker in self.workers:
            if worker.running:
                os.kill(worker.pid, signal.SIGKILL)
            worker.stop(grace_s=5)
        self.app.close()
        self.database.close()


@pytest.fixture
def installation(
    tmp_path: Path, broker_url: str, migrated_postgres_url: str, s3_settings: BlobSettings
) -> Iterator[Installation]:
    settings = Settings(database_url=migrated_postgres_url, broker_url=broker_url, blobs=s3_settings)
    assert s3_settings.access_key is not None and s3_settings.secret_key is not None
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {
        "PYTHONPATH": str(ROOT),
        "TAMPERWATCH_DATABASE_URL": migrated_postgres_url,
        "TAMPERWATCH_BROKER_URL": broker_url,
        "TAMPERWATCH_BLOBS__BACKEND": "minio",
        "TAMPERWATCH_BLOBS__ENDPOINT": s3_settings.endpoint,
        "TAMPERWATCH_BLOBS__BUCKET": s3_settings.bucket,
        "TAMPERWATCH_BLOBS__SECURE": "false",
        "TAMPERWATCH_BLOBS__ACCESS_KEY": s3_settings.access_key.get_secret_value(),
        "TAMPERWATCH_BLOBS__SECRET_KEY": s3_settings.secret_key.get_secret_value(),
        "TAMPERWATCH_ENGINE__THREADS": "1",
        "TAMPERWATCH_WORKER__MAX_BATCH": "2",
    }
    made = Installation(settings, env, tmp_path)
    yield made
    made.close()


def test_every_picture_ends_with_one_result_or_one_named_error(installation: Installation) -> None:
    good = {f"picture {number} ü.jpg": picture_bytes(number) for number in range(8)}
    bad = {"empty.jpg": b"", "text.jpg": b"no picture", "cut.jpg": picture_bytes(1)[:700]}
    installation.submit(good | bad)
    installation.submit({"also on wechat.jpg": picture_bytes(99)}, profiles=("wechat",), queue=AuditQueue.HIGH)
    foreign = _send_foreign_messages(installation)
    installation.start_worker()
    installation.wait_until_ended(len(good) + len(bad) + 1 + 2)
    jobs = installation.jobs()
    assert {name: jobs[name].error_code for name in bad} == {
        "empty.jpg": "empty",
        "text.jpg": "unsupported_format",
        "cut.jpg": "decode_failed",
    }
    done = [*good, "also on wechat.jpg", "theirs.jpg"]
    assert {jobs[name].state for name in done} == {JobState.DONE}
    assert (jobs["missing.jpg"].state, jobs["missing.jpg"].error_code) == (JobState.FAILED, "blob_missing")
    assert installation.results_per_job() == {jobs[name].id: 1 for name in done}
    with installation.database.read() as session:
        audited = {each.job.source: each for each in queries.read_results(session, after=0)}
    assert set(audited["also on wechat.jpg"].results) == {"none", "wechat"}
    assert audited["theirs.jpg"].job.id == foreign
    assert {job.attempts for job in jobs.values()} == {1}


def test_a_worker_told_to_stop_loses_nothing(installation: Installation) -> None:
    count = 80
    installation.submit({f"{number}.jpg": picture_bytes(number, 640, 480) for number in range(count)})
    first = installation.start_worker()
    wait_for(lambda: installation.counts()[JobState.DONE] >= 4, "first results", _DONE_S)
    os.kill(first.pid, signal.SIGTERM)
    wait_for(lambda: not first.running, "end of the worker", 60)
    left = count - installation.counts()[JobState.DONE]
    assert left > 0, "the worker was too fast for this test"
    # Well within the visibility timeout of 120 s: the messages in hand were given back, not abandoned.
    with Redis.from_url(installation.settings.broker_url) as client:
        assert client.hlen("unacked") == 0
        assert client.llen("audit.default") == left
    installation.start_worker()
    installation.wait_until_ended(count)
    assert installation.counts()[JobState.DONE] == count
    assert set(installation.results_per_job().values()) == {1}


def _send_foreign_messages(installation: Installation) -> uuid.UUID:
    """What a producer without our code may send with plain Celery: two good messages, and much that is none."""
    data = picture_bytes(1234)
    sha256 = hashlib.sha256(data).hexdigest()
    installation.blobs.put(picture_key(sha256), data)
    theirs = uuid.uuid4()
    producer = Celery(broker=installation.settings.broker_url, set_as_current=False)
    send: Callable[..., Any] = producer.send_task
    valid = {"version": 1, "job_id": str(theirs), "sha256": sha256, "source": "theirs.jpg"}
    send("audit.image", args=[valid], queue="audit.bulk", serializer="json")
    missing = valid | {"job_id": str(uuid.uuid4()), "sha256": "0" * 64, "source": "missing.jpg"}
    send("audit.image", args=[missing], queue="audit.default", serializer="json")
    for wrong in (valid | {"version": 2}, valid | {"source": "a\x00b"}, {}, None, "text", [valid], 7):
        send("audit.image", args=[wrong], queue="audit.default", serializer="json")
    send("audit.image", args=[], queue="audit.default", serializer="json")
    send("audit.image", args=[valid, valid], queue="audit.default", serializer="json")
    send("no.such.task", args=[valid], queue="audit.default", serializer="json")
    producer.close()
    return theirs
