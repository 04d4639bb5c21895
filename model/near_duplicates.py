"""Pictures that look alike: what a split by scene names alone lets through.

A picture's fingerprint is its luminance in 16 x 16 cells, centred and scaled to length one; two pictures are near-duplicates when
their fingerprints correlate at least `THRESHOLD`. Manipulated, resized and recompressed versions of one photo are caught; other
crops, mirrored ones, and different photos of one place are not. The measure is ours: coarse, and meant for splits and reports,
not for decisions about single pictures.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.manifest import ManifestRow
from model.preprocess import prepare
from model.threads import Progress, in_threads
from schemas.errors import PictureError

CELLS = 16
THRESHOLD = 0.95
"""On our development data the split by clusters hardly changes between .95 and .985."""

_DECODED_PX = 4 * CELLS
_BLOCK = 2048  # fingerprints compared at a time with as many others: 16 MB of correlations

Fingerprints = NDArray[np.float32]


def seen_before(
    validation: Sequence[ManifestRow], training: Sequence[ManifestRow], root: Path, threshold: float = THRESHOLD
) -> list[bool]:
    """For each validation row, whether some training picture is its near-duplicate.

    Args:
        validation, training: the two sides of a split; unreadable pictures resemble nothing.
        root: folder of the rows' paths.
        threshold: least correlation, above 0.
    """
    ours = fingerprints([root / row.image for row in validation])
    theirs = fingerprints([root / row.image for row in training])
    seen = np.zeros(len(validation), dtype=np.bool_)
    for part, _, alike in near_blocks(ours, theirs, threshold):
        seen[part] |= alike.any(axis=1)
    return [bool(one) for one in seen]


def near_blocks(
    ours: Fingerprints, theirs: Fingerprints, threshold: float = THRESHOLD
) -> Iterator[tuple[slice, slice, NDArray[np.bool_]]]:
    """Compare all pairs, in blocks that bound the memory.

    Args:
        ours: [N, 256].
        theirs: [M, 256]; where it is the same array, a pair is not compared again in the other direction.
        threshold: least correlation of near-duplicates, above 0.

    Yields:
        A range of ours, a range of theirs, and which of their pairs are near-duplicates, [n, m].
    """
    for top in range(0, len(ours), _BLOCK):
        for left in range(top if theirs is ours else 0, len(theirs), _BLOCK):
            rows, columns = slice(top, top + _BLOCK), slice(left, left + _BLOCK)
            yield rows, columns, ours[rows] @ theirs[columns].T >= threshold


def fingerprints(paths: Sequence[Path], progress: Progress | None = None) -> Fingerprints:
    """[N, 256] float32, one row a picture, made in threads; `progress` is called with (done, all)."""
    made = in_threads(fingerprint, paths, progress)
    return np.stack(made) if made else np.zeros((0, CELLS * CELLS), dtype=np.float32)


def fingerprint(path: Path) -> Fingerprints:
    """[256] float32 of length one, or zeros for a flat or unreadable picture."""
    try:
        return fingerprint_of(path.read_bytes())
    except (OSError, ValueError):  # ValueError: a name that no file system takes
        return np.zeros(CELLS * CELLS, dtype=np.float32)


def fingerprint_of(data: bytes) -> Fingerprints:
    """The same of a picture's bytes."""
    try:
        square = Image.fromarray(prepare(data, _DECODED_PX).pixels)
    except PictureError:
        return np.zeros(CELLS * CELLS, dtype=np.float32)
    cells = square.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX)
    values = np.asarray(cells, dtype=np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 1e-3 else np.zeros_like(values)
