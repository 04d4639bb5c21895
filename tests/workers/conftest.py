"""One worker's parts, without Celery: a store, a blob store, the packaged student and the pipeline."""

import hashlib
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sqlmodel import select

from model.card import Card, builtin_directory
from model.predictor import Prediction, Predictor
from schemas.messages import AuditMessage
from schemas.settings import BlobSettings, FetchSettings, LimitSettings, Settings, WorkerSettings
from schemas.tables import AuditJob, AuditResult
from storage import jobs, queries
from storage.blobs import DirectoryBlobStore, picture_key
from storage.database import Database
from storage.jobs import NewJob
from workers.pipeline import AuditPipeline
from workers.runtime import ModelRuntime

Predict = Callable[[Sequence[NDArray[np.uint8]]], list[Prediction]]


@pytest.fixture(scope="session")
def predictor() -> Predictor:
    """The packaged student on one thread."""
    return Predictor.load(builtin_directory(), "openvino", threads=1)


@pytest.fixture
def settings(sqlite_url: str, tmp_path: Path) -> Settings:
    # No second looks, or how often a stub is called would hang on the packaged student's thresholds.
    quick = WorkerSettings(max_batch=4, max_wait_ms=5, max_attempts=3, retry_backoff_s=2, retry_backoff_max_s=3, stability_band=0)
    return Settings(database_url=sqlite_url, blobs=BlobSettings(directory=tmp_path / "blobs"), worker=quick)


class StubPredictor:
    """Has the packaged student's card and answers as it is told."""

    lanes, searches = 1, False

    def __init__(self, predict: Predict) -> None:
        self.card = Card.load(builtin_directory())
        self.input_size = 32
        self._predict = predict

    def predict(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Prediction]:
        # The warm-up's blank pictures are none of the test's.
        if not any(picture.any() for picture in pictures):
            return [Prediction(np.zeros((8, 8), np.uint8), 0.0) for _ in pictures]
        return self._predict(pictures)


@dataclass(frozen=True)
class Worker:
    """A pipeline and the stores around it."""

    database: Database
    blobs: DirectoryBlobStore
    pipeline: AuditPipeline

    def submit(self, data: bytes, **changes: object) -> AuditMessage:
        """Store bytes and add their job, as `workers.submission` does; the message is not sent."""
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs.put(picture_key(sha256), data)
        new = NewJob(source="a.jpg", sha256=sha256, bytes=len(data), client_ref=uuid.uuid4().hex, submission="s")
        with self.database.write() as session:
            (job,) = jobs.add_jobs(session, [new])
        return AuditMessage.model_validate({"job_id": job.id, "sha256": sha256, "source": "a.jpg", **changes})

    def run(self, message: AuditMessage) -> float | None:
        return self.pipeline.run(message.payload())

    def outcome(self, message: AuditMessage) -> queries.AuditedJob:
        """The job and its results as they stand."""
        with self.database.read() as session:
            job = session.get_one(AuditJob, message.job_id)
            found = session.exec(select(AuditResult).where(AuditResult.job_id == message.job_id)).all()
            session.expunge_all()
        return queries.AuditedJob(job, {result.profile: result for result in found})


MakeWorker = Callable[..., Worker]


@pytest.fixture
def make_worker(settings: Settings, predictor: Predictor) -> Iterator[MakeWorker]:
    """Makes a worker; `predict` puts another model in the packaged one's place, `changes` are worker settings."""
    closers: list[Callable[[], None]] = []

    def make(
        predict: Predict | None = None,
        database: Database | None = None,
        limits: LimitSettings | None = None,
        fetch: FetchSettings | None = None,
        **changes: object,
    ) -> Worker:
        worker = settings.worker.model_copy(update=changes)
        groups = {"worker": worker, "limits": limits or settings.limits, "fetch": fetch or settings.fetch}
        changed = settings.model_copy(update=groups)
        chosen = predictor if predict is None else StubPredictor(predict)
        store = database or Database(settings.database_url)
        blobs = DirectoryBlobStore(settings.blobs.directory)
        runtime = ModelRuntime(chosen, changed)  # type: ignore[arg-type]
        pipeline = AuditPipeline(store, blobs, runtime, changed)
        closers.extend((runtime.close, pipeline.close, store.close))
        return Worker(store, blobs, pipeline)

    yield make
    for close in closers:
        close()
