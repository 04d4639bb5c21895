"""Pictures in: bytes to the blob store, rows to SQL, then messages to Redis; in that order, so that nothing is lost."""

import hashlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from celery import Celery

from schemas.errors import BlobMissing, BlobStoreUnavailable, TamperwatchError
from schemas.records import ErrorRecord
from schemas.states import AuditQueue
from schemas.tables import AuditJob
from storage import jobs
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.jobs import NewJob
from workers.digests import Digests
from workers.sending import Sender
from workers.sources import Source, SourceFile

__all__ = ["SourceFile", "Step", "Submission", "submit_files", "submit_sources"]

_BATCH = 64


@dataclass(frozen=True)
class Submission:
    """What all pictures of one submission share.

    Attributes:
        id: groups the jobs, for progress and reading.
        max_bytes: larger files are refused before they are read.
        queue, profiles, source_profile: where a picture says nothing else.
        queue_profiles: simulated deliveries by queue, where neither the picture nor `profiles` names any.
        model_version: if given, a picture audited by another version is audited anew.
        max_queued: wait while more messages than these lie in the queues; 0 never waits.
        threads: pictures read and stored at once, each held in memory.
        digests: file of what was read before; None keeps none.
    """

    id: str
    max_bytes: int
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: tuple[str, ...] = ()
    queue_profiles: Mapping[AuditQueue, tuple[str, ...]] = field(default_factory=dict)
    source_profile: str | None = None
    model_version: str = ""
    max_queued: int = 0
    threads: int = 1
    digests: Path | None = None

    def queue_of(self, source: Source) -> AuditQueue:
        return source.queue or self.queue

    def profiles_of(self, source: Source) -> tuple[str, ...]:
        """Which simulated deliveries of a picture are audited as well."""
        if source.profiles is not None:
            return source.profiles
        return self.profiles or self.queue_profiles.get(self.queue_of(source), ())

    def reference(self, source: Source, sha256: str | None) -> str:
        """The client reference of a picture: its own, or one made of its name, its bytes or URL, and the question."""
        if source.client_ref is not None:
            return source.client_ref
        question = (source.name, sha256 or source.url or "", ",".join(sorted(self.profiles_of(source))), self.model_version)
        # Hashed, because names have no length limit and the column has.
        return hashlib.sha256("\n".join(question).encode()).hexdigest()


@dataclass(frozen=True)
class Step:
    """What happened since the step before.

    Attributes:
        taken: pictures that are in now, in whatever way.
        known: of these, those that were in before and not read again.
        refused: of these, those that failed under a named error.
        waiting: messages in the queue whose length the submission now waits for; None if it does not wait.
    """

    taken: int
    known: int = 0
    refused: int = 0
    waiting: int | None = None


def submit_files(
    files: Iterable[SourceFile], submission: Submission, database: Database, blobs: BlobStore, app: Celery
) -> Iterator[int]:
    """Submit files, yielding how many are in after each batch; the same in all else as `submit_sources`."""
    for step in submit_sources((file.source for file in files), submission, database, blobs, app):
        yield step.taken


def submit_sources(
    sources: Iterable[Source], submission: Submission, database: Database, blobs: BlobStore, app: Celery
) -> Generator[Step, None, None]:
    """Submit pictures of any number at constant memory, yielding after each batch, and now and then while waiting.

    The same client reference is one job: submitting again continues, it never doubles, and reads nothing again that is
    known to be in. A picture that can't be read or stored becomes a failed job under a named error; its neighbours go on.

    Raises:
        StoreUnavailable, BlobStoreUnavailable: what was yielded is in; run the same command again for the rest.
        BrokerUnavailable: raised after the last picture. Everything is in the store, and what could not be sent goes out
            with the next sweep, or when the same command is run again.
    """
    sender = Sender(app, submission.max_queued)
    with ThreadPoolExecutor(submission.threads, "submit") as pool, Digests(submission.digests) as digests:
        intake = _Intake(submission, database, blobs, pool, digests)
        remaining = iter(sources)
        while batch := list(islice(remaining, min(_BATCH, submission.max_queued or _BATCH))):
            new, again, step = intake.take(batch)
            for depth in sender.send(new, again):
                yield Step(0, waiting=depth)
            yield step
    if sender.error is not None:
        raise sender.error


