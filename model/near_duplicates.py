"""Pictures that look alike across a split: what a split by scene names alone lets through.

A picture's fingerprint is its luminance in 16 x 16 cells, centred and scaled to length one; two pictures are near-duplicates when
their fingerprints correlate above a threshold. Manipulated versions of one photo are caught, different photos of one place are
not. The measure is ours: coarse, and meant for reports, not for decisions about single pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from model.manifest import ManifestRow

CELLS = 16
THRESHOLD = 0.97


def seen_before(
    validation: Sequence[ManifestRow], training: Sequence[ManifestRow], root: Path, threshold: float = THRESHOLD
) -> list[bool]:
    """For each validation row, whether some training picture is its near-duplicate.

    Args:
        validation, training: the two sides of a split; unreadable pictures resemble nothing.
        root: folder of the rows' paths.
        threshold: least correlation, -1..1.
    """
    if not validation or not training:
        return [False] * len(validation)
    ours = np.stack([fingerprint(root / row.image) for row in validation])
    theirs = np.stack([fingerprint(root / row.image) for row in training])
    return [bool(best >= threshold) for best in (ours @ theirs.T).max(axis=1)]


def fingerprint(path: Path) -> NDArray[np.float32]:
    """[256] float32 of length one, or zeros for a flat or unreadable picture."""
    try:
        with Image.open(path) as image:
            image.draft("L", (8 * CELLS, 8 * CELLS))
            small = image.convert("L").resize((CELLS, CELLS), Image.Resampling.BOX)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return np.zeros(CELLS * CELLS, dtype=np.float32)
    values = np.asarray(small, dtype=np.float32).ravel()
    values = values - values.mean()
    length = float(np.linalg.norm(values))
    return values / length if length > 1e-3 else np.zeros_like(values)
