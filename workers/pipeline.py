"""One picture, door to door: claim, fetch, decode, predict, store. Never raises: every job ends or comes back."""

import functools
import hashlib
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from typing import Any, TypeVar

from sqlmodel import Session

from model import calibration, compress, metrics, preprocess, regions, render, stability
from model.budget import PixelBudget
from model.compress import Profile
from model.predictor import Prediction
from model.preprocess import PictureLimits, Prepared
from model.stability import Judgement
from schemas.errors import BlobCorrupt, InternalError, InvalidMessage, ModelFailed, ModelTimeout, TamperwatchError, WorkerLost
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord, Region
from schemas.settings import Settings
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditResult
from storage import jobs
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.jobs import Claim, Held
from workers.batching import MicroBatcher
from workers.runtime import ModelRuntime

log = logging.getLogger(__name__)

Change = Callable[[Session], Any]
Value = TypeVar("Value")
_WRITE_WAIT_S = 0.002
# Whole pictures that are being delivered again, all threads together; beside what `preprocess` allows to be decoded.
_DELIVERING = PixelBudget(80_000_000)


class AuditPipeline:
    """Everything an audit needs, shared by all threads of a worker."""

    def __init__(self, database: Database, blobs: BlobStore, runtime: ModelRuntime, settings: Settings) -> None:
        self._database = database
        self._blobs = blobs
        self._runtime = runtime
        self._settings = settings.worker
        self._limits = PictureLimits(settings.limits.max_bytes, settings.limits.max_pixels)
        self._claims: set[tuple[uuid.UUID, Claim]] = set()
        self._gate = threading.Lock()
        # One writer a process: SQLite has one write lock anyway, and a batch of outcomes costs one commit.
        self._writer: MicroBatcher[Change, Any] = MicroBatcher(
            self._write, max_batch=4 * settings.worker.max_batch, max_wait_s=_WRITE_WAIT_S, name="store"
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
            return None
        try:
            lease_s = self._settings.visibility_timeout_s
            claim = self._stored(lambda session: jobs.claim_job(session, message, lease_s))
        except Exception as error:
            log.warning("job %s: not claimed, message comes again: %s", message.job_id, error)
            return self._settings.retry_backoff_s
        if claim is None:
            log.info("job %s has already ended; message acknowledged", message.job_id)
            return None
        if isinstance(claim, Held):
            # Soon, not when the claim lapses: the other hand is most likely done by then, and this message with it.
            return min(claim.free_in_s, self._settings.retry_backoff_s)
        with self._holding(message.job_id, claim):
            return self._outcome(message, claim)

    def close(self) -> None:
        """Store what was decided and give back what was not, then stop."""
        with self._gate:
            unfinished, self._claims = self._claims, set()
        for job_id, claim in unfinished:
            self._writer.submit(functools.partial(jobs.give_back_job, job_id=job_id, fence=claim.fence))
        self._writer.close()

    def _outcome(self, message: AuditMessage, claim: Claim) -> float | None:
        try:
            if claim.attempt > self._settings.max_attempts:
                raise WorkerLost(f"the worker died {claim.attempt - 1} times while it held this picture")
            results = self._audit(message)
            if not self._stored(lambda session: jobs.finish_job(session, message.job_id, results, claim.fence)):
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

    def _audit(self, message: AuditMessage) -> list[AuditResult]:
        started = time.perf_counter()
        data = self._blobs.get(picture_key(message.sha256), self._limits.max_bytes)
        if hashlib.sha256(data).hexdigest() != message.sha256:
            raise BlobCorrupt(f"the bytes stored for {message.sha256} are others; store the picture again")
        views = prepare_views(data, message.profiles, self._runtime.input_size, self._limits)
        waiting = {name: self._runtime.submit(view.pixels) for name, view in views.items()}
        predictions = {name: self._answer(future) for name, future in waiting.items()}
        judgements = {
            name: stability.judge(self._score(each), self._runtime.card.calibration) for name, each in predictions.items()
        }
        judgements[OWN_PICTURE] = self._settled(judgements[OWN_PICTURE], data, views[OWN_PICTURE])
        latency_ms = (time.perf_counter() - started) * 1000
        own = predictions[OWN_PICTURE]
        return [
            self._result(message, name, prediction, judgements[name], own, views[name], latency_ms)
            for name, prediction in predictions.items()
        ]

    def _settled(self, first: Judgement, data: bytes, own: Prepared) -> Judgement:
        """What stands after a second look, which only a score near a threshold gets."""
        thresholds = self._runtime.card.calibration
        if not stability.near_threshold(first.score, thresholds, self._settings.stability_band):
            return first
        (again,) = deliver_views(data, [stability.SECOND_LOOK], own, self._limits)
        second = self._answer(self._runtime.submit(again.pixels))
        return stability.judge(first.score, thresholds, self._score(second))

    def _score(self, prediction: Prediction) -> float:
        return calibration.score(prediction.score_logit, self._runtime.card.calibration)

    def _result(
        self,
        message: AuditMessage,
        profile: str,
        prediction: Prediction,
        judgement: Judgement,
        own: Prediction,
        view: Prepared,
        latency_ms: float,
    ) -> AuditResult:
        mask_net = prediction.mask_net
        return AuditResult(
            job_id=message.job_id,
            model_version=self._runtime.card.version,
            profile=profile,
            score=judgement.score,
            verdict=Verdict(judgement.verdict),
            second_score=judgement.second_score,
            stable=judgement.stable,
            area=metrics.alarm_area(mask_net),
            regions=[
                Region(box=found.box, score=found.score).model_dump()
                for found in regions.find_regions(mask_net, view.width_px, view.height_px)
            ],
            mask_png=render.mask_png(mask_net),
            mask_agreement=metrics.mask_agreement(own.mask_net, mask_net),
            width_px=view.width_px,
            height_px=view.height_px,
            latency_ms=latency_ms,
        )

    def _answer(self, future: Future[Prediction]) -> Prediction:
        timeout_s = self._settings.predict_timeout_s
        try:
            return future.result(timeout=timeout_s)
        except FutureTimeout as error:
            future.cancel()
            raise ModelTimeout(f"the model gave no answer within {timeout_s:g} s") from error
        except Exception as error:
            raise ModelFailed(f"the model failed on this picture: {type(error).__name__}: {error}") from error

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
        if not ours:
            _log_overtaken(message, claim)
        return wait_s if ours and not final else None

    def _stored(self, change: Callable[[Session], Value]) -> Value:
        """Do one change in the writer's next transaction, and wait until it is committed."""
        value: Value = self._writer.submit(change).result()
        return value

    def _write(self, changes: Sequence[Change]) -> list[Any]:
        with self._database.write() as session:
            return [change(session) for change in changes]


def _log_overtaken(message: AuditMessage, claim: Claim) -> None:
    """Whoever has the job now brings its outcome, so this message may go."""
    log.warning("job %s: claim %d is void, its outcome was dropped: another hand has the job", message.job_id, claim.fence)


def prepare_views(data: bytes, profiles: Sequence[str], input_size: int, limits: PictureLimits) -> dict[str, Prepared]:
    """The picture as submitted, and as each named network would deliver it, ready for the model.

    Raises:
        PictureError: the bytes are not an acceptable picture.
        InvalidMessage: a profile's name is unknown.
    """
    views = {OWN_PICTURE: preprocess.prepare(data, input_size, limits)}
    unknown = [name for name in profiles if name not in compress.PROFILES]
    if unknown:
        raise InvalidMessage(f"unknown profile {', '.join(unknown)}; known are {', '.join(compress.PROFILES)}")
    if profiles:
        delivered = deliver_views(data, [compress.PROFILES[name] for name in profiles], views[OWN_PICTURE], limits)
        views |= dict(zip(profiles, delivered, strict=True))
    return views


def deliver_views(data: bytes, profiles: Sequence[Profile], own: Prepared, limits: PictureLimits) -> list[Prepared]:
    """The picture as each of these profiles leaves it, ready for the model; decoded in full once, within the pixel budget.

    Args:
        data: the picture's bytes.
        profiles: what it goes through.
        own: the picture as submitted, for the size of the model's input and the original size, which regions refer to.
        limits: what the picture may cost.

    Raises:
        PictureError: the bytes are not an acceptable picture.
    """
    with _DELIVERING.hold(own.width_px * own.height_px):
        image = preprocess.decode(data, limits)
        inputs = [preprocess.stretch(compress.deliver(image, profile), len(own.pixels)) for profile in profiles]
    return [Prepared(pixels, own.width_px, own.height_px, "JPEG") for pixels in inputs]
