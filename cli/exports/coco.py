"""COCO annotations: the mask above 0.5 of each picture, at the picture's own size, as RLE."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import numpy as np

from cli.exports.rle import compressed, run_lengths
from cli.exports.text import Write, fields_of
from model import render
from schemas.errors import DecodeFailed
from schemas.tables import now
from storage.export_rows import ExportRow

_HALF_UINT8 = 127
_CATEGORY_ID = 1
_FACTS = (
    *("sha256", "source_profile", "profile", "score", "verdict", "model_version", "created_at", "job_id", "client_ref"),
    "reused_from",
)


@contextmanager
def coco_writer(file: BinaryIO) -> Iterator[Write]:
    """One object with `images` and `annotations`; both ids are the result's cursor.

    A picture without a pixel above 0.5 is an image without an annotation. One whose mask is not there, or damaged, is
    left out: it would look authentic. Annotations wait in a temporary file, because COCO puts all images first.
    """
    with tempfile.TemporaryFile(prefix="tamperwatch-coco-") as annotations:
        images_in, annotations_in = _Items(file), _Items(annotations)

        def write(rows: Sequence[ExportRow]) -> list[str]:
            problems = []
            for row in rows:
                try:
                    annotation = _annotation(row)
                except DecodeFailed as error:
                    problems.append(f"{row.image} (cursor {row.cursor}): {error.message}")
                    continue
                images_in.add(_image(row))
                if annotation is not None:
                    annotations_in.add(annotation)
            return problems

        file.write(_head().encode())
        yield write
        file.write(b'\n], "annotations": [')
        annotations.seek(0)
        shutil.copyfileobj(annotations, file)
        file.write(b"\n]}\n")


class _Items:
    """The items of a JSON array, written one by one."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._between = "\n"

    def add(self, item: dict[str, Any]) -> None:
        self._file.write((self._between + json.dumps(item, ensure_ascii=False)).encode())
        self._between = ",\n"


def _head() -> str:
    info = {"description": "Tamperwatch: where pictures were manipulated", "date_created": now().isoformat()}
    categories = [{"id": _CATEGORY_ID, "name": "manipulated", "supercategory": "manipulation"}]
    rest = f'"licenses": [], "categories": {json.dumps(categories)}, "images": ['
    return f'{{"info": {json.dumps(info)}, {rest}'


def _image(row: ExportRow) -> dict[str, Any]:
    facts = fields_of(row)
    size = {"width": row.width, "height": row.height}
    return {"id": row.cursor, "file_name": row.image, **size, **{name: facts[name] for name in _FACTS}}


def _annotation(row: ExportRow) -> dict[str, Any] | None:
    """The annotation of a picture, None if nothing in it is marked.

    Raises:
        DecodeFailed: the stored mask is damaged or was deleted.
    """
    if not row.mask_png:
        raise DecodeFailed("its mask is not kept any more")
    mask_orig = render.full_size_mask(render.read_mask_png(row.mask_png), row.width, row.height)
    marked = np.asarray(mask_orig) > _HALF_UINT8
    columns, lines = np.flatnonzero(marked.any(axis=0)), np.flatnonzero(marked.any(axis=1))
    if not len(columns):
        return None
    x0, y0 = int(columns[0]), int(lines[0])
    return {
        "id": row.cursor,
        "image_id": row.cursor,
        "category_id": _CATEGORY_ID,
        "segmentation": {"size": [row.height, row.width], "counts": compressed(run_lengths(marked))},
        "area": int(np.count_nonzero(marked)),
        "bbox": [x0, y0, int(columns[-1]) + 1 - x0, int(lines[-1]) + 1 - y0],
        "iscrowd": 0,
        "score": row.score,
    }
