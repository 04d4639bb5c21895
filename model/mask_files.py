"""A pseudo-mask as a file: an 8-bit grey PNG of 255 x belief, with its quality and its picture's size inside.

Pictures larger than `LONG_SIDE_PX` are reduced to it before a teacher sees them, and their masks stay at that size: SAM looks
at 1024 pixels itself and GrabCut at fewer, and training reduces every picture to twice the network's side. Who needs a mask at
the picture's own size, to measure against, takes `full_size`.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from model.headers import DECODER_ERRORS
from model.metrics import HALF_UINT8
from model.teacher import BoxTeacher, PseudoMask, covered
from schemas.errors import DecodeFailed
from schemas.geometry import PixelBox

LONG_SIDE_PX = 1024
QUALITY_KEY = "quality"  # of the PNG's text
_SIZE_KEY = "picture"


@dataclass(frozen=True)
class MaskFacts:
    """What a mask file says of itself: its quality, 0..1, and (width, height) of its picture."""

    quality: float
    picture_px: tuple[int, int]


def teacher_id(teacher: BoxTeacher) -> str:
    """What names a mask's maker: the teacher, and the side that pictures are reduced to."""
    return f"{teacher.name}-{LONG_SIDE_PX}px"


def taught(teacher: BoxTeacher, image: Image.Image, boxes: Sequence[PixelBox]) -> bytes:
    """Ask a teacher once, for all boxes of a picture together; the same bytes at every call with a teacher that is exact.

    Args:
        image: RGB, orientation applied, of any size.
        boxes: at least one, inside the picture, original pixels.

    Returns:
        The mask's file.

    Raises:
        InvalidInput: no box, or a box outside the picture.
    """
    scale = min(1.0, LONG_SIDE_PX / max(image.size))
    if scale == 1.0:
        return packed(teacher.pseudo_mask(image, boxes), image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    small = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    return packed(teacher.pseudo_mask(small, [_reduced(box, image.size, size) for box in boxes]), image.size)


def packed(made: PseudoMask, picture_px: tuple[int, int]) -> bytes:
    """A mask's file.

    Args:
        made: at any size.
        picture_px: (width, height) of its picture.
    """
    text = PngInfo()
    text.add_text(QUALITY_KEY, repr(made.quality))
    text.add_text(_SIZE_KEY, f"{picture_px[0]}x{picture_px[1]}")
    buffer = io.BytesIO()
    Image.fromarray(made.soft).save(buffer, "PNG", compress_level=1, pnginfo=text)
    return buffer.getvalue()


def facts_of(data: bytes) -> MaskFacts | None:
    """What a mask's file says of itself; None where it is none, or damaged."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            image.load()
            width, height = (int(side) for side in str(image.info[_SIZE_KEY]).split("x"))
            quality = float(image.info[QUALITY_KEY])
            grey = image.mode == "L"
    except DECODER_ERRORS:
        return None
    return MaskFacts(quality, (width, height)) if grey and 0 <= quality <= 1 else None


def full_size(data: bytes, boxes: Sequence[PixelBox]) -> bytes:
    """The mask at its picture's own size, to hold a student against: agreement with a teacher, not truth.

    Args:
        data: a mask's file.
        boxes: of the picture; they are the mask where the teacher marks nothing above one half.

    Returns:
        An 8-bit grey PNG, manipulated above 127.5, which marks at least one pixel.

    Raises:
        DecodeFailed: no mask's file, or damaged.
    """
    facts = facts_of(data)
    if facts is None:
        raise DecodeFailed("its pseudo-mask is damaged")
    with Image.open(io.BytesIO(data), formats=("PNG",)) as small:
        mask = np.asarray(small.resize(facts.picture_px, Image.Resampling.BILINEAR), dtype=np.uint8)
    if not (mask > HALF_UINT8).any():
        inside = covered((box.as_tuple() for box in boxes), mask.shape[:2])
        mask = np.where(inside, np.uint8(255), np.uint8(0))
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _reduced(box: PixelBox, size: tuple[int, int], small: tuple[int, int]) -> PixelBox:
    """The box in reduced pixels: all that it touches, at least one pixel wide and high."""
    x, y = small[0] / size[0], small[1] / size[1]
    x0, y0 = min(int(box.x0 * x), small[0] - 1), min(int(box.y0 * y), small[1] - 1)
    x1, y1 = min(math.ceil(box.x1 * x), small[0]), min(math.ceil(box.y1 * y), small[1])
    return PixelBox.of(x0, y0, max(x1, x0 + 1), max(y1, y0 + 1))
