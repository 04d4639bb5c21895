"""Whether the blob store and the SQL store agree, found at constant memory and mended where that is safe."""

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, exists, select, update
from sqlmodel import Session, SQLModel

from schemas.errors import BlobMissing
from schemas.states import JobState
from schemas.tables import AuditJob, now
from storage import pseudo_masks
from storage.blobs import BlobStore, StoredBlob, picture_key
from storage.database import Database
from storage.recovery import requeue_jobs

_PAGE = 1000
_MISSING_END = "~"  # sorts behind every key
_PICTURES = SQLModel.metadata.tables["picture"]
_JOBS = SQLModel.metadata.tables["audit_job"]
_RESULTS = SQLModel.metadata.tables["audit_result"]


class Disagreement(StrEnum):
    """What can be wrong between the two stores, and how `repair` mends it."""

    BLOB_WITHOUT_ROW = "blob without row"  # deleted
    ROW_WITHOUT_BLOB = "row without blob"  # the picture's row goes; a job that still waits for it fails as blob_missing
    DONE_WITHOUT_RESULT = "done without result"  # audited anew
    RESULT_WITHOUT_JOB = "result without job"  # deleted
    MASK_WITHOUT_ROW = "pseudo-mask without row"  # deleted; one without its bytes is made again when it is next wanted


@dataclass(frozen=True)
class Finding:
    """One disagreement.

    Attributes:
        name: the picture's sha256, the job's id, the result's number or the pseudo-mask's key.
        repaired: whether it was mended just now.
        to_send: a job that was put back on its queue and needs a message.
    """

    kind: Disagreement
    name: str
    repaired: bool = False
    to_send: AuditJob | None = None


def check(database: Database, blobs: BlobStore, grace_s: float, repair: bool = False) -> Iterator[Finding]:
    """Compare the stores, reading each once in the order of its keys.

    What is written meanwhile is no finding: each is looked at again before it is reported.

    Args:
        grace_s: a blob put more recently than this may still get its row, and is passed over.
        repair: mend what is found.

    Raises:
        StoreUnavailable, BlobStoreUnavailable: what was yielded stands; run it again for the rest.
    """
    yield from _check_pictures(database, blobs, grace_s, repair)
    yield from _check_done(database, repair)
    yield from _check_results(database, repair)
    yield from _check_masks(database, blobs, grace_s, repair)


def _check_pictures(database: Database, blobs: BlobStore, grace_s: float, repair: bool) -> Iterator[Finding]:
    for blob, sha256 in _differences(blobs.list("pictures"), _known(database)):
        found = _orphan(database, blobs, blob, grace_s, repair) if blob else _missing(database, blobs, sha256, repair)
        if found is not None:
            yield found


def _differences(stored: Iterator[StoredBlob], known: Iterator[str]) -> Iterator[tuple[StoredBlob | None, str]]:
    """What only one of two sorted streams has: a blob with its sha256, or no blob and the sha256 of a row."""
    blob, sha256 = next(stored, None), next(known, None)
    while blob is not None or sha256 is not None:
        stored_key = blob.key if blob is not None else _MISSING_END
        known_key = picture_key(sha256) if sha256 is not None else _MISSING_END
        if blob is not None and stored_key < known_key:
            # What is not named like a picture of ours was put there by someone else.
            if picture_key(name := stored_key.rpartition("/")[2]) == stored_key:
                yield blob, name
            blob = next(stored, None)
        elif sha256 is not None and known_key < stored_key:
            yield None, sha256
            sha256 = next(known, None)
        else:
            blob, sha256 = next(stored, None), next(known, None)


def _known(database: Database) -> Iterator[str]:
    """The sha256 of every picture that must be there, once each and in order: kept ones, and those that jobs wait for."""
    unfinished = _JOBS.c.state.in_([state for state in JobState if not state.ended])
    streams = (_column(database, _PICTURES.c.sha256), _column(database, _JOBS.c.sha256, unfinished))
    return (sha256 for sha256, _ in itertools.groupby(heapq.merge(*streams)))


