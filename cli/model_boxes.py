"""Which pictures and boxes a student learned from: counts out of the manifest of the run that made it."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from scheduler.frozen_manifest import FrozenManifest, ManifestEntry, thaw
from schemas.errors import TamperwatchError
from schemas.learning_tables import RetrainRun
from storage.blobs import BlobStore

_LARGEST_MANIFEST_BYTES = 1_000_000_000
NOBODY = "(nobody named)"


@dataclass(frozen=True)
class BoxCounts:
    """A manifest in numbers. Where it cannot be read, `why_not` says why, and there are none.

    Attributes:
        pictures: by role (train, tune, holdout).
        boxes: by role.
        authentic: pictures without any manipulation, by role.
        origins: training pictures by where they come from (new, refused, old, base).
        annotators: training pictures by who said so; a picture of two annotators counts for both.
        sources: training pictures by scene, campaign or account.
    """

    pictures: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    authentic: dict[str, int] = field(default_factory=dict)
    origins: dict[str, int] = field(default_factory=dict)
    annotators: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    why_not: str = ""


def boxes_of(run: RetrainRun | None, blobs: BlobStore) -> BoxCounts:
    """Read the manifest of a run and count."""
    if run is None:
        return BoxCounts(why_not="it was not made by a retraining run of this installation")
    if not run.manifest_key or not run.manifest_sha256:
        return BoxCounts(why_not="the run froze no manifest")
    try:
        return counted(thaw(blobs.get(run.manifest_key, _LARGEST_MANIFEST_BYTES), run.manifest_sha256))
    except TamperwatchError as error:
        return BoxCounts(why_not=error.message)


def counted(manifest: FrozenManifest) -> BoxCounts:
    """A manifest in numbers."""
    entries = manifest.entries
    trained = [entry for entry in entries if entry.role == "train"]
    return BoxCounts(
        pictures=_largest_first(entry.role for entry in entries),
        boxes=_largest_first(entry.role for entry in entries for _ in entry.boxes),
        authentic=_largest_first(entry.role for entry in entries if not entry.tampered),
        origins=_largest_first(entry.origin for entry in trained),
        annotators=_largest_first(name for entry in trained for name in _annotators(entry)),
        sources=_largest_first(entry.source_id or NOBODY for entry in trained),
    )


def _annotators(entry: ManifestEntry) -> Iterable[str]:
    return entry.annotators or (NOBODY,)


def _largest_first(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda each: (-each[1], each[0])))
