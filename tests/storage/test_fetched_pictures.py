"""Jobs whose picture a worker fetches: their rows before the bytes are there, and after."""

import uuid
from collections.abc import Callable
from datetime import timedelta

from sqlmodel import select

from schemas.errors import UrlUnreachable
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.states import AuditQueue, JobState
from schemas.tables import AuditJob, Picture, now
from storage import jobs, orphans, recovery
from storage.blobs import BlobStore
from storage.database import Database
from storage.jobs import Claim, NewJob
from storage.recovery import FailedJobs

URL = "https://img.example.com/4711.jpg"
SHA256 = "ab" * 32
MakeJob = Callable[..., NewJob]


def foreign() -> AuditMessage:
    return AuditMessage(job_id=uuid.uuid4(), url=URL, source="4711")


def claimed(database: Database, message: AuditMessage, lease_s: float = 120) -> Claim:
    with database.write() as session:
        claim = jobs.claim_job(session, message, lease_s)
    assert isinstance(claim, Claim)
    return claim


def test_what_was_fetched_is_recorded_and_told_to_the_next_hand(database: Database) -> None:
    message = foreign()
    claim = claimed(database, message)
    assert claim.sha256 is None
    with database.write() as session:
        assert session.exec(select(Picture)).all() == []
        assert jobs.record_picture(session, message.job_id, SHA256, 17, claim.fence)
    assert claimed(database, message, lease_s=0).sha256 == SHA256
    with database.read() as session:
        job = session.get_one(AuditJob, message.job_id)
        assert (job.url, job.sha256, job.state) == (URL, SHA256, JobState.RUNNING)
        assert [(each.sha256, each.bytes) for each in session.exec(select(Picture))] == [(SHA256, 17)]


def test_a_late_hand_records_nothing_on_the_job(database: Database) -> None:
    message = foreign()
    late = claimed(database, message)
    claimed(database, message, lease_s=0)
    with database.write() as session:
        assert not jobs.record_picture(session, message.job_id, SHA256, 17, late.fence)
    with database.read() as session:
        assert session.get_one(AuditJob, message.job_id).sha256 is None


def test_the_same_bytes_under_two_urls_are_one_picture(database: Database) -> None:
    for _ in range(2):
        message = foreign()
        claim = claimed(database, message)
        with database.write() as session:
            assert jobs.record_picture(session, message.job_id, SHA256, 17, claim.fence)
    with database.read() as session:
        assert len(session.exec(select(Picture)).all()) == 1


def test_a_job_that_was_never_fetched_is_swept_retried_and_no_orphan(
    database: Database, blobs: BlobStore, new_job: MakeJob
) -> None:
    with database.write() as session:
        (job,) = jobs.add_jobs(session, [new_job("r", sha256=None, url=URL)])
    assert (job.sha256, job.url) == (None, URL)
    with database.write() as session:
        session.get_one(AuditJob, job.id).updated_at = now() - timedelta(hours=1)
    assert list(orphans.check(database, blobs, grace_s=0)) == []
    with database.write() as session:
        assert [each.id for each in recovery.take_lost(session, list(AuditQueue), 60)] == [job.id]
        assert jobs.fail_job(session, job.id, ErrorRecord(code=UrlUnreachable.code, message="away"))
    assert [[each.url for each in batch] for batch in recovery.requeue_failed(database, FailedJobs())] == [[URL]]
