"""Coarse boxes from true masks, where a data set has masks but nobody drew boxes.

The rule: the mask is laid out in square cells, at most 128 along its long side. Marked pixels in the same or in neighbouring
cells are one part, so what lies closer than a cell is never torn apart. Parts of less than 0.05 % of the cells are specks and get
no box, unless there is nothing else: then one box holds them all. A part's box is the smallest one that holds its marked pixels.
Carelessness of annotators is not imitated here; `model.pseudo_masks` loosens boxes.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.evaluation_data import true_mask
from model.headers import read_header
from model.manifest import Manifest, ManifestRow
from model.regions import find_regions
from model.threads import Progress, in_threads
from schemas.errors import InvalidInput, PictureError
from schemas.geometry import PixelBox

CELLS = 128


def with_boxes(manifest: Manifest, progress: Progress | None = None) -> Manifest:
    """The manifest with boxes for every manipulated picture that has a mask and no boxes.

    Args:
        manifest: rows with boxes, and authentic ones, stay as they are.
        progress: called with (masks read, masks in all).

    Raises:
        InvalidInput: a mask that cannot be read, marks nothing, or is not of its picture's size; `check_training_data` tells
            all of them.
    """
    boxless = [row for row in manifest.rows if row.tampered and row.mask and not row.boxes]
    boxes = in_threads(lambda row: _row_boxes(row, manifest.root), boxless, progress)
    found = dict(zip(map(id, boxless), boxes, strict=True))
    return replace(manifest, rows=tuple(replace(row, boxes=found.get(id(row), row.boxes)) for row in manifest.rows))


def boxes_of_mask(mask_orig: NDArray[np.bool_]) -> tuple[PixelBox, ...]:
    """Boxes of a mask's parts, the largest part first; see the module's rule.

    Args:
        mask_orig: bool [H, W], original pixels.

    Returns:
        Boxes in original pixels, ends exclusive; none for an empty mask.
    """
    height_px, width_px = mask_orig.shape
    cell_px = -(-max(height_px, width_px) // CELLS)
    rows, columns = -(-height_px // cell_px), -(-width_px // cell_px)
    padded = np.zeros((rows * cell_px, columns * cell_px), dtype=np.bool_)
    padded[:height_px, :width_px] = mask_orig
    cells = padded.reshape(rows, cell_px, columns, cell_px).any(axis=(1, 3))
    parts = find_regions(np.where(cells, np.uint8(255), np.uint8(0)), padded.shape[1], padded.shape[0], limit=cells.size)
    if not parts:
        return (_tight(padded, 0, 0),) if cells.any() else ()
    windows = [(part.box.x0, part.box.y0, part.box.x1, part.box.y1) for part in parts]
    return tuple(_tight(padded[y0:y1, x0:x1], x0, y0) for x0, y0, x1, y1 in windows)


def _tight(window: NDArray[np.bool_], x0: int, y0: int) -> PixelBox:
    """The smallest box around what a window marks; the window begins at (x0, y0) of the picture."""
    across, down = np.flatnonzero(window.any(axis=0)), np.flatnonzero(window.any(axis=1))
    return PixelBox(x0=x0 + int(across[0]), y0=y0 + int(down[0]), x1=x0 + int(across[-1]) + 1, y1=y0 + int(down[-1]) + 1)


def _row_boxes(row: ManifestRow, root: Path) -> tuple[PixelBox, ...]:
    mask = root / (row.mask or "")
    try:
        return boxes_of_mask(true_mask(mask.read_bytes(), *read_header(root / row.image).original_px))
    except (OSError, PictureError) as error:
        raise InvalidInput(f"{row.where}: no boxes from mask {mask}: {error}") from error
