"""One message, door to door: claim, audit, store the outcome. Never raises: every job ends or comes back."""

import functools
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

from sqlmodel import Session

from schemas.errors import InternalError, InvalidMessage, TamperwatchError, WorkerLost
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.settings import Settings
from storage import jobs, reuse, similar, telemetry
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.jobs import Claim, Finished, Held
from storage.reuse import Answered, ReusePolicy
from storage.similar import PictureBits
from workers.auditing import Auditor
from workers.batching import MicroBatcher
from workers.canary import Canary
from workers.company import Company
from workers.fetching import UrlFetcher
from workers.runtime import ModelRuntime
from workers.shadow import Shadow

log = logging.getLogger(__name__)

Value = TypeVar("Value")
Answer = TypeVar("Answer")
_WRITE_WAIT_S = 0.002
# Attempts in company that may end without a word, by the death of the worker, before a picture is suspected of it.
_UNEXPLAINED_DEATHS = 2
# A claim is made a moment after its message was taken, so a dead worker's message may come back a moment before its claim
# has lapsed. Sent away then, it would have to queue again behind all that wait.
_LAPSES_SOON_S = 3.0


class Change(NamedTuple):
    """One change to the store, and what makes all changes of its kind that share a transaction, with few statements."""

    run: Callable[[Session, Sequence[Any]], Sequence[Any]]
    value: Any


class _Suspect:
    """A job whose workers died without a word: it is to be taken with nobody beside it."""


