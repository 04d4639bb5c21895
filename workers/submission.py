"""Pictures in: bytes to the blob store, rows to SQL, then messages to Redis; in that order, so that nothing is lost."""

import hashlib
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from celery import Celery

from schemas.errors import BrokerUnavailable, TamperwatchError, TooLarge, UnreadableFile
from schemas.records import ErrorRecord
from schemas.states import AuditQueue
from storage import jobs
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.jobs import NewJob
from workers.app import send_audits
from workers.sweeper import message_of

_BATCH = 64


@dataclass(frozen=True)
class SourceFile:
    """A file to submit, under the name people will see (valid Unicode, also where the file's own is not)."""

    path: Path
    name: str


@dataclass(frozen=True)
class Submission:
    """What all pictures of one submission share.

    Attributes:
        id: groups the jobs, for progress and reading.
        max_bytes: larger files are refused before they are read.
        model_version: if given, a picture audited by another version is audited anew.
    """

    id: str
    max_bytes: int
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: tuple[str, ...] = ()
    model_version: str = ""


def submit_files(
    files: Iterable[SourceFile], submission: Submission, database: Database, blobs: BlobStore, app: Celery
) -> Iterator[int]:
    """Submit files of any number at constant memory, yielding how many are in after each batch.

    The same name with the same bytes and profiles is one job: submitting again continues, it never doubles. A file
    that can't be read or stored becomes a failed job under a named error; its neighbours go on.

    Raises:
        StoreUnavailable: what was yielded is in; run the same command again for the rest.
        BrokerUnavailable: raised after the last file. Everything is in the store, and what could not be sent goes out
            with the next sweep, or when the same command is run again.
    """
    remaining = iter(files)
    broker_error: BrokerUnavailable | None = None
    while batch := list(islice(remaining, _BATCH)):
        new_jobs = [_stored_job(file, submission, blobs) for file in batch]
        with database.write() as session:
            to_send = jobs.add_jobs(session, new_jobs)
        if broker_error is None:
            try:
                send_audits(app, map(message_of, to_send))
            except BrokerUnavailable as error:
                broker_error = error
        yield len(batch)
    if broker_error is not None:
        raise broker_error


def _stored_job(file: SourceFile, submission: Submission, blobs: BlobStore) -> NewJob:
    sha256, size_bytes, error = None, 0, None
    try:
        data = _read(file.path, submission.max_bytes)
        sha256, size_bytes = hashlib.sha256(data).hexdigest(), len(data)
        blobs.put(picture_key(sha256), data)
    except TamperwatchError as problem:
        error = ErrorRecord(code=problem.code, message=problem.message)
    reference = "\n".join((file.name, sha256 or "", ",".join(sorted(submission.profiles)), submission.model_version))
    return NewJob(
        source=file.name,
        sha256=sha256,
        bytes=size_bytes,
        # Hashed, because names have no length limit and the column has.
        client_ref=hashlib.sha256(reference.encode()).hexdigest(),
        submission=submission.id,
        queue=submission.queue,
        profiles=submission.profiles,
        error=error,
    )


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device could wait for ever.
            raise UnreadableFile(f"{path.name} is not a regular file")
        size_bytes = status.st_size
        if size_bytes > max_bytes:
            raise TooLarge(f"{size_bytes:,} bytes; the limit is {max_bytes:,} (TAMPERWATCH_LIMITS__MAX_BYTES)")
        return path.read_bytes()
    except OSError as error:
        raise UnreadableFile(f"cannot read {path.name}: {error.strerror or error}") from error
