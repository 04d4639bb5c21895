"""The picture sheet of a validation: picture, true outline, the student's heat, its mask. For the eye, not for figures."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps, font_manager
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from model.manifest import ManifestRow

COLUMNS = ("picture", "truth", "what the student suspects", "its mask")
PICTURES = 12
TAMPERED_SHARE = 2 / 3  # of a sheet
BLOCKS = 2  # side by side
CELL_PX, GAP_PX, MARGIN_PX = (216, 152), 6, 22
TITLE_PX, HEAD_PX, CAPTION_PX = 46, 22, 24

Colour = tuple[int, int, int]
_PAPER: Colour = (255, 255, 255)
_INK: Colour = (32, 33, 36)
_FAINT: Colour = (112, 117, 122)
_FRAME: Colour = (241, 243, 244)
_TRUTH: Colour = (0, 214, 107)
_TRUTH_EDGE: Colour = (0, 48, 24)
_TAMPERED: Colour = (190, 24, 93)
_AUTHENTIC: Colour = (15, 118, 110)
_HEAT_ALPHA = 0.72
_HALF = 127


@dataclass(frozen=True)
class SheetPicture:
    """One line of a sheet.

    Attributes:
        set_name, tampered: of the picture.
        size_px: (width, height) of the original, for its shape.
        pixels: [S, S, 3] uint8, network pixels.
        truth_net: [M, M] bool.
        prob_net: [M, M], 0..1.
        score: 0..1, not calibrated.
    """

    set_name: str
    tampered: bool
    size_px: tuple[int, int]
    pixels: NDArray[np.uint8]
    truth_net: NDArray[np.bool_]
    prob_net: NDArray[np.float32]
    score: float

    @property
    def figure(self) -> str:
        """Pixel F1 at 0.5 at the net's grid, or the false-alarm area of an authentic picture."""
        found = self.prob_net > 0.5
        if not self.tampered:
            return f"marked {found.mean():.1%}"
        return f"F1 {2 * (found & self.truth_net).sum() / max(1, found.sum() + self.truth_net.sum()):.2f}"


def chosen(rows: Sequence[ManifestRow], count: int = PICTURES) -> list[int]:
    """Indices of the pictures of a sheet: two thirds manipulated, evenly over sets, the same at every call."""
    tampered = _in_turn([(row.set_name, index) for index, row in enumerate(rows) if row.tampered])
    authentic = _in_turn([(row.set_name, index) for index, row in enumerate(rows) if not row.tampered])
    wanted = min(len(tampered), max(round(TAMPERED_SHARE * count), count - len(authentic)))
    return tampered[:wanted] + authentic[: count - wanted]


def sheet_pictures(
    rows: Sequence[ManifestRow],
    pixels: NDArray[np.uint8],
    masks_net: NDArray[np.bool_],
    prob: NDArray[np.float32],
    score_logit: NDArray[np.float32],
) -> list[SheetPicture]:
    """The pictures of a validation's sheet.

    Args:
        rows: N pictures.
        pixels: [N, S, S, 3].
        masks_net: [N, M, M].
        prob: [N, M, M].
        score_logit: [N].
    """
    side_px = pixels.shape[1]
    return [
        SheetPicture(
            set_name=rows[index].set_name,
            tampered=rows[index].tampered,
            size_px=rows[index].size_px or (side_px, side_px),
            pixels=pixels[index],
            truth_net=masks_net[index],
            prob_net=prob[index],
            score=1.0 / (1.0 + math.exp(-float(score_logit[index]))),
        )
        for index in chosen(rows)
    ]