class AuditPipeline:
    """Everything an audit needs, shared by all threads of a worker."""

    def __init__(self, database: Database, blobs: BlobStore, runtime: ModelRuntime, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._canary = Canary(database, blobs, settings, runtime.max_batch)
        self._auditor = Auditor(blobs, runtime, self._canary, settings, self._keep_hash)
        self._shadow = Shadow(database, blobs, self._auditor, settings) if settings.worker.shadow_version else None
        self._urls = UrlFetcher(settings)
        self._settings = settings.worker
        self._claims: set[tuple[uuid.UUID, Claim]] = set()
        self._gate = threading.Lock()
        self._company = Company()
        # One writer a process: SQLite has one write lock anyway, and a batch of outcomes costs one commit.
        self._writer: MicroBatcher[Change, Any] = MicroBatcher(
            self._write, max_batch=4 * runtime.max_batch, max_wait_s=_WRITE_WAIT_S, name="store"
        )

    def run(self, payload: object) -> float | None:
        """Audit the picture a message names and store the outcome.

        Args:
            payload: the message as it came from the broker.

        Returns:
            None when the job has ended; otherwise the seconds after which the message should be delivered again.
        """
        try:
            message = AuditMessage.parse(payload)
        except InvalidMessage as error:
            log.error("message dropped: %s", error)
            telemetry.INVALID.inc()
            return None
        with telemetry.job(message):
            with self._company.together():
                answer = self._take(message, alone=False)
            if not isinstance(answer, _Suspect):
                return answer
            with self._company.alone():
                answer = self._take(message, alone=True)
            return None if isinstance(answer, _Suspect) else answer

    def writer_busy_for_s(self) -> float | None:
        """How long the transaction now running has taken, 0 between them; None if the writer's thread is gone."""
        return self._writer.busy_for_s() if self._writer.alive else None

    def _take(self, message: AuditMessage, alone: bool) -> "float | _Suspect | None":
        try:
            with telemetry.stage("claim"):
                claim = self._claimed(message)
        except Exception as error:
            telemetry.UNCLAIMED.inc()
            log.warning("job %s: not claimed, message comes again: %s", message.job_id, error)
            return self._settings.retry_backoff_s
        if claim is None:
            log.info("job %s has already ended; message acknowledged", message.job_id)
            telemetry.DUPLICATES.labels("ended").inc()
            return None
        if isinstance(claim, Answered):
            telemetry.reused(claim.verdict)
            return None
        if isinstance(claim, Held):
            telemetry.DUPLICATES.labels("held").inc()
            # Soon, not when the claim lapses: the other hand is most likely done by then, and this message with it.
            return min(claim.free_in_s, self._settings.retry_backoff_s)
        if not alone and claim.attempt > _UNEXPLAINED_DEATHS and not claim.explained:
            give_back = functools.partial(jobs.give_back_job, job_id=message.job_id, fence=claim.fence)
            self._stored(give_back)
            return _Suspect()
        telemetry.claimed(claim.attempt)
        with self._holding(message.job_id, claim):
            return self._outcome(message, claim)

    def _claimed(self, message: AuditMessage) -> Claim | Held | Answered | None:
        """Claim a message's job; if another hand's claim is about to lapse, once it has."""
        policy = self._auditor.reuse_policy(message.job_id)
        claim = self._stored_with_others(self._claim, (message, policy))
        if isinstance(claim, Held) and claim.free_in_s <= _LAPSES_SOON_S:
            time.sleep(claim.free_in_s)
            claim = self._stored_with_others(self._claim, (message, policy))
        return claim

    def close(self) -> None:
        """Store what was decided and give back what was not, then stop."""
        with self._gate:
            unfinished, self._claims = self._claims, set()
        for job_id, claim in unfinished:
            give_back = functools.partial(jobs.give_back_job, job_id=job_id, fence=claim.fence)
            self._writer.submit(Change(_one_by_one, give_back))
        self._writer.close()
        if self._shadow is not None:
            self._shadow.close()
        self._canary.close()

    def _outcome(self, message: AuditMessage, claim: Claim) -> float | None:
        try:
            if claim.attempt > self._settings.max_attempts:
                raise WorkerLost(f"the worker died {claim.attempt - 1} times while it held this picture")
            sha256, data = self._picture(message, claim)
            if data is not None and self._answered(message, sha256, claim):
                return None
            results = self._auditor.audit(message, sha256, data)
            with telemetry.stage("store"):
                ours = self._stored_with_others(jobs.finish_jobs, Finished(message.job_id, claim.fence, results))
            if ours:
                telemetry.done(results)
                if self._shadow is not None:
                    self._shadow.offer(message, sha256, results)
            else:
                _log_overtaken(message, claim)
            return None
        except TamperwatchError as error:
            return self._failed(message, claim, error)
        except Exception as error:
            log.exception("job %s: defect", message.job_id)
            return self._failed(message, claim, InternalError(f"{type(error).__name__}: {error}"))

    @contextmanager
    def _holding(self, job_id: uuid.UUID, claim: Claim) -> Iterator[None]:
        """Remember a claim for as long as it is worked on."""
        with self._gate:
            self._claims.add((job_id, claim))
        try:
            yield
        finally:
            with self._gate:
                self._claims.discard((job_id, claim))

    def _picture(self, message: AuditMessage, claim: Claim) -> tuple[str, bytes | None]:
        """The sha256 of a message's picture, and its bytes where they are at hand because a URL was fetched just now.

        Bytes first, then the row, so that what the row names is there. If another hand has the job by now, that hand
        records what it fetches, and what is audited here will be dropped.
        """
        known = message.sha256 or claim.sha256
        if known is not None:
            return known, None
        with telemetry.stage("download"):
            data = self._urls.fetch(message.url or "")
        sha256 = hashlib.sha256(data).hexdigest()
        telemetry.downloaded(sha256)
        self._blobs.put(picture_key(sha256), data)
        self._stored(lambda session: jobs.record_picture(session, message.job_id, sha256, len(data), claim.fence))
        return sha256, data

    def _answered(self, message: AuditMessage, sha256: str, claim: Claim) -> bool:
        """Whether the store had the results of a picture whose bytes were known only after they were fetched."""
        policy = self._auditor.reuse_policy(message.job_id)
        if policy is None:
            return False
        answered = self._stored(lambda session: reuse.answer(session, message, sha256, claim.fence, policy))
        if answered is not None:
            telemetry.reused(answered.verdict)
        return answered is not None

    def _failed(self, message: AuditMessage, claim: Claim, error: TamperwatchError) -> float | None:
        """Record an error: the end of the job, or a wait before its next attempt."""
        internal = isinstance(error, InternalError)
        final = (error.permanent and not internal) or claim.attempt >= self._settings.max_attempts
        record = ErrorRecord(code=error.code, message=error.message)
        change = jobs.fail_job if final else jobs.release_job
        log.warning("job %s attempt %d: %s: %s", message.job_id, claim.attempt, error.code, error.message)
        wait_s = min(self._settings.retry_backoff_s * 2.0 ** (claim.attempt - 1), self._settings.retry_backoff_max_s)
        try:
            ours = self._stored(lambda session: change(session, message.job_id, record, claim.fence))
        except Exception as store_error:
            # Whatever it was: a task that raises would be acknowledged, and its message gone.
            log.warning("job %s: outcome not stored, message comes again: %s", message.job_id, store_error)
            return wait_s
        if ours:
            telemetry.failed(error.code, final, mendable=internal or not error.permanent)
        else:
            _log_overtaken(message, claim)
        return wait_s if ours and not final else None

    def _stored(self, change: Callable[[Session], Answer]) -> Answer:
        """Do one change in the writer's next transaction, and wait until it is committed."""
        answer: Answer = self._stored_with_others(_one_by_one, change)
        return answer

    def _stored_with_others(self, run: Callable[[Session, Sequence[Value]], Sequence[Answer]], value: Value) -> Answer:
        """The same for what goes together with others of its kind."""
        answer: Answer = self._writer.submit(Change(run, value)).result()
        return answer

    def _keep_hash(self, made: PictureBits) -> None:
        """Written with what else is: no picture waits for its hash, or fails for want of it."""
        self._writer.submit(Change(similar.store_hashes, made))

    def _claim(
        self, session: Session, asked: Sequence[tuple[AuditMessage, ReusePolicy | None]]
    ) -> list[Claim | Held | Answered | None]:
        answers: dict[int, Claim | Held | Answered | None] = {}
        # Without a policy: a canary's jobs, which are audited anew, or all of them.
        for reusing in (True, False):
            chosen = [number for number, (_, policy) in enumerate(asked) if (policy is not None) is reusing]
            if chosen:
                # The newest policy: another model may have gone live since the first was asked for.
                messages, policy = [asked[number][0] for number in chosen], asked[chosen[-1]][1]
                found = reuse.claims_or_answers(session, messages, self._settings.visibility_timeout_s, policy)
                answers |= zip(chosen, found, strict=True)
        return [answers[number] for number in range(len(asked))]

    def _write(self, changes: Sequence[Change]) -> list[Any]:
        kinds: dict[Any, list[int]] = {}
        for number, change in enumerate(changes):
            kinds.setdefault(change.run, []).append(number)
        answers: dict[int, Any] = {}
        with self._database.write() as session:
            for run, numbers in kinds.items():
                answers |= zip(numbers, run(session, [changes[number].value for number in numbers]), strict=True)
        return [answers[number] for number in range(len(changes))]


def _one_by_one(session: Session, changes: Sequence[Callable[[Session], Any]]) -> list[Any]:
    return [change(session) for change in changes]


def _log_overtaken(message: AuditMessage, claim: Claim) -> None:
    """Whoever has the job now brings its outcome, so this message may go."""
    telemetry.OVERTAKEN.inc()
    log.warning("job %s: claim %d is void, its outcome was dropped: another hand has the job", message.job_id, claim.fence)