def _column(database: Database, column: Any, *conditions: Any) -> Iterator[Any]:
    """The distinct values of an indexed column in order, a page at a time."""
    page = select(column).where(column.is_not(None), *conditions).distinct().order_by(column).limit(_PAGE)
    values: list[Any] = []
    while True:
        with database.read() as session:
            values = list(session.connection().execute(page.where(column > values[-1]) if values else page).scalars())
        yield from values
        if len(values) < _PAGE:
            return


def _orphan(database: Database, blobs: BlobStore, blob: StoredBlob, grace_s: float, repair: bool) -> Finding | None:
    sha256, young_from = blob.key.rpartition("/")[2], now() - timedelta(seconds=grace_s)
    again = blobs.stat(blob.key) if blob.put_at < young_from else None
    if again is None or again.put_at >= young_from:
        return None
    with database.read() as session:
        if _has_row(session, sha256):
            return None
    if repair:
        blobs.delete(blob.key)
    return Finding(Disagreement.BLOB_WITHOUT_ROW, sha256, repair)


def _missing(database: Database, blobs: BlobStore, sha256: str, repair: bool) -> Finding | None:
    with database.read() as session:
        if not _has_row(session, sha256):
            return None
    if blobs.stat(picture_key(sha256)) is not None:
        return None
    if repair:
        with database.write() as session:
            _give_up(session, sha256)
    return Finding(Disagreement.ROW_WITHOUT_BLOB, sha256, repair)


def _has_row(session: Session, sha256: str) -> bool:
    unfinished = _JOBS.c.state.in_([state for state in JobState if not state.ended])
    picture = exists().where(_PICTURES.c.sha256 == sha256)
    job = exists().where(_JOBS.c.sha256 == sha256, unfinished)
    return bool(session.connection().execute(select(picture | job)).scalar())


def _give_up(session: Session, sha256: str) -> None:
    """End the jobs that wait for a picture that is gone. One that is running finds out by itself."""
    ended = {"state": JobState.FAILED, "error_code": BlobMissing.code, "finished_at": now(), "updated_at": now()}
    message = "the picture's bytes are gone from the blob store; submit it again"
    waiting = update(_JOBS).where(_JOBS.c.sha256 == sha256, _JOBS.c.state == JobState.QUEUED)
    session.connection().execute(waiting.values(ended | {"error_message": message}))
    session.connection().execute(delete(_PICTURES).where(_PICTURES.c.sha256 == sha256))


def _check_done(database: Database, repair: bool) -> Iterator[Finding]:
    empty = (_JOBS.c.state == JobState.DONE, ~exists().where(_RESULTS.c.job_id == _JOBS.c.id))
    for job_id in _column(database, _JOBS.c.id, *empty):
        requeued: list[AuditJob] = []
        if repair:
            with database.write() as session:
                requeued = requeue_jobs(session, [job_id], JobState.DONE)
        to_send = requeued[0] if requeued and requeued[0].sha256 else None
        yield Finding(Disagreement.DONE_WITHOUT_RESULT, str(job_id), bool(requeued), to_send)


def _check_results(database: Database, repair: bool) -> Iterator[Finding]:
    for number in _column(database, _RESULTS.c.id, ~exists().where(_JOBS.c.id == _RESULTS.c.job_id)):
        if repair:
            with database.write() as session:
                session.connection().execute(delete(_RESULTS).where(_RESULTS.c.id == number))
        yield Finding(Disagreement.RESULT_WITHOUT_JOB, str(number), repair)


def _check_masks(database: Database, blobs: BlobStore, grace_s: float, repair: bool) -> Iterator[Finding]:
    young_from = now() - timedelta(seconds=grace_s)
    old = (blob.key for blob in blobs.list(pseudo_masks.FOLDER) if blob.put_at < young_from and pseudo_masks.is_key(blob.key))
    while keys := list(itertools.islice(old, _PAGE)):
        with database.read() as session:
            known = pseudo_masks.with_rows(session, keys)
        for key in keys:
            if key not in known and blobs.exists(key):
                if repair:
                    blobs.delete(key)
                yield Finding(Disagreement.MASK_WITHOUT_ROW, key, repair)
