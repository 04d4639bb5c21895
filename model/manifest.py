"""Manifests: the CSV that lists pictures, masks, labels and coarse boxes, and the split by scene. No torch.

A manifest is its owner's own file: paths in it may be absolute or climb out of its folder, since they are only ever read, and
only where they name regular files.
"""

import hashlib
import json
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from model.csv_lines import read_lines
from model.problems import Kind, Problem, refuse
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox

Side = Literal["training", "validation"]
Split = Literal["training", "validation", "all"]

MANIFEST_NAME = "manifest.csv"
REQUIRED_COLUMNS = ("set", "image", "mask", "label")
LABELS = ("tampered", "authentic")
OBJECTS_PREFIX = "objects:"
VALIDATION_FOLD = 5


@dataclass(frozen=True)
class ManifestRow:
    """One picture.

    Args:
        set_name: the data set it comes from.
        image: path relative to the manifest's folder, or absolute.
        mask: path of the true mask, likewise, or None; not looked at for an authentic picture.
        tampered: the picture's label.
        kind: of manipulation, free text.
        scene: key of the source picture; rows of one scene stay on one side of every split.
        boxes: coarse boxes of the manipulated parts, original pixels.
        objects: paths of object masks of an authentic picture, material for synthetic manipulations.
        size_px: (width, height) where the manifest states them.
        pinned: the side its owner put it and its scene on, or None for the rule.
        weight: 0..1, how much it teaches beside what its pseudo-mask's quality allows.
        line: where it stands in the manifest, or 0 without one.
    """

    set_name: str
    image: str
    mask: str | None
    tampered: bool
    kind: str
    scene: str
    boxes: tuple[PixelBox, ...]
    objects: tuple[str, ...]
    size_px: tuple[int, int] | None
    pinned: Side | None = None
    line: int = 0
    weight: float = 1.0

    @property
    def where(self) -> str:
        """What its owner finds it by."""
        return f"line {self.line} ({self.image})" if self.line else self.image

    @property
    def files(self) -> tuple[str, ...]:
        """Every file it names."""
        return (self.image, *([self.mask] if self.mask else []), *self.objects)


@dataclass(frozen=True)
class Manifest:
    """All rows, the folder their paths are relative to, and the sha256 of the CSV, which names the data set in reports.

    `problems` are of lines that could not be understood and are not among the rows; `read_manifest` refuses them unless asked
    not to.
    """

    root: Path
    rows: tuple[ManifestRow, ...]
    sha256: str
    problems: tuple[Problem, ...] = ()

    def split(self, split: Split) -> tuple[ManifestRow, ...]:
        """Rows on one side: the one a row is pinned to, else the one its scene is pinned to, else the rule's.

        Where rows pin one scene to both sides, its other rows train.
        """
        if split == "all":
            return self.rows
        pins: dict[str, Side] = {}
        for row in self.rows:
            if row.pinned:
                pins[row.scene] = row.pinned if pins.get(row.scene, row.pinned) == row.pinned else "training"
        return tuple(row for row in self.rows if (row.pinned or pins.get(row.scene) or _by_rule(row.scene)) == split)


def is_validation(scene: str) -> bool:
    """Whether a scene belongs to validation: the first eight hex digits of its sha256 are a multiple of five."""
    return int(hashlib.sha256(scene.encode()).hexdigest()[:8], 16) % VALIDATION_FOLD == 0


def read_manifest(path: Path, *, strict: bool = True) -> Manifest:
    """Read a manifest.

    Columns `set,image,mask,label` are required; `kind,scene,boxes,width,height,split,weight` are used where present. A row
    without a scene is its own scene. Boxes are JSON lists [x0, y0, x1, y1], ends exclusive, original pixels. Split is
    `training`, `validation` or empty; weight 0..1, 1 where it is empty.

    Args:
        path: a CSV file, or a folder that holds `manifest.csv`.
        strict: refuse lines that cannot be understood, boxes outside a stated size, and missing files. Otherwise these
            lines are left out of the rows and told in `problems`, and files are not looked at: for callers that go on to
            `model.data_checks`, which tells all problems together.

    Raises:
        InvalidInput: no such file, not CSV, or a missing column; where strict, any of the problems above.
    """
    file = path / MANIFEST_NAME if path.is_dir() else path
    try:
        content = file.read_bytes()
    except OSError as error:
        raise InvalidInput(f"manifest {file} cannot be read: {error}") from error
    lines, problems = read_lines(file, content, REQUIRED_COLUMNS)
    rows = []
    for number, line in lines:
        try:
            rows.append(_parse(line, number))
        except ValueError as error:
            problems.append(Problem(Kind.LINE, f"line {number}", str(error)))
    manifest = Manifest(file.parent, tuple(rows), hashlib.sha256(content).hexdigest(), tuple(problems))
    if strict:
        refuse([*problems, *(problem for row in rows for problem in _stated_problems(row, file.parent))], f"manifest {file}")
    return manifest


