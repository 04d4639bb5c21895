import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scheduler.frozen_manifest import ManifestEntry
from scheduler.hold_out_files import HoldOut, TruthMask, laid_out
from schemas.errors import BlobMissing, BlobStoreUnavailable
from schemas.geometry import PixelBox
from tests.pictures import picture_bytes
from tests.scheduler.made import sha

BOX = PixelBox.of(20, 10, 60, 50)


def entry(name: str, tampered: bool = True) -> ManifestEntry:
    boxes = (BOX,) if tampered else ()
    return ManifestEntry(sha256=sha(name), tampered=tampered, boxes=boxes, origin="new", role="holdout", cluster="c")


def mask_bytes(width_px: int = 96, height_px: int = 72) -> bytes:
    mask = np.zeros((height_px, width_px), np.uint8)
    mask[10:50, 20:60] = 200
    buffer = io.BytesIO()
    Image.fromarray(mask).save(buffer, "PNG")
    return buffer.getvalue()


def test_pictures_and_masks_become_items_with_their_boxes(tmp_path: Path) -> None:
    entries = [entry("a"), entry("b", tampered=False)]
    found = laid_out(entries, tmp_path / "new", lambda _: picture_bytes(1), lambda _: TruthMask(mask_bytes(), "teacher"))
    assert [(each.entry, each.truth, each.item.tampered, each.item.boxes) for each in found.pictures] == [
        (entries[0], "teacher", True, (BOX,)),
        (entries[1], None, False, ()),
    ]
    assert found.pictures[0].item.image.read_bytes() == picture_bytes(1)
    assert found.pictures[0].item.mask is not None
    assert found.pictures[0].item.mask.read_bytes() == mask_bytes()
    assert found.failures == {}


def test_a_picture_that_cannot_be_had_fails_alone(tmp_path: Path) -> None:
    def read(wanted: ManifestEntry) -> bytes:
        if wanted.sha256 == sha("gone"):
            raise BlobMissing("no blob pictures/gone")
        return picture_bytes(1)

    def mask(wanted: ManifestEntry) -> TruthMask:
        return TruthMask(mask_bytes(50 if wanted.sha256 == sha("odd") else 96), "mask")

    found = laid_out([entry("gone"), entry("odd"), entry("good")], tmp_path, read, mask)
    assert [each.entry.sha256 for each in found.pictures] == [sha("good")]
    assert found.failures[sha("gone")] == "no blob pictures/gone"
    assert "50 x 72, but the picture is 96 x 72" in found.failures[sha("odd")]
    assert {path.name for path in tmp_path.iterdir()} == {sha("good"), f"{sha('good')}-mask.png"}


def test_a_store_that_is_away_ends_the_run(tmp_path: Path) -> None:
    def away(_: ManifestEntry) -> bytes:
        raise BlobStoreUnavailable("the S3 server does not answer")

    with pytest.raises(BlobStoreUnavailable):
        laid_out([entry("a")], tmp_path, away, lambda _: TruthMask(mask_bytes(), "mask"))
    assert laid_out([], tmp_path, away, lambda _: TruthMask(b"", "mask")) == HoldOut((), {})
