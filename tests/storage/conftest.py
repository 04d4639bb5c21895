"""Rows to put into a store."""

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditResult
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
