"""Boxes that people drew, in a file of their own: CSV (image,x0,y0,x1,y1) or COCO."""

import json
import math
from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, FiniteFloat, ValidationError

from model.csv_lines import read_lines
from model.problems import Kind, Problem
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox

CSV_COLUMNS = ("image", "x0", "y0", "x1", "y1")
_HUNDREDTHS = 2

Boxes = dict[str, tuple[PixelBox, ...]]


class CocoImage(BaseModel):
    """An entry of COCO's `images`; what else it holds is passed over."""

    id: int | str
    file_name: str


class CocoAnnotation(BaseModel):
    """An entry of COCO's `annotations`, with its box as (x, y, width, height)."""

    image_id: int | str
    bbox: tuple[FiniteFloat, FiniteFloat, FiniteFloat, FiniteFloat]


class _Coco(BaseModel):
    images: list[CocoImage]
    annotations: list[CocoAnnotation]


def read_box_file(file: Path) -> tuple[Boxes, list[Problem]]:
    """Boxes by picture.

    Args:
        file: CSV with one box a line, ends exclusive; or, where its name ends in `.json`, COCO, whose bbox is
            [x, y, width, height]. Fractions of pixels are widened to whole ones.

    Returns:
        Boxes by the picture's name as the file has it, in the file's order; and problems of single boxes.

    Raises:
        InvalidInput: the file cannot be read, or is not of its format.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{file} cannot be read: {error.strerror}") from error
    return _from_coco(file, content) if file.suffix.lower() == ".json" else _from_csv(file, content)


def _from_csv(file: Path, content: bytes) -> tuple[Boxes, list[Problem]]:
    lines, problems = read_lines(file, content, CSV_COLUMNS)
    entries = []
    for number, values in lines:
        where = f"{file.name} line {number}"
        try:
            x0, y0, x1, y1 = (float(values[name]) for name in CSV_COLUMNS[1:])
        except ValueError:
            problems.append(Problem(Kind.LINE, where, "x0, y0, x1, y1 must be numbers"))
        else:
            entries.append((where, values["image"], (x0, y0, x1, y1)))
    return _collected(entries, problems)


def _from_coco(file: Path, content: bytes) -> tuple[Boxes, list[Problem]]:
    try:
        coco = _Coco.model_validate(json.loads(content))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "document"
        raise InvalidInput(f"{file} is not COCO with images and annotations: {place}: {first['msg']}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{file} is not JSON: {error}") from error
    names = {image.id: image.file_name for image in coco.images}
    entries, problems = [], []
    for number, annotation in enumerate(coco.annotations, start=1):
        where = f"{file.name} annotation {number}"
        if annotation.image_id in names:
            x, y, width, height = annotation.bbox
            entries.append((where, names[annotation.image_id], (x, y, x + width, y + height)))
        else:
            problems.append(Problem(Kind.LINE, where, f"image_id {annotation.image_id!r} is not among the images"))
    return _collected(entries, problems)


def _collected(
    entries: Iterable[tuple[str, str, tuple[float, float, float, float]]], problems: list[Problem]
) -> tuple[Boxes, list[Problem]]:
    """Boxes of entries (where, picture, edges), and what is wrong with the others."""
    boxes: Boxes = {}
    for where, name, edges in entries:
        try:
            box = widened(edges)
        except (ValueError, OverflowError):
            shown = ", ".join(f"{edge:g}" for edge in edges)
            problems.append(Problem(Kind.LINE, where, f"x0, y0, x1, y1 = {shown} is no box inside a picture"))
        else:
            boxes[name] = (*boxes.get(name, ()), box)
    return boxes, problems


def widened(edges: tuple[float, float, float, float]) -> PixelBox:
    """The smallest box of whole pixels around (x0, y0, x1, y1); a hundredth of a pixel is taken for a rounding error.

    Raises:
        ValueError, OverflowError: no box of a picture: negative, infinite, or without area.
    """
    x0, y0, x1, y1 = (round(edge, _HUNDREDTHS) for edge in edges)
    return PixelBox(x0=math.floor(x0), y0=math.floor(y0), x1=math.ceil(x1), y1=math.ceil(y1))
