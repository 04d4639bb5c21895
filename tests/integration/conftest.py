"""A whole installation as one test sees it: real servers, told everything through the environment, and its workers."""

import os
import signal
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func
from sqlmodel import col, select

from cli.children import Child
from schemas.settings import BlobSettings, Settings
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult
from storage import queries
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from tests.nights import tiny_student
from tests.waiting import wait_for
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

ROOT = Path(__file__).parents[2]
DONE_S = 90


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

    def versions(self) -> Counter[str]:
        """How many results there are of each model version."""
        with self.database.read() as session:
            return Counter(session.exec(select(AuditResult.model_version)).all())

    def wait_until_ended(self, jobs: int) -> None:
        def all_ended() -> bool:
            counts = self.counts()
            return counts[JobState.DONE] + counts[JobState.FAILED] == jobs

        try:
            wait_for(all_ended, f"end of {jobs} jobs", DONE_S)
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


def store_variables(database_url: str, broker_url: str, s3: BlobSettings) -> dict[str, str]:
    """What tells a process which servers are its own, and that it shares the CPU."""
    assert s3.access_key is not None and s3.secret_key is not None
    return {
        "TAMPERWATCH_DATABASE_URL": database_url,
        "TAMPERWATCH_BROKER_URL": broker_url,
        "TAMPERWATCH_BLOBS__BACKEND": "minio",
        "TAMPERWATCH_BLOBS__ENDPOINT": s3.endpoint,
        "TAMPERWATCH_BLOBS__BUCKET": s3.bucket,
        "TAMPERWATCH_BLOBS__SECURE": "false",
        "TAMPERWATCH_BLOBS__ACCESS_KEY": s3.access_key.get_secret_value(),
        "TAMPERWATCH_BLOBS__SECRET_KEY": s3.secret_key.get_secret_value(),
        "TAMPERWATCH_ENGINE__THREADS": "1",
    }


@pytest.fixture(scope="session")
def untaught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny student that has learned next to nothing."""
    return tiny_student(tmp_path_factory.mktemp("untaught"), steps=1)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one that finds the discs."""
    return tiny_student(tmp_path_factory.mktemp("taught"), steps=60, pictures=60)


@pytest.fixture
def installation(
    tmp_path: Path, broker_url: str, migrated_postgres_url: str, s3_settings: BlobSettings
) -> Iterator[Installation]:
    settings = Settings(database_url=migrated_postgres_url, broker_url=broker_url, blobs=s3_settings)
    env = {name: value for name, value in os.environ.items() if not name.startswith("TAMPERWATCH_")} | {
        "PYTHONPATH": str(ROOT),
        **store_variables(migrated_postgres_url, broker_url, s3_settings),
        "TAMPERWATCH_WORKER__MAX_BATCH": "2",
    }
    made = Installation(settings, env, tmp_path)
    yield made
    made.close()
