"""What the steps of a retraining run work with, and what they hand back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlmodel import Session

from model.preprocess import PictureLimits
from scheduler.frozen_manifest import FrozenManifest, ManifestEntry, thaw
from scheduler.gathering import LARGEST_MANIFEST_BYTES
from scheduler.trainers import Tell, Trainer
from schemas.errors import InvalidInput
from schemas.learning_settings import PromotionSettings, SelectionSettings
from schemas.learning_tables import RetrainRun
from schemas.retrain_settings import RetrainSettings
from schemas.settings import Settings
from schemas.states import RetrainState
from schemas.tables import ModelVersion
from schemas.teacher_settings import TeacherSettings
from storage import pseudo_masks, registry, runs
from storage.blobs import BlobStore
from storage.database import Database
from storage.leases import Held
from storage.pseudo_masks import MaskName, StoredMask

_NAMES_AT_ONCE: Final = 500
_FIXED: Final = ("recipe", "steps", "batch", "lr_head", "lr_backbone", "threads")


@dataclass(frozen=True)
class After:
    """What a step has found.

    Attributes:
        state: what the run becomes.
        changes: of the run's columns.
        also: done in the same transaction, before.
    """

    state: RetrainState
    changes: Mapping[str, Any] = field(default_factory=dict)
    also: Callable[[Session], None] | None = None


@dataclass(frozen=True)
class Bench:
    """What a step works with.

    Attributes:
        trainer: makes the trainer.
        folder: of the run, on this machine.
        tell: says how far it is; raises where the step is to end.
        held: the lease.
    """

    database: Database
    blobs: BlobStore
    settings: Settings
    trainer: Callable[[], Trainer]
    folder: Path
    tell: Tell
    held: Held

    @property
    def limits(self) -> PictureLimits:
        return PictureLimits(self.settings.limits.max_bytes, self.settings.limits.max_pixels)

    def settings_of(self, run: RetrainRun) -> Settings:
        """The settings, with those that decide what is learned and what is better as they were when the run began: whoever
        goes on with it, perhaps told otherwise, ends with the same student."""
        if not run.config:
            return self.settings
        current, noted = self.settings, run.config
        selection = noted["selection"] | {"holdout_salt": current.selection.holdout_salt}
        then = RetrainSettings.model_validate(noted["retrain"])
        return current.model_copy(
            update={
                "selection": SelectionSettings.model_validate(selection),
                "promotion": PromotionSettings.model_validate(noted["promotion"]),
                "teacher": TeacherSettings.model_validate(noted["teacher"]),
                "retrain": current.retrain.model_copy(update={name: getattr(then, name) for name in _FIXED}),
            }
        )

    def counting(self, words: str) -> Callable[[int, int], None]:
        """Tells how many of how many."""
        return lambda done, count: self.tell(f"{words}: {done} of {count}")

    def version(self, name: str) -> ModelVersion:
        """A version's row.

        Raises:
            InvalidInput: there is none.
        """
        with self.database.read() as session:
            row = registry.get(session, name)
            session.expunge(row)
        return row

    def live(self) -> ModelVersion:
        """The live version's row.

        Raises:
            InvalidInput: none is live.
        """
        with self.database.read() as session:
            row = registry.live(session)
            if row is None:
                raise InvalidInput("no model is live, so there is none to train on from; start a worker once, or promote one")
            session.expunge(row)
        return row

    def masks(self, entries: tuple[ManifestEntry, ...], teacher_id: str) -> dict[str, StoredMask]:
        """The pseudo-masks of pictures that have one, by sha256."""
        names = [MaskName.of(entry.sha256, entry.boxes, teacher_id) for entry in entries if entry.tampered and entry.boxes]
        found: dict[str, StoredMask] = {}
        with self.database.read() as session:
            for start in range(0, len(names), _NAMES_AT_ONCE):
                known = pseudo_masks.find(session, names[start : start + _NAMES_AT_ONCE])
                found |= {name.sha256: mask for name, mask in known.items()}
        return found

    def manifest(self, run: RetrainRun) -> FrozenManifest:
        """What was frozen.

        Raises:
            BlobMissing, BlobCorrupt, InvalidInput: it is gone, or is another one.
        """
        if run.manifest_key is None or run.manifest_sha256 is None:
            raise InvalidInput(f"run {runs.short(run.id)} names no manifest")
        return thaw(self.blobs.get(run.manifest_key, LARGEST_MANIFEST_BYTES), run.manifest_sha256)
