"""Sheets of the pictures that came out worst, to look at: each as it is, what is true, and what the student says. Pillow only.

They show other people's pictures, so they are for whoever ran the evaluation, never for publication.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from model.evaluation_data import read_bytes, true_mask
from model.evaluation_report import Outcome
from model.predictor import Predictor
from model.preprocess import PictureLimits, decode, prepare
from model.render import full_size_mask, overlay
from model.sweeps import AS_IS

PER_SHEET: Final = 12

_TILE_PX: Final = (240, 180)
_GAP_PX: Final = 6
_MARGIN_PX: Final = 24
_CAPTION_PX: Final = 46
_TITLE_PX: Final = 64
_TILES_PER_ROW: Final = 6
_NAME_LENGTH: Final = 52
_PAPER_RGB: Final = (250, 250, 248)
_INK_RGB: Final = (32, 33, 36)
_QUIET_RGB: Final = (110, 113, 118)
_FRAME_RGB: Final = (228, 229, 230)
# Green, which the orange and magenta of predictions leaves free.
_TRUTH_RGB: Final = (0, 200, 120)

_TITLES: Final = {
    True: ("Tampered pictures with the lowest pixel F1", "each: picture, true region, prediction"),
    False: ("Authentic pictures with the highest score", "each: picture, prediction"),
}


def worst_localized(outcomes: Sequence[Outcome], count: int = PER_SHEET) -> list[Outcome]:
    """Tampered pictures as they are, lowest F1 first; of equals, whoever marks most first."""
    measured = [outcome for outcome in outcomes if outcome.variant == AS_IS and outcome.f1 is not None]
    return sorted(measured, key=lambda outcome: (outcome.f1, -outcome.alarm_area))[:count]


def worst_false_alarms(outcomes: Sequence[Outcome], count: int = PER_SHEET) -> list[Outcome]:
    """Authentic pictures as they are, highest score first."""
    authentic = [outcome for outcome in outcomes if outcome.variant == AS_IS and not outcome.tampered]
    return sorted(authentic, key=lambda outcome: -outcome.score_logit)[:count]


def sheet(predictor: Predictor, chosen: Sequence[tuple[Outcome, Path | None]], limits: PictureLimits) -> Image.Image:
    """Draw pictures side by side with their truth and the student's prediction, which is made again.

    Args:
        predictor: the student that was measured.
        chosen: outcomes of one label, at least one, each with its true mask's file; masks of authentic pictures are not read.
        limits: of a picture.

    Raises:
        TamperwatchError: a picture that could be measured a moment ago no longer can.
    """
    rows = [(outcome, _tiles(predictor, outcome, mask, limits)) for outcome, mask in chosen]
    per_row = _TILES_PER_ROW // len(rows[0][1])
    entry_width_px = len(rows[0][1]) * (_TILE_PX[0] + _GAP_PX) + _MARGIN_PX - _GAP_PX
    entry_height_px = _TILE_PX[1] + _CAPTION_PX
    height_px = _TITLE_PX + -(-len(rows) // per_row) * entry_height_px + _MARGIN_PX
    paper = Image.new("RGB", (per_row * entry_width_px + _MARGIN_PX, height_px), _PAPER_RGB)
    _write_title(paper, chosen[0][0].tampered, predictor)
    for index, (outcome, tiles) in enumerate(rows):
        left = _MARGIN_PX + index % per_row * entry_width_px
        top = _TITLE_PX + index // per_row * entry_height_px
        for number, tile in enumerate(tiles):
            paper.paste(tile, (left + number * (_TILE_PX[0] + _GAP_PX), top))
        _write_caption(paper, outcome, left, top + _TILE_PX[1] + 5)
    return paper


def _tiles(predictor: Predictor, outcome: Outcome, mask: Path | None, limits: PictureLimits) -> list[Image.Image]:
    data = read_bytes(outcome.image)
    picture = decode(data, limits)
    (prediction,) = predictor.predict([prepare(data, predictor.input_size, limits).pixels])
    small = picture.copy()
    small.thumbnail(_TILE_PX)
    tiles = [small, overlay(small, full_size_mask(prediction.mask_net, *small.size))]
    if outcome.tampered and mask is not None:
        truth = Image.fromarray(true_mask(read_bytes(mask), *picture.size)).convert("L").resize(small.size)
        painted = Image.blend(small, Image.new("RGB", small.size, _TRUTH_RGB), 0.55)
        tiles.insert(1, Image.composite(painted, small, truth))
    return [_framed(tile) for tile in tiles]


def _framed(tile: Image.Image) -> Image.Image:
    """In the middle of a field of the common size."""
    frame = Image.new("RGB", _TILE_PX, _FRAME_RGB)
    frame.paste(tile, ((_TILE_PX[0] - tile.width) // 2, (_TILE_PX[1] - tile.height) // 2))
    return frame


def _write_title(paper: Image.Image, tampered: bool, predictor: Predictor) -> None:
    title, legend = _TITLES[tampered]
    draw = ImageDraw.Draw(paper)
    draw.text((_MARGIN_PX, 12), title, _INK_RGB, ImageFont.load_default(20))
    about = f"{legend} · {predictor.card.version} · {predictor.engine.name} · input {predictor.input_size} px"
    draw.text((_MARGIN_PX, 38), about, _QUIET_RGB, ImageFont.load_default(13))


def _write_caption(paper: Image.Image, outcome: Outcome, left_px: int, top_px: int) -> None:
    name = "".join(letter if letter.isprintable() else "?" for letter in outcome.image.name)
    if len(name) > _NAME_LENGTH:
        name = f"{name[:24]}…{name[-24:]}"
    figure = f"marks {outcome.alarm_area:.1%}" if outcome.f1 is None else f"F1 {outcome.f1:.2f} · marks {outcome.alarm_area:.1%}"
    draw = ImageDraw.Draw(paper)
    draw.text((left_px, top_px), name, _INK_RGB, ImageFont.load_default(13))
    rest = f"{outcome.set_name} · {figure} · score {outcome.score:.2f} · {outcome.verdict}"
    draw.text((left_px, top_px + 17), rest, _QUIET_RGB, ImageFont.load_default(12))
