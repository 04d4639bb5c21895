"""A sheet of pseudo-masks to look at: picture with its boxes, the teacher's mask, and both together. For the eye only."""

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from schemas.geometry import PixelBox

CELL_PX, GAP_PX, MARGIN_PX, CAPTION_PX, TITLE_PX = (260, 190), 8, 20, 26, 48
BLOCKS = 2  # side by side
VIEWS = 3

Colour = tuple[int, int, int]
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (32, 33, 36)
_FAINT: Colour = (112, 117, 122)
_FRAME: Colour = (241, 243, 244)
_BOX: Colour = (255, 176, 0)
_MASK: Colour = (190, 24, 93)
_MASK_ALPHA = 0.65


@dataclass(frozen=True)
class TaughtPicture:
    """One picture of a sheet.

    Attributes:
        name: shown beside it.
        image: RGB, of any size.
        boxes: in pixels of a picture of `picture_px` (width, height).
        mask: "L", 255 x belief, of any size.
        quality: 0..1.
    """

    name: str
    image: Image.Image
    boxes: Sequence[PixelBox]
    picture_px: tuple[int, int]
    mask: Image.Image
    quality: float


def taught_picture(name: str, image: Image.Image, boxes: Sequence[PixelBox], mask_file: bytes, quality: float) -> TaughtPicture:
    """A picture reduced to what a sheet shows of it, so that a sheet's memory does not grow with its pictures.

    Args:
        image: in original pixels.
        mask_file: as `model.mask_files` writes it.
    """
    size = _fitted(image.size)
    with Image.open(io.BytesIO(mask_file), formats=("PNG",)) as mask:
        small = mask.resize(size, Image.Resampling.BOX)
    return TaughtPicture(name, image.resize(size, Image.Resampling.BOX), boxes, image.size, small, quality)


def sheet(pictures: Iterable[TaughtPicture], title: str) -> bytes:
    """Draw a sheet, in reading order.

    Returns:
        A PNG.
    """
    shown = list(pictures)
    block_px = VIEWS * (CELL_PX[0] + GAP_PX) - GAP_PX
    line_px = CAPTION_PX + CELL_PX[1] + GAP_PX
    lines = max(1, -(-len(shown) // BLOCKS))
    size = (MARGIN_PX + BLOCKS * (block_px + MARGIN_PX), TITLE_PX + lines * line_px + MARGIN_PX)
    canvas = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN_PX, TITLE_PX / 2), _plain(title), _INK, ImageFont.load_default(17), anchor="lm")
    for index, picture in enumerate(shown):
        left = MARGIN_PX + index % BLOCKS * (block_px + MARGIN_PX)
        _draw(canvas, picture, left, TITLE_PX + index // BLOCKS * line_px, block_px)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG")
    return buffer.getvalue()


def _draw(canvas: Image.Image, picture: TaughtPicture, left: int, top: int, width_px: int) -> None:
    draw, font = ImageDraw.Draw(canvas), ImageFont.load_default(13)
    middle = top + CAPTION_PX / 2
    draw.text((left, middle), _plain(picture.name)[:70], _INK, font, anchor="lm")
    draw.text((left + width_px, middle), f"quality {picture.quality:.2f}", _FAINT, font, anchor="rm")
    for column, view in enumerate(_views(picture)):
        x, y = left + column * (CELL_PX[0] + GAP_PX), top + CAPTION_PX
        draw.rectangle((x, y, x + CELL_PX[0] - 1, y + CELL_PX[1] - 1), _FRAME)
        canvas.paste(view, (x + (CELL_PX[0] - view.width) // 2, y + (CELL_PX[1] - view.height) // 2))


def _views(picture: TaughtPicture) -> tuple[Image.Image, Image.Image, Image.Image]:
    """Each within a cell, in the picture's shape."""
    seen = picture.image.resize(_fitted(picture.image.size), Image.Resampling.BOX)
    mask = picture.mask.resize(seen.size, Image.Resampling.BOX)
    boxed = seen.copy()
    draw = ImageDraw.Draw(boxed)
    x, y = seen.width / picture.picture_px[0], seen.height / picture.picture_px[1]
    for box in picture.boxes:
        corners = (box.x0 * x, box.y0 * y, max(box.x0 * x, box.x1 * x - 1), max(box.y0 * y, box.y1 * y - 1))
        draw.rectangle(corners, outline=_BOX, width=2)
    alpha = Image.fromarray(np.rint(_MASK_ALPHA * np.asarray(mask, dtype=np.float32)).astype(np.uint8))
    grey = seen.convert("L").convert("RGB")
    return boxed, mask.convert("RGB"), Image.composite(Image.new("RGB", seen.size, _MASK), grey, alpha)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """A size in the same shape that fits a cell."""
    scale = min(CELL_PX[0] / size[0], CELL_PX[1] / size[1])
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def _plain(text: str) -> str:
    """Names come from outside; Pillow's own font has no letters for what is left out."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
