"""The base set: pictures that people bring along beside what moderators draw, read from the trainer's own disk."""

import functools
from dataclasses import dataclass
from pathlib import Path

from model.card import sha256_of
from model.evaluation_data import read_bytes
from model.folders import read_data
from model.manifest import Manifest, ManifestRow
from model.mask_boxes import with_boxes
from model.splits import clustered
from model.threads import in_threads
from scheduler.hold_out_files import TruthMask
from schemas.errors import InvalidInput


@dataclass(frozen=True)
class BasePicture:
    """One picture.

    Attributes:
        row: as its manifest has it, with boxes.
        path: of its file.
        mask: of its true mask, where there is one.
        held_out: whether its manifest keeps it apart from training.
    """

    row: ManifestRow
    path: Path
    mask: Path | None
    held_out: bool

    def true_mask(self) -> TruthMask | None:
        """The mask's file; None where the set has none.

        Raises:
            UnreadableFile
        """
        return TruthMask(read_bytes(self.mask), "mask") if self.mask else None


BaseSet = dict[str, BasePicture]
"""By sha256; where a picture is there twice, the first in the manifest counts."""


@functools.lru_cache(maxsize=1)
def read_base_set(path: str) -> BaseSet:
    """Read a manifest or folder of pictures, split as `tamperwatch train` splits it: what a student of this set was measured
    on there never trains here. An empty name is an empty set.

    It is read once in a process: each step of a run needs it, and a run's process ends with the run. What changes on disk
    meanwhile is seen when a picture is read.

    Raises:
        InvalidInput: it cannot be read; all of its problems are told.
    """
    if not path:
        return {}
    manifest = with_boxes(clustered(read_data(Path(path).expanduser())))
    held_out = {id(row) for row in manifest.split("validation")}
    hashes = in_threads(lambda row: _sha256(manifest, row), manifest.rows)
    pictures: BaseSet = {}
    for row, sha256 in zip(manifest.rows, hashes, strict=True):
        mask = manifest.root / row.mask if row.tampered and row.mask else None
        pictures.setdefault(sha256, BasePicture(row, manifest.root / row.image, mask, id(row) in held_out))
    return pictures


def _sha256(manifest: Manifest, row: ManifestRow) -> str:
    try:
        return sha256_of(manifest.root / row.image)
    except OSError as error:
        raise InvalidInput(f"{row.where} of the base set cannot be read: {error.strerror or error}") from error
