"""An API with its stores, a key for each scope, and pictures that were audited."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from fastapi import FastAPI
from fastapi.testclient import TestClient

from model import render
from schemas.settings import Settings
from schemas.states import JobState, Scope, Verdict
from schemas.tables import AuditJob, AuditResult, ModelVersion, Picture, now
from storage import api_keys
from storage.blobs import open_blob_store, picture_key
from storage.database import Database
from storage.telemetry_health import Health, store_checks
from tests.pictures import picture_bytes
from web.app import create_app
from web.context import Context
from web.rates import Rates
from workers.app import make_app

NOBODY = "redis://127.0.0.1:1/0"


@dataclass
class Api:
    """What a test works with."""

    app: FastAPI
    client: TestClient
    context: Context
    tokens: dict[Scope, str]

    @property
    def database(self) -> Database:
        return self.context.database

    def headers(self, scope: Scope, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.tokens[scope]}", **more}

    def audited(self, seed: int = 1, verdict: Verdict = Verdict.FLAG, width_px: int = 96, height_px: int = 72) -> AuditResult:
        """A picture that is stored and has a result."""
        data = picture_bytes(seed, width_px, height_px)
        sha256 = hashlib.sha256(data).hexdigest()
        self.context.blobs.put(picture_key(sha256), data)
        job = AuditJob(source=f"{seed}.jpg", sha256=sha256, state=JobState.DONE, finished_at=now(), client_ref=f"ref-{seed}")
        with self.database.write() as session:
            if session.get(Picture, sha256) is None:
                session.add(Picture(sha256=sha256, bytes=len(data)))
            session.add(job)
            session.flush()
            result = _result(job, verdict, width_px, height_px)
            session.add(result)
            session.flush()
            session.expunge(result)
        return result

    def result_of(self, job_id: uuid.UUID) -> int:
        """End a job with a result, and return its number."""
        with self.database.write() as session:
            job = session.get(AuditJob, job_id)
            assert job is not None
            job.state, job.finished_at = JobState.DONE, now()
            result = _result(job, Verdict.FLAG, 96, 72)
            session.add(result)
            session.flush()
            return result.id or 0

    def versions(self, *names: str) -> None:
        """Registered model versions."""
        with self.database.write() as session:
            for name in names:
                session.add(ModelVersion(version=name, location="package", card={"metrics": {"f1": 0.5}}, reason="made"))


def _result(job: AuditJob, verdict: Verdict, width_px: int, height_px: int) -> AuditResult:
    mask = np.zeros((24, 24), np.uint8)
    mask[4:12, 6:14] = 220
    return AuditResult(
        job_id=job.id,
        model_version="student-1",
        score=0.9,
        verdict=verdict,
        area=0.1,
        mask_png=render.mask_png(mask),
        regions=[{"box": {"x0": 1, "y0": 2, "x1": 30, "y1": 40}, "score": 0.9}],
        width_px=width_px,
        height_px=height_px,
        latency_ms=12.0,
    )


@contextmanager
def running(database: Database, context: Context) -> Iterator[Api]:
    """An API over these stores."""
    app = create_app(context)
    tokens = {}
    with database.write() as session:
        for scope in Scope:
            tokens[scope] = api_keys.create(session, f"{scope.value}-key", [scope]).token
    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(app, client, context, tokens)


def context_for(settings: Settings, database: Database) -> Context:
    """A context of these settings. Unless they name a Redis, messages go nowhere, and requests are counted in this process."""
    broker = "memory://" if settings.broker_url == NOBODY else settings.broker_url
    blobs, app = open_blob_store(settings.blobs), make_app(settings.model_copy(update={"broker_url": broker}))
    health = Health("web", live={}, ready=store_checks(database, blobs))
    return Context(settings, database, blobs, app, Rates(settings.broker_url), health)