def count_by_set(rows: Iterable[ManifestRow]) -> dict[str, dict[str, int]]:
    """Pictures by set and label, for reports and cards."""
    counts = Counter((row.set_name, row.tampered) for row in rows)
    names = sorted({name for name, _ in counts})
    return {name: {"tampered": counts[name, True], "authentic": counts[name, False]} for name in names}


def missing_files(row: ManifestRow, root: Path) -> list[Problem]:
    """Files the row names that are not there."""
    missing = [name for name in row.files if not os.path.isfile(root / name)]  # Path.is_file raises for names too long
    return [Problem(Kind.FILE, row.where, f"{name} is not a file in {root}") for name in missing]


def boxes_outside(row: ManifestRow, size_px: tuple[int, int]) -> list[Problem]:
    """Boxes of the row that do not fit into a picture of this (width, height)."""
    what = f"lies outside the picture of {size_px[0]}x{size_px[1]} pixels"
    return [Problem(Kind.BOX, row.where, f"box {list(box.as_tuple())} {what}") for box in row.boxes if not box.fits(*size_px)]


def _stated_problems(row: ManifestRow, root: Path) -> list[Problem]:
    """What can be told without opening a picture."""
    return missing_files(row, root) + (boxes_outside(row, row.size_px) if row.size_px else [])


def _by_rule(scene: str) -> Side:
    return "validation" if is_validation(scene) else "training"


def _parse(values: Mapping[str, str], number: int) -> ManifestRow:
    """One CSV line as a row.

    Raises:
        ValueError: with a message for the person who wrote the line.
    """
    if not values["image"]:
        raise ValueError("no image")
    if values["label"] not in LABELS:
        raise ValueError(f"label {values['label'][:60]!r} is neither {' nor '.join(LABELS)}")
    kind = values.get("kind", "")
    listed = kind.removeprefix(OBJECTS_PREFIX) if kind.startswith(OBJECTS_PREFIX) else ""
    return ManifestRow(
        set_name=values["set"],
        image=values["image"],
        mask=values["mask"] or None,
        tampered=values["label"] == "tampered",
        kind=kind,
        scene=values.get("scene") or f"{values['set']}:{values['image']}",
        boxes=_boxes(values.get("boxes", "")),
        objects=tuple(name for name in listed.split(";") if name),
        size_px=_size(values.get("width", ""), values.get("height", "")),
        pinned=_side(values.get("split", "")),
        line=number,
        weight=_weight(values.get("weight", "")),
    )


def _size(width: str, height: str) -> tuple[int, int] | None:
    """Raises ValueError unless both are whole numbers above zero; None where one is empty."""
    if not width or not height:
        return None
    if not (width.isdecimal() and height.isdecimal() and max(len(width), len(height)) < 10 and int(width) and int(height)):
        raise ValueError(f"width and height must be whole numbers above zero, not {width[:60]!r} and {height[:60]!r}")
    return int(width), int(height)


def _side(text: str) -> Side | None:
    """Raises ValueError for anything but a side or nothing."""
    match text:
        case "training" | "validation":
            return text
        case "":
            return None
    raise ValueError(f"split {text[:60]!r} is neither training nor validation, nor empty")


def _weight(text: str) -> float:
    """Raises ValueError unless it is a number from 0 to 1, or empty."""
    try:
        weight = float(text or 1)
    except ValueError:
        weight = math.nan
    if not 0 <= weight <= 1:
        raise ValueError(f"weight {text[:60]!r} is no number from 0 to 1")
    return weight


def _boxes(text: str) -> tuple[PixelBox, ...]:
    """Parse the JSON list of boxes.

    Raises:
        ValueError: not a list of four whole numbers each, or without area.
    """
    wanted = f"boxes must be a JSON list of [x0, y0, x1, y1] in whole pixels, not {text[:60]!r}"
    try:
        items = json.loads(text or "[]")
    except (ValueError, RecursionError) as error:
        raise ValueError(wanted) from error
    if not isinstance(items, list) or not all(isinstance(item, list) and len(item) == 4 for item in items):
        raise ValueError(wanted)
    try:
        return tuple(PixelBox.of(*item) for item in items)
    except ValidationError as error:
        raise ValueError(f"boxes {text[:60]!r}: {error.errors()[0]['msg']}") from error