def sheet(pictures: Sequence[SheetPicture], title: str) -> bytes:
    """Draw a sheet.

    Args:
        pictures: in reading order, column by column.
        title: one line above all.

    Returns:
        A PNG.
    """
    lines = -(-len(pictures) // BLOCKS)
    block_px = len(COLUMNS) * (CELL_PX[0] + GAP_PX) - GAP_PX
    width = BLOCKS * block_px + (BLOCKS + 1) * MARGIN_PX
    height = TITLE_PX + HEAD_PX + lines * (CAPTION_PX + CELL_PX[1] + GAP_PX) + MARGIN_PX
    canvas = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.text((MARGIN_PX, TITLE_PX / 2 + 4), title, _INK, _font(17), anchor="lm")
    for block in range(BLOCKS):
        left = MARGIN_PX + block * (block_px + MARGIN_PX)
        for column, name in enumerate(COLUMNS):
            draw.text((left + column * (CELL_PX[0] + GAP_PX), TITLE_PX + HEAD_PX / 2), name, _FAINT, _font(13), anchor="lm")
        for line, picture in enumerate(pictures[block * lines : (block + 1) * lines]):
            top = TITLE_PX + HEAD_PX + line * (CAPTION_PX + CELL_PX[1] + GAP_PX)
            _draw_line(canvas, picture, left, top, block_px)
    buffer = io.BytesIO()
    canvas.save(buffer, "PNG", optimize=False)
    return buffer.getvalue()


def _in_turn(named: Sequence[tuple[str, int]]) -> list[int]:
    """Indices, taking one from every set in turn."""
    groups: dict[str, list[int]] = {}
    for name, index in named:
        groups.setdefault(name, []).append(index)
    spread = [_spread(group) for group in groups.values()]
    rounds = range(max(map(len, spread), default=0))
    return [group[turn] for turn in rounds for group in spread if turn < len(group)]


def _spread(group: Sequence[int]) -> list[int]:
    """First, middle, then the quarters: any beginning of the answer covers the group."""
    order = sorted(range(len(group)), key=lambda place: int(f"{place:016b}"[::-1], 2))
    return [group[place] for place in order]


def _draw_line(canvas: Image.Image, picture: SheetPicture, left: int, top: int, width: int) -> None:
    draw, middle = ImageDraw.Draw(canvas), top + CAPTION_PX / 2
    label, colour = ("manipulated", _TAMPERED) if picture.tampered else ("authentic", _AUTHENTIC)
    draw.line((left, top + 1, left + width, top + 1), _FRAME, 1)
    draw.text((left, middle + 1), label, colour, _font(13, bold=True), anchor="lm")
    draw.text((left + 100, middle + 1), picture.set_name[:40], _INK, _font(13), anchor="lm")
    draw.text((left + width, middle + 1), f"{picture.figure}   score {picture.score:.2f}", _INK, _font(13), anchor="rm")
    for column, view in enumerate(_views(picture)):
        x, y = left + column * (CELL_PX[0] + GAP_PX), top + CAPTION_PX
        draw.rectangle((x, y, x + CELL_PX[0] - 1, y + CELL_PX[1] - 1), _FRAME)
        canvas.paste(view, (x + (CELL_PX[0] - view.width) // 2, y + (CELL_PX[1] - view.height) // 2))


def _views(picture: SheetPicture) -> tuple[Image.Image, ...]:
    """The four views, each in the shape of the original and within a cell."""
    scale = min(CELL_PX[0] / picture.size_px[0], CELL_PX[1] / picture.size_px[1])
    size = (max(1, round(picture.size_px[0] * scale)), max(1, round(picture.size_px[1] * scale)))
    seen = Image.fromarray(picture.pixels).resize(size, Image.Resampling.LANCZOS)
    truth = Image.fromarray(np.uint8(255) * picture.truth_net.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    prob = Image.fromarray(np.rint(255 * picture.prob_net).astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    heat = Image.fromarray((255 * colormaps["inferno"](np.asarray(prob))[..., :3]).astype(np.uint8))
    mask = prob.point([0 if level <= _HALF else 255 for level in range(256)]).convert("RGB")
    return seen, _outlined(seen, truth), Image.blend(seen.convert("L").convert("RGB"), heat, _HEAT_ALPHA), _outlined(mask, truth)


def _outlined(view: Image.Image, truth: Image.Image) -> Image.Image:
    """A copy with a green line along the true mask's border, cased in dark so that it shows on any ground."""
    inside = truth.point([0 if level <= _HALF else 255 for level in range(256)])
    drawn = view.copy()
    for thickness, colour in ((7, _TRUTH_EDGE), (5, _TRUTH)):
        grown = np.asarray(inside.filter(ImageFilter.MaxFilter(thickness)))
        drawn.paste(colour, mask=Image.fromarray(grown - np.asarray(inside)))
    return drawn


def _font(size_px: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings along; it has letters for set names of most scripts."""
    wanted = font_manager.FontProperties(family="DejaVu Sans", weight="bold" if bold else "normal")
    return ImageFont.truetype(font_manager.findfont(wanted), size_px)
