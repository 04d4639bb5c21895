"""Candidate and live model on the hold-out, and the decision as a record that any database takes."""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from model.card import Card
from model.mask_files import full_size
from model.metrics import expected_calibration_error
from model.preprocess import PictureLimits
from scheduler.base_set import BaseSet
from scheduler.checks import Decision
from scheduler.frozen_manifest import ManifestEntry
from scheduler.hold_out_files import TruthMask, laid_out
from scheduler.measurement import compared
from scheduler.promotion import decide
from scheduler.scores import StudentScores
from scheduler.teaching import ReadPicture, mask_bytes
from schemas.errors import BlobMissing
from schemas.learning_settings import PromotionSettings
from storage.blobs import BlobStore
from storage.pseudo_masks import StoredMask

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Judge:
    """Measures on the held-out pictures of one manifest.

    Attributes:
        entries: of the manifest's role "holdout".
        masks: pseudo-masks by sha256, of those that have no true mask.
        base: pictures that may have a true mask.
        read: a picture's bytes by sha256.
        folder: for the pictures, on this machine.
        threads: of the engine.
    """

    entries: tuple[ManifestEntry, ...]
    masks: Mapping[str, StoredMask]
    base: BaseSet
    blobs: BlobStore
    read: ReadPicture
    folder: Path
    limits: PictureLimits
    threads: int

    def measure(self, candidate: Path, live: Path, progress: Progress) -> tuple[StudentScores, StudentScores]:
        """Scores of both; figures measured before, of the same two students on the same pictures, are taken as they are.

        Args:
            candidate, live: folders of the students.
            progress: what it raises ends the measurement.
        """
        versions = [Card.load(folder).version for folder in (candidate, live)]
        kept = self.folder / "scores.json"
        if (found := _kept(kept)) and [each.version for each in found] == versions:
            return found
        hold_out = laid_out(self.entries, self.folder / "pictures", lambda entry: self.read(entry.sha256), self._mask)
        ours, theirs = compared(candidate, live, hold_out, threads=self.threads, limits=self.limits, progress=progress)
        partial = kept.with_suffix(".part")
        partial.write_bytes(scores_file(ours, theirs))
        partial.replace(kept)
        return ours, theirs

    def _mask(self, entry: ManifestEntry) -> TruthMask:
        true = self.base[entry.sha256].true_mask() if entry.sha256 in self.base else None
        if true is not None:
            return true
        if entry.sha256 not in self.masks:
            raise BlobMissing("the teacher made no mask of its boxes")
        return TruthMask(full_size(mask_bytes(self.blobs, self.masks[entry.sha256]), entry.boxes), "teacher")


def judged(ours: StudentScores, theirs: StudentScores, settings: PromotionSettings, seed: int) -> tuple[Decision, dict[str, Any]]:
    """The decision, and both students' figures in short, as plain JSON without infinities."""
    decision = decide(ours, theirs, settings, seed)
    return decision, {"candidate": in_short(ours), "live": in_short(theirs)}


def in_short(scores: StudentScores) -> dict[str, Any]:
    """Means over the hold-out."""
    tampered = [each for each in scores.pictures if each.tampered]
    authentic = [each for each in scores.pictures if not each.tampered]
    names = sorted({name for each in tampered for name in each.f1})
    read = [each.score for each in scores.pictures]
    calibration = expected_calibration_error(read, [each.tampered for each in scores.pictures]) if read else None
    short: dict[str, Any] = plain(
        {
            "version": scores.version,
            "n_tampered": len(tampered),
            "n_authentic": len(authentic),
            "f1": {name: _mean([each.f1[name] for each in tampered if name in each.f1]) for name in names},
            "false_area": _mean([each.alarm_area["none"] for each in authentic if "none" in each.alarm_area]),
            "false_flags": _mean([float(each.verdict == "flag") for each in authentic]),
            "missed": _mean([float(each.verdict == "pass") for each in tampered]),
            "calibration_error": calibration,
            "ms_per_picture": scores.ms_per_picture,
            "parity": scores.parity,
            "failures": len(scores.failures),
        }
    )
    return short


def scores_file(ours: StudentScores, theirs: StudentScores) -> bytes:
    """Both students' scores, picture by picture, for the record."""
    return json.dumps({"candidate": ours.model_dump(mode="json"), "live": theirs.model_dump(mode="json")}).encode()


def plain(value: Any) -> Any:
    """Without numbers that JSON does not know: PostgreSQL refuses them."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _kept(path: Path) -> tuple[StudentScores, StudentScores] | None:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    return StudentScores.model_validate(found["candidate"]), StudentScores.model_validate(found["live"])


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None
