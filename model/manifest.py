"""Manifests: the CSV that lists pictures, masks, labels and coarse boxes, and the split by scene. No torch."""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import InvalidInput
from schemas.geometry import PixelBox

Split = Literal["training", "validation", "all"]

REQUIRED_COLUMNS = ("set", "image", "mask", "label")
LABELS = ("tampered", "authentic")
OBJECTS_PREFIX = "objects:"
VALIDATION_FOLD = 5
PROBLEMS_SHOWN = 10


@dataclass(frozen=True)
class ManifestRow:
    """One picture.

    Args:
        set_name: the data set it comes from.
        image: path relative to the manifest's folder.
        mask: path of the true mask relative to that folder, or None.
        tampered: the picture's label.
        kind: of manipulation, free text.
        scene: key of the source picture; rows of one scene stay on one side of every split.
        boxes: coarse boxes of the manipulated parts, original pixels.
        objects: paths of object masks of an authentic picture, material for synthetic manipulations.
        size_px: (width, height) where the manifest states them.
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


@dataclass(frozen=True)
class Manifest:
    """All rows, the folder their paths are relative to, and the sha256 of the CSV, which names the data set in reports."""

    root: Path
    rows: tuple[ManifestRow, ...]
    sha256: str

    def split(self, split: Split) -> tuple[ManifestRow, ...]:
        """Rows on one side of the split by scene."""
        if split == "all":
            return self.rows
        return tuple(row for row in self.rows if is_validation(row.scene) is (split == "validation"))


def is_validation(scene: str) -> bool:
    """Whether a scene belongs to validation: the first eight hex digits of its sha256 are a multiple of five."""
    return int(hashlib.sha256(scene.encode()).hexdigest()[:8], 16) % VALIDATION_FOLD == 0


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check every row and every file it names.

    Columns `set,image,mask,label` are required; `kind,scene,boxes,width,height` are used where present. A row without a scene is
    its own scene. Boxes are JSON lists [x0, y0, x1, y1], ends exclusive, original pixels.

    Args:
        path: a CSV file, or a folder that holds `manifest.csv`.

    Raises:
        InvalidInput: missing file or column, wrong label, malformed box, box outside its picture, a file that is not there;
            the message lists the first problems by line.
    """
    file = path / "manifest.csv" if path.is_dir() else path
    try:
        content = file.read_bytes()
        lines = list(csv.DictReader(content.decode("utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"manifest {file} cannot be read: {error}") from error
    if not lines:
        raise InvalidInput(f"manifest {file} has no rows")
    missing = [name for name in REQUIRED_COLUMNS if name not in lines[0]]
    if missing:
        raise InvalidInput(f"manifest {file} lacks columns: {', '.join(missing)}")
    rows = _parse_all(lines, file)
    return Manifest(root=file.parent, rows=rows, sha256=hashlib.sha256(content).hexdigest())


def count_by_set(rows: Iterable[ManifestRow]) -> dict[str, dict[str, int]]:
    """Pictures by set and label, for reports and cards."""
    counts = Counter((row.set_name, row.tampered) for row in rows)
    names = sorted({name for name, _ in counts})
    return {name: {"tampered": counts[name, True], "authentic": counts[name, False]} for name in names}


def _parse_all(lines: list[dict[str, str]], file: Path) -> tuple[ManifestRow, ...]:
    rows, problems = [], []
    for number, line in enumerate(lines, start=2):
        try:
            row = _parse(line)
            _check_files(row, file.parent)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
        else:
            rows.append(row)
    if problems:
        more = f" … and {len(problems) - PROBLEMS_SHOWN} more" if len(problems) > PROBLEMS_SHOWN else ""
        raise InvalidInput(f"manifest {file}: " + "; ".join(problems[:PROBLEMS_SHOWN]) + more)
    return tuple(rows)


def _parse(line: Mapping[str, str | None]) -> ManifestRow:
    """One CSV line as a row.

    Raises:
        ValueError: with a message for the person who wrote the line (pydantic's errors are ValueErrors too).
    """
    values = {key: (value or "").strip() for key, value in line.items() if isinstance(key, str) and not isinstance(value, list)}
    if not values["image"]:
        raise ValueError("no image")
    if values["label"] not in LABELS:
        raise ValueError(f"label {values['label']!r} is neither {' nor '.join(LABELS)}")
    kind = values.get("kind", "")
    listed = kind.removeprefix(OBJECTS_PREFIX) if kind.startswith(OBJECTS_PREFIX) else ""
    objects = tuple(name for name in listed.split(";") if name)
    size_px = (int(values["width"]), int(values["height"])) if values.get("width") and values.get("height") else None
    return ManifestRow(
        set_name=values["set"],
        image=values["image"],
        mask=values["mask"] or None,
        tampered=values["label"] == "tampered",
        kind=kind,
        scene=values.get("scene") or f"{values['set']}:{values['image']}",
        boxes=_boxes(values.get("boxes", ""), size_px),
        objects=objects,
        size_px=size_px,
    )


def _boxes(text: str, size_px: tuple[int, int] | None) -> tuple[PixelBox, ...]:
    """Parse the JSON list of boxes.

    Raises:
        ValueError: not a list of four whole numbers each, without area, or outside the picture.
    """
    items = json.loads(text or "[]")
    if not isinstance(items, list) or not all(isinstance(item, list) and len(item) == 4 for item in items):
        raise ValueError(f"boxes must be a JSON list of [x0, y0, x1, y1], not {text[:60]!r}")
    boxes = tuple(PixelBox(x0=item[0], y0=item[1], x1=item[2], y1=item[3]) for item in items)
    for box in boxes:
        if size_px and not box.fits(*size_px):
            raise ValueError(f"box {list(box.as_tuple())} lies outside the picture of {size_px[0]}x{size_px[1]} pixels")
    return boxes


def _check_files(row: ManifestRow, root: Path) -> None:
    """Raise ValueError when a file the row names is missing."""
    for name in (row.image, *([row.mask] if row.mask else []), *row.objects):
        if not (root / name).is_file():
            raise ValueError(f"{name} is not a file in {root}")
