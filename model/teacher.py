"""Teachers: a coarse box becomes a soft pseudo-mask, the student's supervision."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


@dataclass(frozen=True)
class PseudoMask:
    """What a teacher says about one picture.

    Attributes:
        soft: [H, W] uint8, 255 x belief that a pixel was manipulated, original pixels.
        quality: 0..1, how well the object found fills its boxes: IoU of the object's bounding box with the box given,
            mean over boxes. 0 where the teacher found nothing and the box itself was taken.
    """

    soft: NDArray[np.uint8]
    quality: float


class BoxTeacher(Protocol):
    """Frozen: it is never trained here."""

    name: str

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        """A soft mask of what the boxes point at.

        Args:
            image: RGB, orientation applied.
            boxes: at least one, inside the picture, original pixels.

        Raises:
            InvalidInput: no box, or a box outside the picture.
        """
        ...


class GrabCutTeacher:
    """OpenCV's GrabCut (Rother et al. 2004) inside the union of the boxes, at reduced size.

    Where nothing, or next to nothing, of a box is cut out as an object, the whole box is taken.

    Args:
        long_side_px: the picture is reduced to this before cutting.
        iterations: of GrabCut.
        least_fill: an object filling less of its box than this counts as not found.
        outside_label: belief, 0..1, inside a box where no object was found: the teacher misses parts of manipulations.
    """

    def __init__(self, long_side_px: int = 320, iterations: int = 4, least_fill: float = 0.1, outside_label: float = 0.1) -> None:
        self.name = f"grabcut-{long_side_px}-{iterations}-{least_fill:g}-{outside_label:g}"
        self._long_side_px = long_side_px
        self._iterations = iterations
        self._least_fill = least_fill
        self._outside_label = outside_label

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        """See `BoxTeacher`."""
        _check(image, boxes)
        scale = min(1.0, self._long_side_px / max(image.size))
        size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
        small = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), dtype=np.uint8)
        rects = [_scaled(box, scale, size) for box in boxes]
        inside = np.zeros(small.shape[:2], dtype=bool)
        for x0, y0, x1, y1 in rects:
            inside[y0:y1, x0:x1] = True
        found = self._cut(small, inside)
        qualities = [self._settle(found, rect) for rect in rects]
        belief = np.where(found, 1.0, np.where(inside, self._outside_label, 0.0)).astype(np.float32)
        softened = cv2.GaussianBlur(belief, (0, 0), 1.0)
        soft = cv2.resize(softened, image.size, interpolation=cv2.INTER_LINEAR)
        return PseudoMask(np.rint(255 * soft).astype(np.uint8), float(np.mean(qualities)))

    def _cut(self, small: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Foreground within the union of boxes; nothing where the boxes leave no background to learn from."""
        if inside.all():
            return np.zeros_like(inside)
        labels = np.where(inside, cv2.GC_PR_FGD, cv2.GC_BGD).astype(np.uint8)
        bgr = np.ascontiguousarray(small[..., ::-1])
        background, foreground, no_rect = np.zeros((1, 65)), np.zeros((1, 65)), (0, 0, 1, 1)
        cv2.setRNGSeed(0)  # its k-means draws from a global generator
        try:
            cv2.grabCut(bgr, labels, no_rect, background, foreground, self._iterations, cv2.GC_INIT_WITH_MASK)
        except cv2.error:  # too few pixels for its colour models
            return np.zeros_like(inside)
        return np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)) & inside

    def _settle(self, found: NDArray[np.bool_], rect: tuple[int, int, int, int]) -> float:
        """Fill a box in which nothing was found, in place; returns the agreement of object and box."""
        x0, y0, x1, y1 = rect
        part = found[y0:y1, x0:x1]
        if part.mean() < self._least_fill:
            part[:] = True
            return 0.0
        rows, columns = np.flatnonzero(part.any(1)), np.flatnonzero(part.any(0))
        extent = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        return float(extent / part.size)


def _check(image: Image.Image, boxes: Sequence[PixelBox]) -> None:
    if not boxes:
        raise InvalidInput("a teacher needs at least one box")
    for box in boxes:
        if not box.fits(*image.size):
            raise InvalidInput(f"box {list(box.as_tuple())} lies outside the picture of {image.width}x{image.height} pixels")


def _scaled(box: PixelBox, scale: float, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The box in reduced pixels, at least one pixel wide and high."""
    x0, y0 = min(int(box.x0 * scale), size[0] - 1), min(int(box.y0 * scale), size[1] - 1)
    return x0, y0, max(x0 + 1, min(size[0], round(box.x1 * scale))), max(y0 + 1, min(size[1], round(box.y1 * scale)))
