"""The held-out pictures of a run as files: the measuring protocol reads paths, so that memory does not grow with the set."""

import contextlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from model.evaluation_data import EvaluationItem, check_masks
from scheduler.frozen_manifest import ManifestEntry
from scheduler.scores import Truth
from schemas.errors import BlobCorrupt, BlobMissing, InvalidInput, PictureError

SET_NAME = "hold-out"


class TruthMask(NamedTuple):
    """A mask file's bytes, 8-bit, original pixels, manipulated above 127.5; and who says so."""

    data: bytes
    truth: Truth


@dataclass(frozen=True)
class HeldOutPicture:
    """One picture that can be measured; `truth` is None for an authentic one."""

    entry: ManifestEntry
    item: EvaluationItem
    truth: Truth | None


@dataclass(frozen=True)
class HoldOut:
    """What a run is measured on, and by hash what cannot be, and why."""

    pictures: tuple[HeldOutPicture, ...]
    failures: dict[str, str]


def laid_out(
    entries: Iterable[ManifestEntry],
    folder: Path,
    read_picture: Callable[[ManifestEntry], bytes],
    read_mask: Callable[[ManifestEntry], TruthMask],
) -> HoldOut:
    """Write pictures and masks into a folder, one at a time. One that cannot be had fails alone.

    Args:
        entries: of the manifest's role "holdout".
        folder: made if missing; files that are there are written again.
        read_picture: a picture's bytes.
        read_mask: the true mask of a manipulated picture, or its pseudo-mask. What they raise about one picture is noted;
            a store that is away ends the run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures, failures = [], {}
    for entry in entries:
        try:
            pictures.append(_laid_out(entry, folder, read_picture, read_mask))
        except (BlobMissing, BlobCorrupt, PictureError, InvalidInput) as error:
            failures[entry.sha256] = error.message
            for leftover in (folder / entry.sha256, folder / f"{entry.sha256}-mask.png"):
                with contextlib.suppress(FileNotFoundError):
                    leftover.unlink()
    return HoldOut(tuple(pictures), failures)


def _laid_out(
    entry: ManifestEntry,
    folder: Path,
    read_picture: Callable[[ManifestEntry], bytes],
    read_mask: Callable[[ManifestEntry], TruthMask],
) -> HeldOutPicture:
    image = folder / entry.sha256
    image.write_bytes(read_picture(entry))
    if not entry.tampered:
        return HeldOutPicture(entry, EvaluationItem(SET_NAME, image, None, False), None)
    found = read_mask(entry)
    mask = folder / f"{entry.sha256}-mask.png"
    mask.write_bytes(found.data)
    item = EvaluationItem(SET_NAME, image, mask, True, entry.boxes)
    check_masks([item])
    return HeldOutPicture(entry, item, found.truth)
