"""Rows to put into a store, and the bytes beside it."""

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from schemas.settings import BlobSettings
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditResult
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.jobs import NewJob

MakeJob = Callable[..., NewJob]
MakeResult = Callable[..., AuditResult]


@pytest.fixture
def new_job() -> MakeJob:
    """Makes a job to add, named by its client reference."""

    def make(client_ref: str, **changes: Any) -> NewJob:
        values: dict[str, Any] = {"source": f"{client_ref}.jpg", "sha256": "ab" * 32, "bytes": 10, "submission": "s"}
        return NewJob(client_ref=client_ref, **values | changes)

    return make


@pytest.fixture
def new_result() -> MakeResult:
    """Makes a result of a job."""

    def make(job_id: uuid.UUID, profile: str = OWN_PICTURE, **changes: Any) -> AuditResult:
        values: dict[str, Any] = {
            "model_version": "m1", "score": 0.25, "verdict": Verdict.PASS, "area": 0.0, "regions": [], "mask_png": b"\x89PNG\x00",
            "width_px": 4, "height_px": 3, "latency_ms": 1.5,
        }  # fmt: skip
        return AuditResult(job_id=job_id, profile=profile, **values | changes)

    return make


@pytest.fixture
def blobs(database: Database, request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A directory beside SQLite, an S3 server beside PostgreSQL."""
    if database.url.startswith("sqlite"):
        return open_blob_store(BlobSettings(directory=tmp_path / "blobs"))
    return open_blob_store(request.getfixturevalue("s3_settings"))
