"""How well a mask points at boxes that people drew: figures that need no teacher and no true mask."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model.metrics import HALF_UINT8
from schemas.geometry import PixelBox

FOUND_FILL: Final = 0.1
"""A box is found when at least this share of it is marked: coarse boxes hold much that was not manipulated."""


class Pointing(NamedTuple):
    """Both 0..1.

    Attributes:
        inside: share of the marked pixels that lie in some box; 0 where nothing is marked, since that points nowhere.
        found: share of the boxes that were found.
    """

    inside: float
    found: float


def pointing(mask_orig: NDArray[np.uint8], boxes: Sequence[PixelBox]) -> Pointing | None:
    """Hold a mask against boxes; None without boxes.

    Args:
        mask_orig: uint8 [H, W], probability x 255, the picture's own pixels; marked above 0.5.
        boxes: original pixels. What of them lies outside the picture is not marked.
    """
    if not boxes:
        return None
    marked = mask_orig > HALF_UINT8
    covered = np.zeros_like(marked)
    found = 0
    for box in boxes:
        window = slice(box.y0, box.y1), slice(box.x0, box.x1)
        covered[window] = True
        found += int(np.count_nonzero(marked[window])) >= FOUND_FILL * box.area
    total = int(np.count_nonzero(marked))
    return Pointing(int(np.count_nonzero(marked & covered)) / total if total else 0.0, found / len(boxes))
