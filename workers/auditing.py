"""One picture through the model: fetch its bytes, prepare its views, predict, take a second look, make the results."""

import hashlib
import logging
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout

from model import calibration, compress, metrics, preprocess, regions, render, stability
from model.budget import PixelBudget
from model.compress import Profile
from model.picture_hash import picture_hash, require_hashing
from model.predictor import Prediction
from model.preprocess import PictureLimits, Prepared
from model.stability import Judgement
from schemas.errors import BlobCorrupt, DeviceMemoryFull, InvalidMessage, ModelFailed, ModelTimeout
from schemas.messages import AuditMessage
from schemas.records import Region
from schemas.settings import Settings
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditResultBase
from storage import telemetry
from storage.blobs import BlobStore, picture_key
from storage.reuse import ReusePolicy
from storage.similar import PictureBits
from workers.canary import Canary
from workers.loaded import Loaded
from workers.runtime import ModelRuntime

log = logging.getLogger(__name__)

# Whole pictures that are being delivered again, all threads together; beside what `preprocess` allows to be decoded.
_DELIVERING = PixelBudget(80_000_000)


class Auditor:
    """What is done with one picture, shared by all threads of a worker. Knows no job states and no retries."""

    def __init__(
        self,
        blobs: BlobStore,
        runtime: ModelRuntime,
        canary: Canary,
        settings: Settings,
        keep_hash: Callable[[PictureBits], None],
    ) -> None:
        """Everything that is needed for an audit.

        Args:
            canary: answers its jobs in the runtime's place.
            keep_hash: takes each picture's perceptual hash where a setting asks for them, and does not wait.

        Raises:
            EnvironmentMissing: hashes are asked for, and what makes them is not installed.
        """
        self._keep_hash = keep_hash if settings.worker.perceptual_hash else None
        if self._keep_hash is not None:
            require_hashing()
        self._blobs = blobs
        self._runtime = runtime
        self._canary = canary
        self._settings = settings.worker
        self._limits = PictureLimits(settings.limits.max_bytes, settings.limits.max_pixels)

    def audit(self, message: AuditMessage, sha256: str, data: bytes | None = None) -> list[AuditResultBase]:
        """Audit a picture: one result for the picture itself and one for each profile that the message asks for.

        Args:
            message: what is asked.
            sha256: of the picture's bytes, which lie in the blob store.
            data: these bytes, where they are at hand.

        Raises:
            TamperwatchError: why there is no result, permanent or not.
        """
        # One version from here on, whichever is made live meanwhile: its input size, its answers, its thresholds, its name.
        with self._canary.using(message.job_id) as canary:
            if canary is not None:
                try:
                    results = self.audit_by(canary, message, sha256, data)
                except (ModelFailed, ModelTimeout, DeviceMemoryFull) as error:
                    telemetry.CANARY.labels("by_live").inc()
                    log.warning("canary %s failed, the live version answers: %s", canary.card.version, error.message)
                else:
                    telemetry.CANARY.labels("answered").inc()
                    return results
        with self._runtime.using() as model:
            return self.audit_by(model, message, sha256, data)

    def audit_by(self, model: Loaded, message: AuditMessage, sha256: str, data: bytes | None = None) -> list[AuditResultBase]:
        """The same by a certain version, which the caller keeps from being closed."""
        started = time.perf_counter()
        with telemetry.stage("fetch"):
            data = self._fetch(sha256) if data is None else data
        telemetry.audited_by(model.card.version)
        with telemetry.stage("decode"):
            views = self._prepare(model, data, message.profiles)
        self._note_hash(sha256, views[OWN_PICTURE])
        with telemetry.stage("predict"):
            predictions = self._predict(model, views)
        judgements = self._settle(model, predictions, data, views[OWN_PICTURE])
        latency_ms = (time.perf_counter() - started) * 1000
        return self._results(model.card.version, message, views, predictions, judgements, latency_ms)

    def reuse_policy(self, job_id: uuid.UUID) -> ReusePolicy | None:
        """Which earlier results may stand for an audit: those this worker would come to itself. None where none may."""
        if not self._settings.reuse_results or self._canary.takes(job_id):
            return None
        card, band = self._runtime.card, self._settings.stability_band
        return ReusePolicy(card.version, lambda score: stability.near_threshold(score, card.calibration, band))

    def _note_hash(self, sha256: str, own: Prepared) -> None:
        if self._keep_hash is not None:
            made = picture_hash(own.pixels)
            self._keep_hash(PictureBits(sha256, made.bits, made.quality))

    def _fetch(self, sha256: str) -> bytes:
        data = self._blobs.get(picture_key(sha256), self._limits.max_bytes)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise BlobCorrupt(f"the bytes stored for {sha256} are others; store the picture again")
        return data

    def _prepare(self, model: Loaded, data: bytes, profiles: Sequence[str]) -> dict[str, Prepared]:
        return prepare_views(data, profiles, model.input_size, self._limits)

    def _predict(self, model: Loaded, views: Mapping[str, Prepared]) -> dict[str, Prediction]:
        waiting = {name: model.submit(view.pixels) for name, view in views.items()}
        return {name: self._answer(future) for name, future in waiting.items()}

    def _settle(self, model: Loaded, predictions: Mapping[str, Prediction], data: bytes, own: Prepared) -> dict[str, Judgement]:
        """What each score means, after a second look at the picture itself where its score is near a threshold."""
        thresholds = model.card.calibration
        judgements = {name: stability.judge(_score(model, each), thresholds) for name, each in predictions.items()}
        first = judgements[OWN_PICTURE]
        if stability.near_threshold(first.score, thresholds, self._settings.stability_band):
            with telemetry.stage("second_look"):
                judgements[OWN_PICTURE] = stability.judge(first.score, thresholds, self._second_score(model, data, own))
        return judgements

    def _second_score(self, model: Loaded, data: bytes, own: Prepared) -> float:
        (again,) = deliver_views(data, [stability.SECOND_LOOK], own, self._limits)
        return _score(model, self._answer(model.submit(again.pixels)))

    def _results(
        self,
        model_version: str,
        message: AuditMessage,
        views: Mapping[str, Prepared],
        predictions: Mapping[str, Prediction],
        judgements: Mapping[str, Judgement],
        latency_ms: float,
    ) -> list[AuditResultBase]:
        own = predictions[OWN_PICTURE]
        return [
            self._result(model_version, message, name, prediction, judgements[name], own, views[name], latency_ms)
            for name, prediction in predictions.items()
        ]

    def _result(
        self,
        model_version: str,
        message: AuditMessage,
        profile: str,
        prediction: Prediction,
        judgement: Judgement,
        own: Prediction,
        view: Prepared,
        latency_ms: float,
    ) -> AuditResultBase:
        mask_net = prediction.mask_net
        return AuditResultBase(
            job_id=message.job_id,
            model_version=model_version,
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
            mask_agreement=1.0 if prediction is own else metrics.mask_agreement(own.mask_net, mask_net),
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
        except DeviceMemoryFull:
            raise
        except Exception as error:
            raise ModelFailed(f"the model failed on this picture: {type(error).__name__}: {error}") from error


def _score(model: Loaded, prediction: Prediction) -> float:
    return calibration.score(prediction.score_logit, model.card.calibration)


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
