"""What one run trains, tunes and is measured on, frozen: the manifest whose sha256 stands in the run's row.

The same entries give the same bytes, whatever order they come in, so a run that is killed and resumed proves by the hash that
it goes on with what it began with. The first line says what the file is and which ledger of held-out pictures it was made
with; every other line is one picture.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, ValidationError

from scheduler.holdout import Ledger, Placed, Side
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from storage import canonical

Role = Literal["train", "tune", "holdout"]
Origin = Literal["new", "refused", "old", "base"]
"""Since the last run; before it, but not yet learned by the live model; learned by it; of the base set."""

_LEDGER_HEAD: dict[str, Any] = {"kind": "tamperwatch hold-out ledger", "format": 1}

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
# As in manifests: [x0, y0, x1, y1], original pixels, ends exclusive.
ListedBox = Annotated[
    PixelBox,
    BeforeValidator(lambda value: value if isinstance(value, PixelBox) else PixelBox.of(*value)),
    PlainSerializer(lambda box: list(box.as_tuple())),
]


class _Line(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ManifestEntry(_Line):
    """One picture of a run.

    Attributes:
        sha256: of its bytes.
        tampered: its label, as people gave it.
        boxes: where it was manipulated; none for an authentic picture.
        weight: 0..1, how much it teaches beside the pseudo-mask's own quality.
        origin, role: where it comes from and what it is for.
        annotators: who said so, those who agree.
        source_id: where it comes from, if anybody said so.
        cluster: it and its relatives, from the ledger.
    """

    sha256: Sha256
    tampered: bool
    boxes: tuple[ListedBox, ...] = ()
    weight: float = Field(default=1.0, ge=0, le=1, allow_inf_nan=False)
    origin: Origin
    role: Role
    annotators: tuple[str, ...] = ()
    source_id: str | None = None
    cluster: str


class ManifestHeader(_Line):
    """The first line.

    Attributes:
        seed: of the run's sampling and training.
        last_annotation_id: annotations up to this one were read.
        parent_version: the live student that training begins from.
        ledger_sha256: of the ledger that said who is held out.
        pictures: number of entries.
    """

    kind: Literal["tamperwatch training manifest"] = "tamperwatch training manifest"
    format: Literal[1] = 1
    seed: int
    last_annotation_id: int = Field(ge=0)
    parent_version: str
    ledger_sha256: Sha256
    pictures: int = Field(ge=0)


@dataclass(frozen=True)
class FrozenManifest:
    """A manifest as it was frozen; entries by role, then hash."""

    header: ManifestHeader
    entries: tuple[ManifestEntry, ...]

    def of_role(self, role: Role) -> tuple[ManifestEntry, ...]:
        return tuple(entry for entry in self.entries if entry.role == role)


def freeze(
    entries: Iterable[ManifestEntry], *, seed: int, last_annotation_id: int, parent_version: str, ledger_sha256: str
) -> bytes:
    """The manifest's bytes; `canonical.digest` gives the hash for the run's row.

    Raises:
        ValueError: one picture twice.
    """
    ordered = sorted(entries, key=lambda entry: (entry.role, entry.sha256))
    if len({entry.sha256 for entry in ordered}) != len(ordered):
        raise ValueError("a picture is in the manifest twice")
    header = ManifestHeader(
        seed=seed,
        last_annotation_id=last_annotation_id,
        parent_version=parent_version,
        ledger_sha256=ledger_sha256,
        pictures=len(ordered),
    )
    return canonical.encoded(line.model_dump(mode="json") for line in (header, *ordered))


def thaw(data: bytes, sha256: str) -> FrozenManifest:
    """The inverse of `freeze`.

    Raises:
        BlobCorrupt: the bytes are not those that were frozen under this hash.
        InvalidInput: they are, but no manifest of a known format.
    """
    records = canonical.decoded(data, sha256, "the training manifest")
    try:
        header = ManifestHeader.model_validate(records[0] if records else {})
        entries = tuple(ManifestEntry.model_validate(record) for record in records[1:])
    except ValidationError as error:
        raise InvalidInput(f"the training manifest {sha256[:12]} cannot be read: {_first(error)}") from error
    if header.pictures != len(entries):
        raise InvalidInput(f"the training manifest {sha256[:12]} names {header.pictures} pictures and holds {len(entries)}")
    return FrozenManifest(header, entries)


def freeze_ledger(ledger: Ledger) -> bytes:
    """The ledger's bytes, for the blob store; the manifest's header names their hash."""
    return canonical.encoded(
        [_LEDGER_HEAD, *(_ledger_line(each) for each in sorted(ledger.placed, key=lambda each: each.sha256))]
    )


def thaw_ledger(data: bytes, sha256: str) -> Ledger:
    """The inverse of `freeze_ledger`, up to `removed`.

    Raises:
        BlobCorrupt, InvalidInput: as `thaw`.
    """
    head, *records = canonical.decoded(data, sha256, "the hold-out ledger") or [{}]
    if head != _LEDGER_HEAD:
        raise InvalidInput(f"the hold-out ledger {sha256[:12]} is of a format that this release cannot read")
    try:
        lines = [_LedgerLine.model_validate(record) for record in records]
    except ValidationError as error:
        raise InvalidInput(f"the hold-out ledger {sha256[:12]} cannot be read: {_first(error)}") from error
    return Ledger(tuple(Placed(**line.model_dump(exclude={"print"}), fingerprint=base64.b64decode(line.print)) for line in lines))


class _LedgerLine(_Line):
    sha256: Sha256
    source_id: str | None
    cluster: str
    side: Side
    used: bool
    print: str = Field(pattern=r"^[A-Za-z0-9+/]{342}==$")


def _ledger_line(picture: Placed) -> dict[str, Any]:
    return {
        "sha256": picture.sha256,
        "source_id": picture.source_id,
        "cluster": picture.cluster,
        "side": picture.side,
        "used": picture.used,
        "print": base64.b64encode(picture.fingerprint).decode("ascii"),
    }


def _first(error: ValidationError) -> str:
    problem = error.errors()[0]
    return f"{'.'.join(str(part) for part in problem['loc'])}: {problem['msg']}"
