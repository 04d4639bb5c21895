"""A run's pictures and masks as files, with a manifest that training reads as it reads any other (`model.manifest`).

FOLDER/pictures/<sha256>           the pictures' own bytes
FOLDER/masks/<sha256>.png          pseudo-masks of the training pictures, for `model.teacher.GivenMasks`
FOLDER/tuning/<sha256>.png         those of the tuning pictures, at their pictures' size, as masks to measure against
FOLDER/manifest.csv                all of them
FOLDER/working-set.json            written last: of which entries all this was made, and which pictures are missing from it

People draw boxes, not masks, so the tuning pictures carry what the teacher made of their boxes. Early stop, mask shift and
calibration are therefore held against the teacher; the decision about the student is not taken on these pictures.
"""

import csv
import errno
import hashlib
import io
import json
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.headers import read_header
from model.manifest import MANIFEST_NAME
from model.mask_files import full_size
from model.preprocess import decode
from scheduler.frozen_manifest import ManifestEntry
from scheduler.teaching import ReadPicture, mask_bytes
from schemas.errors import BlobCorrupt, BlobMissing, DiskFull, InvalidInput, PictureError
from storage import canonical
from storage.blobs import BlobStore
from storage.pseudo_masks import StoredMask

RECORD_NAME: Final = "working-set.json"
MASKS_NAME: Final = "masks"
MOST_BYTES: Final = 64 << 30
_COLUMNS = ("set", "image", "mask", "label", "scene", "boxes", "width", "height", "split", "weight")
_SPLITS = {"train": "training", "tune": "validation"}
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class WorkingSet:
    """What training needs.

    Attributes:
        manifest: the CSV.
        masks: folder of the training pictures' masks.
        dropped: by sha256, why a picture is not in it.
    """

    manifest: Path
    masks: Path
    dropped: Mapping[str, str]


def materialise(
    entries: Iterable[ManifestEntry],
    blobs: BlobStore,
    masks: Mapping[str, StoredMask],
    folder: Path,
    *,
    read_picture: ReadPicture,
    stop: Callable[[], bool] = lambda: False,
    progress: Callable[[int, int], None] = lambda _done, _all: None,
    most_bytes: int = MOST_BYTES,
) -> WorkingSet | None:
    """Write what a run trains and tunes on, one picture at a time. One that cannot be had is left out by name.

    Files that are there with the right bytes are kept, so the same call goes on where it was cut short; and a folder that is
    complete is taken as it is, even if a picture has gone from the store since: a resumed run meets what it began with.

    Args:
        entries: of a frozen manifest; those to train and to tune on are taken.
        masks: by sha256, from `scheduler.teaching.teach`; a manipulated picture without one is left out.
        read_picture: its bytes by sha256, for instance `scheduler.teaching.stored_pictures`.
        stop: asked before every picture.
        progress: called with (pictures done, pictures in all).
        most_bytes: of all files together.

    Returns:
        None where it was stopped.

    Raises:
        InvalidInput: the folder holds another run's pictures, or cannot be written to.
        DiskFull: no room, or more than `most_bytes`.
        BlobStoreUnavailable: the same call goes on.
    """
    wanted = sorted((entry for entry in entries if entry.role in _SPLITS), key=lambda entry: entry.sha256)
    sha256 = canonical.digest(canonical.encoded(entry.model_dump(mode="json") for entry in wanted))
    files = _Files(folder, most_bytes)
    kept = files.complete(sha256)
    if kept is not None:
        return WorkingSet(folder / MANIFEST_NAME, folder / MASKS_NAME, kept)
    rows, dropped = [], {}
    for number, entry in enumerate(wanted):
        progress(number, len(wanted))
        if stop():
            return None
        try:
            rows.append(_row(entry, files, blobs, masks.get(entry.sha256), read_picture))
        except (PictureError, BlobMissing, BlobCorrupt) as error:
            dropped[entry.sha256] = error.message
    progress(len(wanted), len(wanted))
    files.write(MANIFEST_NAME, _csv(rows))
    files.write(RECORD_NAME, json.dumps({"entries_sha256": sha256, "dropped": dropped}, indent=2).encode())
    return WorkingSet(folder / MANIFEST_NAME, folder / MASKS_NAME, dropped)


class _Files:
    """Files of one folder, each there whole or not at all, and their bytes counted."""

    def __init__(self, path: Path, most_bytes: int) -> None:
        self.path, self._left_bytes, self._most_bytes = path, most_bytes, most_bytes

    def complete(self, entries_sha256: str) -> dict[str, str] | None:
        """What was dropped when these entries were written here; None where they are not, or not all of them."""
        try:
            record = json.loads((self.path / RECORD_NAME).read_bytes())
        except (OSError, ValueError):
            return None
        if record.get("entries_sha256") != entries_sha256:
            raise InvalidInput(f"{self.path} holds the pictures of another run; name another folder, or delete it")
        dropped: dict[str, str] = record["dropped"]
        return dropped

    def has(self, name: str, sha256: str) -> bool:
        """Whether a file is there with these bytes; if so, they are counted."""
        with suppress(OSError), (self.path / name).open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == sha256:
                self._count(name, file.tell())
                return True
        return False

    def write(self, name: str, data: bytes) -> None:
        path = self.path / name
        self._count(name, len(data))
        partial = path.with_name(f"{path.name}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            if error.errno in _NO_ROOM:
                raise DiskFull(f"no space left to write {path}; free some and run again") from error
            raise InvalidInput(f"{path} cannot be written: {error.strerror}") from error

    def _count(self, name: str, size_bytes: int) -> None:
        self._left_bytes -= size_bytes
        if self._left_bytes < 0:
            raise DiskFull(f"{self.path / name} would be more than the {self._most_bytes:,} bytes a run may take")


def _row(
    entry: ManifestEntry, files: _Files, blobs: BlobStore, mask: StoredMask | None, read_picture: ReadPicture
) -> dict[str, str]:
    """Write one picture and its mask; their line in the manifest."""
    if entry.tampered and mask is None:
        raise BlobMissing("it has no pseudo-mask")
    image = f"pictures/{entry.sha256}"
    if not files.has(image, entry.sha256):
        data = read_picture(entry.sha256)
        decode(data)  # training would end at a picture that cannot be decoded
        files.write(image, data)
    width_px, height_px = mask.picture_px if mask and entry.tampered else _size_px(files.path / image)
    return {
        "set": entry.origin,
        "image": image,
        "mask": _mask(entry, files, blobs, mask) if mask and entry.tampered else "",
        "label": "tampered" if entry.tampered else "authentic",
        "scene": entry.cluster,
        "boxes": json.dumps([box.as_tuple() for box in entry.boxes]),
        "width": str(width_px),
        "height": str(height_px),
        "split": _SPLITS[entry.role],
        "weight": repr(entry.weight),
    }


def _mask(entry: ManifestEntry, files: _Files, blobs: BlobStore, mask: StoredMask) -> str:
    """Write one picture's pseudo-mask; its name in the manifest if it is to measure against."""
    data = mask_bytes(blobs, mask)
    if entry.role == "train":
        files.write(f"{MASKS_NAME}/{entry.sha256}.png", data)
        return ""
    files.write(f"tuning/{entry.sha256}.png", full_size(data, entry.boxes))
    return f"tuning/{entry.sha256}.png"


def _size_px(path: Path) -> tuple[int, int]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on size and metadata
        return read_header(path).original_px


def _csv(rows: Sequence[Mapping[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()
