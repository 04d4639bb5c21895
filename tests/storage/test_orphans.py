import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import select

from schemas.settings import BlobSettings
from schemas.states import JobState
from schemas.tables import AuditJob, AuditResult, Picture, now
from storage import orphans
from storage.blobs import BlobStore, open_blob_store, picture_key
from storage.database import Database
from storage.orphans import Disagreement, Finding

Keep = Callable[..., str]


@pytest.fixture
def keep(database: Database, blobs: BlobStore) -> Keep:
    """Stores a picture with a job; returns its sha256."""

    def kept(name: str, state: JobState | None = JobState.QUEUED, blob: bool = True, row: bool = True, **columns: Any) -> str:
        sha256 = hashlib.sha256(name.encode()).hexdigest()
        if blob:
            blobs.put(picture_key(sha256), name.encode())
        with database.write() as session:
            if row:
                session.add(Picture(sha256=sha256, bytes=1))
            if state is not None:
                job = AuditJob(source=name, sha256=sha256, state=state, finished_at=now() if state.ended else None, **columns)
                session.add(job)
                session.flush()
                if state is JobState.DONE:
                    session.add(result_of(job.id))
        return sha256

    return kept


def result_of(job_id: uuid.UUID) -> AuditResult:
    return AuditResult.model_validate(
        {
            "job_id": job_id, "model_version": "m", "score": 0.5, "verdict": "pass", "area": 0, "mask_png": b"x", "width_px": 1,
            "height_px": 1, "latency_ms": 1,
        }
    )  # fmt: skip


def found(database: Database, blobs: BlobStore, grace_s: float = -5, repair: bool = False) -> list[Finding]:
    """By default even what was put this moment is old enough; S3 rounds its times."""
    return list(orphans.check(database, blobs, grace_s, repair))


def job_of(database: Database, source: str) -> AuditJob:
    with database.read() as session:
        job = session.exec(select(AuditJob).where(AuditJob.source == source)).one()
        session.expunge(job)
        return job


def test_stores_that_agree(database: Database, blobs: BlobStore, keep: Keep) -> None:
    assert found(database, blobs) == []
    for number, state in enumerate([*JobState, None]):
        keep(str(number), state)
    keep("purged", JobState.DONE, blob=False, row=False)
    keep("foreign, waiting", JobState.QUEUED, row=False)
    assert found(database, blobs) == []


def test_bytes_without_a_row_are_deleted_when_they_are_old_enough(database: Database, blobs: BlobStore, keep: Keep) -> None:
    keep("kept", JobState.DONE)
    names = {keep("alone", None, row=False), keep("of a purged picture", JobState.DONE, row=False)}
    blobs.put("pictures/notes", b"not ours")
    assert found(database, blobs, grace_s=3600) == []
    assert {(each.kind, each.name, each.repaired) for each in found(database, blobs)} == {
        (Disagreement.BLOB_WITHOUT_ROW, name, False) for name in names
    }
    assert all(blobs.exists(picture_key(name)) for name in names)
    assert {each.name for each in found(database, blobs, repair=True) if each.repaired} == names
    assert not any(blobs.exists(picture_key(name)) for name in names)
    assert blobs.exists("pictures/notes")
    assert found(database, blobs) == []


def test_jobs_that_wait_for_lost_bytes_fail_under_that_name(database: Database, blobs: BlobStore, keep: Keep) -> None:
    names = {
        keep(name, state, blob=False) for name, state in (("q", JobState.QUEUED), ("r", JobState.RUNNING), ("d", JobState.DONE))
    }
    names |= {keep("foreign", row=False, blob=False)}
    findings = found(database, blobs, repair=True)
    assert {(each.kind, each.name) for each in findings} == {(Disagreement.ROW_WITHOUT_BLOB, name) for name in names}
    for waiting in ("q", "foreign"):
        job = job_of(database, waiting)
        assert (job.state, job.error_code, job.finished_at is not None) == (JobState.FAILED, "blob_missing", True)
    assert job_of(database, "r").state is JobState.RUNNING
    assert job_of(database, "d").state is JobState.DONE
    with database.read() as session:
        assert session.exec(select(Picture)).all() == []
    # The running one is reported as long as it runs: its worker finds out by itself.
    assert {each.name for each in found(database, blobs)} == {hashlib.sha256(b"r").hexdigest()}


def test_a_job_that_lost_its_result_is_audited_anew(database: Database, blobs: BlobStore, keep: Keep) -> None:
    keep("whole", JobState.DONE)
    keep("lost", JobState.DONE, attempts=2)
    lost = job_of(database, "lost")
    with database.write() as session:
        session.delete(session.exec(select(AuditResult).where(AuditResult.job_id == lost.id)).one())
    assert [(each.kind, each.name) for each in found(database, blobs)] == [(Disagreement.DONE_WITHOUT_RESULT, str(lost.id))]
    (repaired,) = found(database, blobs, repair=True)
    assert repaired.to_send is not None and repaired.to_send.id == lost.id
    job = job_of(database, "lost")
    assert (job.state, job.attempts, job.retries, job.finished_at) == (JobState.QUEUED, 0, 1, None)
    assert found(database, blobs) == []


def test_a_result_without_its_job_is_deleted(sqlite: Database, tmp_path: Path) -> None:
    """Only where someone switched the foreign keys off."""
    blobs = open_blob_store(BlobSettings(directory=tmp_path))
    with sqlite.engine.connect() as connection:
        connection.exec_driver_sql("ROLLBACK")
        connection.exec_driver_sql("PRAGMA foreign_keys=OFF")
        connection.exec_driver_sql("BEGIN")
        values = result_of(uuid.uuid4()).model_dump()
        connection.execute(AuditResult.__table__.insert().values(values | {"id": 7}))  # type: ignore[attr-defined]
        connection.commit()
    sqlite.close()
    assert [(each.kind, each.name) for each in found(sqlite, blobs)] == [(Disagreement.RESULT_WITHOUT_JOB, "7")]
    assert [each.repaired for each in found(sqlite, blobs, repair=True)] == [True]
    with sqlite.read() as session:
        assert session.connection().execute(text("SELECT count(*) FROM audit_result")).scalar() == 0


def test_more_than_a_page_is_compared_completely(
    database: Database, blobs: BlobStore, keep: Keep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(orphans, "_PAGE", 3)
    for number in range(10):
        keep(f"both {number}", JobState.QUEUED)
    alone = {keep(f"blob {number}", None, row=False) for number in range(7)}
    missing = {keep(f"row {number}", None, blob=False) for number in range(7)}
    findings = found(database, blobs)
    assert {each.name for each in findings if each.kind is Disagreement.BLOB_WITHOUT_ROW} == alone
    assert {each.name for each in findings if each.kind is Disagreement.ROW_WITHOUT_BLOB} == missing
    assert len(findings) == 14


def test_a_row_that_comes_while_we_look_is_no_finding(sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blobs = open_blob_store(BlobSettings(directory=tmp_path))
    sha256 = hashlib.sha256(b"x").hexdigest()
    blobs.put(picture_key(sha256), b"x")
    stat = blobs.stat

    def row_arrives(key: str) -> Any:
        with sqlite.write() as session:
            session.add(Picture(sha256=sha256, bytes=1))
        return stat(key)

    monkeypatch.setattr(blobs, "stat", row_arrives)
    assert found(sqlite, blobs, repair=True) == []
    assert blobs.exists(picture_key(sha256))
