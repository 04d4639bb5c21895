"""Shadow mode: a candidate scores pictures that the live version has just answered, and nobody sees its answers but us.

A picture is offered when its outcome is stored. One thread takes what it can; what comes while its queue is full is dropped
and counted, so that a slow candidate, or one that fails, costs the live traffic nothing but the machine's time.
"""

import logging
import queue
import threading
from collections.abc import Sequence
from typing import Final

import numpy as np
from sqlmodel import Session

from model import metrics, render
from schemas.errors import TamperwatchError
from schemas.learning_tables import ShadowScore
from schemas.messages import AuditMessage
from schemas.settings import Settings
from schemas.tables import OWN_PICTURE, AuditResultBase, ModelVersion
from storage import shadow_scores, telemetry
from storage.blobs import BlobStore
from storage.database import Database
from workers.auditing import Auditor
from workers.loaded import Loaded
from workers.side_model import SideModel

log = logging.getLogger(__name__)

_WAITING: Final = 8
Offer = tuple[AuditMessage, str, AuditResultBase]


class Shadow:
    """Scores a worker's pictures with the version that `worker.shadow_version` names, up to `worker.shadow_pictures` of them."""

    def __init__(self, database: Database, blobs: BlobStore, auditor: Auditor, settings: Settings) -> None:
        """Start the threads.

        Args:
            database, blobs, auditor: the worker's own.
            settings: which version, how many pictures, and how often to look for it.
        """
        self._database = database
        self._auditor = auditor
        self._named, self._most = settings.worker.shadow_version, settings.worker.shadow_pictures
        self._model = SideModel("shadow", self._wanted, database, blobs, _modest(settings))
        self._offers: queue.Queue[Offer | None] = queue.Queue(_WAITING)
        self._thread = threading.Thread(target=self._loop, name="shadow-pictures", daemon=True)
        self._thread.start()

    def offer(self, message: AuditMessage, sha256: str, results: Sequence[AuditResultBase]) -> None:
        """Hand over a picture that the live version has answered; returns at once, and never raises."""
        own = next((result for result in results if result.profile == OWN_PICTURE), None)
        if own is None or self._model.version in (None, own.model_version):
            return
        try:
            self._offers.put_nowait((message, sha256, own))
        except queue.Full:
            telemetry.SHADOW.labels("dropped").inc()

    def close(self) -> None:
        """Score what was taken, then stop; what waits is dropped."""
        while True:
            try:
                self._offers.get_nowait()
            except queue.Empty:
                break
        self._offers.put(None)
        self._thread.join()
        self._model.close()

    def _wanted(self, session: Session) -> ModelVersion | None:
        row = shadow_scores.wanted_version(session, self._named)
        return None if row is None or shadow_scores.shadow_count(session, row.version) >= self._most else row

    def _loop(self) -> None:
        while (offer := self._offers.get()) is not None:
            try:
                with self._model.using() as model:
                    scored = model is not None and self._scored(model, *offer)
                if scored:
                    telemetry.SHADOW.labels("scored").inc()
            except Exception as error:
                telemetry.SHADOW.labels("failed").inc()
                foreseen = isinstance(error, TamperwatchError)
                log.warning("shadow of job %s: %s", offer[0].job_id, error, exc_info=None if foreseen else error)

    def _scored(self, model: Loaded, message: AuditMessage, sha256: str, live: AuditResultBase) -> bool:
        """Audit as the live version did, and store the difference; False once there are enough."""
        asked = message.model_copy(update={"profiles": ()})
        (ours,) = self._auditor.audit_by(model, asked, sha256)
        with self._database.write() as session:
            if shadow_scores.shadow_count(session, ours.model_version) >= self._most:
                return False
            shadow_scores.add_shadow_score(session, _row(message, sha256, live, ours))
        return True


def _row(message: AuditMessage, sha256: str, live: AuditResultBase, ours: AuditResultBase) -> ShadowScore:
    return ShadowScore(
        job_id=message.job_id,
        sha256=sha256,
        candidate_version=ours.model_version,
        live_version=live.model_version,
        live_score=live.score,
        candidate_score=ours.score,
        live_verdict=live.verdict,
        candidate_verdict=ours.verdict,
        mask_agreement=metrics.mask_agreement(*_same_size(live.mask_png, ours.mask_png)),
    )


def _same_size(live_png: bytes, ours_png: bytes) -> tuple[render.Mask, render.Mask]:
    """Both masks at the candidate's resolution: [M, M] uint8 each."""
    live, ours = render.read_mask_png(live_png), render.read_mask_png(ours_png)
    if live.shape != ours.shape:
        live = np.asarray(render.full_size_mask(live, ours.shape[1], ours.shape[0]))
    return live, ours


def _modest(settings: Settings) -> Settings:
    """One picture at a time on one CPU thread: the live version needs the others."""
    engine = settings.engine.model_copy(update={"threads": 1})
    worker = settings.worker.model_copy(update={"max_batch": 1, "max_wait_ms": 0.0})
    return settings.model_copy(update={"engine": engine, "worker": worker})