@dataclass(frozen=True)
class _Intake:
    """Takes in batch after batch of one submission."""

    submission: Submission
    database: Database
    blobs: BlobStore
    pool: ThreadPoolExecutor
    digests: Digests

    def take(self, batch: Sequence[Source]) -> tuple[list[AuditJob], list[AuditJob], Step]:
        """Store what is new of a batch; returns the new jobs that need a message, and those that were in and have not ended."""
        stamps = dict(zip(map(id, batch), self.pool.map(_stamp, batch), strict=True))
        seen = self.digests.known(stamp for stamp in stamps.values() if stamp)
        known, new = self._known(batch, {key: seen.get(stamp or "") for key, stamp in stamps.items()})
        stored = list(self.pool.map(self._stored, new))
        _check_store(stored)
        # After the bytes lie in the blob store: what is remembered here is skipped the next time.
        self.digests.remember(
            {stamp: job.sha256 for source, job in zip(new, stored, strict=True)
             if job.sha256 and not job.error and (stamp := stamps[id(source)])}
        )  # fmt: skip
        with self.database.write() as session:
            added = jobs.add_jobs(session, stored)
        again = [job for job in known if not job.state.ended]
        refused = sum(job.error is not None for job in stored)
        return added, again, Step(len(batch), known=len(batch) - len(new), refused=refused)

    def _known(self, batch: Sequence[Source], seen: Mapping[int, str | None]) -> tuple[list[AuditJob], list[Source]]:
        """Jobs that are in and need no bytes, and the pictures left to read."""
        refs = {
            id(source): self.submission.reference(source, source.sha256 or seen[id(source)])
            for source in batch
            if source.client_ref or source.sha256 or source.url or seen[id(source)]
        }
        if not refs:
            return [], list(batch)
        with self.database.write() as session:
            known = jobs.continue_jobs(session, list(refs.values()), self.submission.id)
        return list(known.values()), [source for source in batch if refs.get(id(source)) not in known]

    def _stored(self, source: Source) -> NewJob:
        sha256, size_bytes, error = source.sha256, 0, source.error
        try:
            if source.content is not None:
                data = source.content.read(self.submission.max_bytes)
                sha256, size_bytes = hashlib.sha256(data).hexdigest(), len(data)
                self.blobs.put(picture_key(sha256), data)
            elif sha256 is not None and not self.blobs.exists(picture_key(sha256)):
                raise BlobMissing(f"no picture is stored under {sha256}; store it first")
        except TamperwatchError as problem:
            error = ErrorRecord(code=problem.code, message=problem.message)
        return NewJob(
            source=source.name,
            sha256=sha256,
            bytes=size_bytes,
            client_ref=self.submission.reference(source, sha256),
            submission=self.submission.id,
            queue=self.submission.queue_of(source),
            profiles=self.submission.profiles_of(source),
            source_profile=source.source_profile or self.submission.source_profile,
            error=error,
            url=source.url if error is None else None,
        )


def _stamp(source: Source) -> str | None:
    # Its own reference says whether a picture is in; no stamp is needed.
    return source.content.stamp() if source.content is not None and source.client_ref is None else None


def _check_store(stored: Sequence[NewJob]) -> None:
    """Raises BlobStoreUnavailable where a whole batch met it: then it is away, and no picture is at fault."""
    errors = [job.error for job in stored if job.error is not None]
    if len(errors) == len(stored) > 1 and all(error.code == BlobStoreUnavailable.code for error in errors):
        raise BlobStoreUnavailable(f"{errors[0].message}. Run the same command again when it is back")
