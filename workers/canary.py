"""A canary: a share of the jobs is answered by a named version in place of the live one, always the same jobs."""

import hashlib
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from schemas.settings import Settings
from storage import shadow_scores
from storage.blobs import BlobStore
from storage.database import Database
from workers.loaded import Loaded
from workers.side_model import SideModel


class Canary:
    """Says which jobs are its own, and lends their version. Without a version, a share or its files it has none."""

    def __init__(self, database: Database, blobs: BlobStore, settings: Settings, max_batch: int) -> None:
        """Follow the version that `worker.canary_version` names, if it is to have any share.

        Args:
            database, blobs: the worker's own.
            settings: version, share, engine.
            max_batch: pictures a network call at most, as the live version found it.
        """
        named, self._share = settings.worker.canary_version, settings.worker.canary_share
        worker = settings.worker.model_copy(update={"max_batch": max_batch})
        self._model = (
            SideModel(
                "canary",
                lambda session: shadow_scores.wanted_version(session, named),
                database,
                blobs,
                settings.model_copy(update={"worker": worker}),
            )
            if named and self._share
            else None
        )

    def takes(self, job_id: uuid.UUID) -> bool:
        """Whether it would answer this job just now."""
        return self._model is not None and self._model.version is not None and in_share(job_id, self._share)

    @contextmanager
    def using(self, job_id: uuid.UUID) -> Iterator[Loaded | None]:
        """The version for one job, which serves at least until the block ends; None if the live one is to answer."""
        if self._model is None or not in_share(job_id, self._share):
            yield None
            return
        with self._model.using() as loaded:
            yield loaded

    def close(self) -> None:
        """Answer what was begun, then stop."""
        if self._model is not None:
            self._model.close()


def in_share(job_id: uuid.UUID, share: float) -> bool:
    """Whether a job belongs to this share of all jobs: by the hash of its id, on every worker and every delivery alike."""
    number = int.from_bytes(hashlib.sha256(job_id.bytes).digest()[:8], "big")
    return number < share * 2**64
