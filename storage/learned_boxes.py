"""Which pictures and boxes a student learned from: counts out of the manifest of the run that made it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.errors import InvalidInput, TamperwatchError
from schemas.learning_tables import RetrainRun
from storage import canonical
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


class _Entry(BaseModel):
    """Of a manifest's line (`scheduler.frozen_manifest`) what is counted."""

    model_config = ConfigDict(extra="ignore")

    role: str
    tampered: bool
    boxes: list[Any] = []
    origin: str
    annotators: list[str] = []
    source_id: str | None = None


def boxes_of(run: RetrainRun | None, blobs: BlobStore) -> BoxCounts:
    """Read the manifest of a run and count."""
    if run is None:
        return BoxCounts(why_not="it was not made by a retraining run of this installation")
    if not run.manifest_key or not run.manifest_sha256:
        return BoxCounts(why_not="the run froze no manifest")
    try:
        return _counted(_entries(blobs.get(run.manifest_key, _LARGEST_MANIFEST_BYTES), run.manifest_sha256))
    except TamperwatchError as error:
        return BoxCounts(why_not=error.message)


def _entries(data: bytes, sha256: str) -> list[_Entry]:
    """The pictures; the first line is the manifest's head."""
    _, *records = canonical.decoded(data, sha256, "the training manifest") or [{}]
    try:
        return [_Entry.model_validate(record) for record in records]
    except ValidationError as error:
        raise InvalidInput(f"the training manifest {sha256[:12]} is of a format that this release cannot read") from error


def _counted(entries: Sequence[_Entry]) -> BoxCounts:
    trained = [entry for entry in entries if entry.role == "train"]
    return BoxCounts(
        pictures=_largest_first(entry.role for entry in entries),
        boxes=_largest_first(entry.role for entry in entries for _ in entry.boxes),
        authentic=_largest_first(entry.role for entry in entries if not entry.tampered),
        origins=_largest_first(entry.origin for entry in trained),
        annotators=_largest_first(name for entry in trained for name in entry.annotators or (NOBODY,)),
        sources=_largest_first(entry.source_id or NOBODY for entry in trained),
    )


def _largest_first(names: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(names).items(), key=lambda each: (-each[1], each[0])))
