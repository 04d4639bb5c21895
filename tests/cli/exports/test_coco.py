import io
import json
import uuid
from datetime import UTC, datetime
from typing import Any

import numpy as np

from cli.exports import rle
from cli.exports.coco import coco_writer
from model import render
from schemas.states import Verdict
from storage.export_rows import ExportRow

MARKED = np.zeros((8, 8), np.uint8)
MARKED[2:6, 4:8] = 255


def row(cursor: int, mask_png: bytes, width: int = 80, height: int = 40) -> ExportRow:
    return ExportRow(
        cursor, f"{cursor}.jpg", None, "weibo", "none", 0.5, Verdict.FLAG, None, None, 0.25, 1.0, [], "m1", width, height, 1.5,
        datetime(2026, 11, 1, tzinfo=UTC), uuid.UUID(int=cursor), None, None, None, mask_png,
    )  # fmt: skip


def as_coco(*pages: list[ExportRow]) -> tuple[dict[str, Any], list[str]]:
    file = io.BytesIO()
    with coco_writer(file) as write:
        problems = [problem for page in pages for problem in write(page)]
    return json.loads(file.getvalue()), problems


def test_masks_come_at_the_pictures_own_size() -> None:
    marked = render.mask_png(MARKED)
    coco, problems = as_coco([row(1, marked), row(2, render.mask_png(np.zeros((8, 8), np.uint8)))], [row(3, marked, 7, 90)])

    assert problems == []
    assert [(image["id"], image["file_name"]) for image in coco["images"]] == [(1, "1.jpg"), (2, "2.jpg"), (3, "3.jpg")]
    assert (coco["images"][0]["source_profile"], coco["images"][0]["reused_from"]) == ("weibo", None)
    assert [each["image_id"] for each in coco["annotations"]] == [1, 3]
    full = np.asarray(render.full_size_mask(MARKED, 80, 40)) > 127
    first = coco["annotations"][0]
    assert first["segmentation"] == {"size": [40, 80], "counts": rle.compressed(rle.run_lengths(full))}
    assert first["area"] == full.sum()
    x0, y0, width, height = first["bbox"]
    assert full[y0 : y0 + height, x0 : x0 + width].sum() == full.sum()
    assert full[y0].any() and full[y0 + height - 1].any() and full[:, x0].any() and full[:, x0 + width - 1].any()
    assert coco["categories"][0]["id"] == first["category_id"]
    assert coco["annotations"][1]["segmentation"]["size"] == [90, 7]


def test_a_missing_or_damaged_mask_is_left_out_and_named() -> None:
    coco, problems = as_coco([row(1, b""), row(2, b"no picture"), row(3, render.mask_png(MARKED))])

    assert [image["id"] for image in coco["images"]] == [3]
    assert problems[0] == "1.jpg (cursor 1): its mask is not kept any more"
    assert problems[1].startswith("2.jpg (cursor 2): the stored mask is damaged")


def test_a_file_of_nothing_is_whole() -> None:
    coco, _ = as_coco()
    assert (coco["images"], coco["annotations"]) == ([], [])
