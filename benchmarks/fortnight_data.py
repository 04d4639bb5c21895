"""The data of a simulated fortnight: half of the sets known from the start, the other half revealed night by night.

Everything here is a function of the data and of hashes of names, so a simulation that was stopped goes on with the same.
"""

import csv
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from model.evaluation_data import EvaluationItem
from model.folders import read_data
from model.headers import read_header
from model.manifest import OBJECTS_PREFIX, Manifest, ManifestRow
from model.mask_boxes import with_boxes
from model.splits import clustered
from schemas.geometry import PixelBox

NIGHTS: Final = 14
START_SETS: Final = ("comofod", "coverage", "cvip_d0", "cvip_d12", "grip", "micc", "coco", "ecssd")
"""Half of the development data's sets: copy-moves, and authentic pictures. What comes later is mixed manipulations."""

ANNOTATORS: Final = ("ana", "ben", "chloe", "dan")
CARELESS_SHARE: Final = 0.05
MOST_LOOSENED: Final = 0.25
AUTHENTIC_MEASURED: Final = 60
MOST_A_NIGHT: Final = 52
"""Pictures annotated a day, half of them manipulated."""

HELD_OUT_OF_START: Final = 30
"""Manipulated, and as many authentic, pictures of the first half that every night is judged by. More of them would drown those of
the second half, which are held out as they are annotated and are what the nights learn; the first nights wait for enough."""

_COLUMNS: Final = ("set", "image", "mask", "label", "kind", "scene", "boxes", "split")


@dataclass(frozen=True)
class Word:
    """What one moderator says of one picture.

    Attributes:
        boxes: as they were drawn, original pixels: loosened, and elsewhere where the moderator was careless; none where the
            picture is called authentic.
        size_px: (width, height) of the upright picture.
    """

    image: Path
    scene: str
    annotator: str
    boxes: tuple[PixelBox, ...]
    size_px: tuple[int, int]
    careless: bool


@dataclass(frozen=True)
class Fortnight:
    """What happens when.

    Attributes:
        base: rows the first student is trained on, with the side of the split each is on.
        nights: what is said on each of the days.
        measured: pictures with true masks whose clusters never train, of both halves; the loop sees none of the later half's.
        later: images among `measured` that are of the later half.
    """

    root: Path
    base: tuple[tuple[ManifestRow, str], ...]
    nights: tuple[tuple[Word, ...], ...]
    measured: tuple[EvaluationItem, ...]
    later: frozenset[Path]


def fortnight(data: Path, start_sets: Sequence[str] = START_SETS) -> Fortnight:
    """Divide a labelled data set with true masks.

    Args:
        data: folder with `manifest.csv`.
        start_sets: sets known from the start.

    Raises:
        InvalidInput: the data cannot be read.
    """
    manifest = with_boxes(clustered(read_data(data)))
    start, validation = frozenset(start_sets), manifest.split("validation")
    apart = {id(row) for row in validation}
    known = [row for row in manifest.rows if row.set_name in start]
    held_out = _most([row for row in known if id(row) in apart], HELD_OUT_OF_START)
    base = tuple((row, "training") for row in known if id(row) not in apart) + tuple((row, "validation") for row in held_out)
    revealed = _balanced([row for row in manifest.rows if row.set_name not in start and id(row) not in apart])
    words = [_word(manifest.root, row) for row in revealed]
    nights = tuple(tuple(words[night::NIGHTS]) for night in range(NIGHTS))
    items = _measured(manifest, validation)
    later = frozenset(item.image for item in items if item.set_name not in start)
    return Fortnight(manifest.root, base, nights, tuple(items), later)


def write_base(plan: Fortnight, file: Path) -> None:
    """The first half as a manifest that names its pictures where they lie; nothing is copied."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, _COLUMNS)
        writer.writeheader()
        for row, side in plan.base:
            writer.writerow(
                {
                    "set": row.set_name,
                    "image": str((plan.root / row.image).resolve()),
                    "mask": str((plan.root / row.mask).resolve()) if row.mask else "",
                    "label": "tampered" if row.tampered else "authentic",
                    "kind": _kind(plan.root, row),
                    "scene": row.scene,
                    "boxes": json.dumps([box.as_tuple() for box in row.boxes]),
                    "split": side,
                }
            )


def _kind(root: Path, row: ManifestRow) -> str:
    if not row.objects:
        return row.kind
    return OBJECTS_PREFIX + ";".join(str((root / name).resolve()) for name in row.objects)


def _balanced(rows: Iterable[ManifestRow]) -> list[ManifestRow]:
    """Manipulated pictures, and as many authentic ones, in an order that hashes give."""
    ordered = _most(rows, NIGHTS * MOST_A_NIGHT // 2)
    fewer = min(sum(row.tampered for row in ordered), sum(not row.tampered for row in ordered))
    return _most(ordered, fewer)


def _most(rows: Iterable[ManifestRow], most: int) -> list[ManifestRow]:
    """So many of either kind, manipulated ones with boxes, in an order that hashes give."""
    ordered = sorted(rows, key=lambda row: _draw("order", row.image))
    tampered = [row for row in ordered if row.tampered and row.boxes][:most]
    authentic = [row for row in ordered if not row.tampered][:most]
    return sorted(tampered + authentic, key=lambda row: _draw("order", row.image))


def _word(root: Path, row: ManifestRow) -> Word:
    image = root / row.image
    width_px, height_px = read_header(image).original_px
    careless = row.tampered and _draw("careless", row.image) < CARELESS_SHARE
    margin = MOST_LOOSENED * _draw("margin", row.image)
    loose = tuple(box.loosened(margin, width_px, height_px) for box in row.boxes) if row.tampered else ()
    boxes = tuple(_elsewhere(box, width_px, height_px) for box in loose) if careless else loose
    annotator = ANNOTATORS[int(_draw("annotator", row.image) * len(ANNOTATORS))]
    return Word(image, row.scene, annotator, boxes, (width_px, height_px), careless)


def _elsewhere(box: PixelBox, width_px: int, height_px: int) -> PixelBox:
    """As large, in the corner that is furthest away."""
    x0 = 0 if box.x0 > width_px - box.x1 else width_px - box.width
    y0 = 0 if box.y0 > height_px - box.y1 else height_px - box.height
    return PixelBox.of(x0, y0, x0 + box.width, y0 + box.height)


def _measured(manifest: Manifest, validation: Sequence[ManifestRow]) -> list[EvaluationItem]:
    """All manipulated pictures and some authentic ones, in an order that hashes give."""
    ordered = sorted(validation, key=lambda row: _draw("measured", row.image))
    tampered = [row for row in ordered if row.tampered and row.mask]
    authentic = [row for row in ordered if not row.tampered][:AUTHENTIC_MEASURED]
    return [
        EvaluationItem(row.set_name, manifest.root / row.image, manifest.root / row.mask if row.mask else None, row.tampered)
        for row in tampered + authentic
    ]


def _draw(what: str, name: str) -> float:
    """0 to 1, always the same for the same words."""
    return int(hashlib.sha256(f"fortnight|{what}|{name}".encode()).hexdigest()[:12], 16) / 16**12
