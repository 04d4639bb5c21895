"""A run's folder: what training reads, cut short and gone on with, and what is left out of it."""

import errno
import hashlib
import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from model.config import StudentConfig, TrainConfig
from model.data_checks import check_training_data
from model.distill import distill
from model.evaluation_data import true_mask
from model.manifest import read_manifest
from model.preprocess import PictureLimits
from model.publish import publish
from model.teacher import GivenMasks, GrabCutTeacher
from scheduler.frozen_manifest import ManifestEntry, Role
from scheduler.teaching import ReadPicture, Wanted, stored_pictures, teach
from scheduler.working_set import WorkingSet, materialise
from schemas.errors import BlobStoreUnavailable, DiskFull, InvalidInput
from schemas.geometry import PixelBox
from storage.blobs import BlobStore, picture_key
from storage.database import Database
from storage.pseudo_masks import StoredMask
from tests.pictures import picture_bytes

BOX = PixelBox.of(18, 8, 62, 52)
NO_SUCH = "0" * 64


def entry(blobs: BlobStore, seed: int, tampered: bool = True, role: Role = "train", **changes: Any) -> ManifestEntry:
    """A picture in the store, and its line in the frozen manifest."""
    data = picture_bytes(seed)
    sha256 = hashlib.sha256(data).hexdigest()
    blobs.put(picture_key(sha256), data)
    values = {"sha256": sha256, "tampered": tampered, "boxes": (BOX,) if tampered else (), "origin": "new", "role": role}
    return ManifestEntry(**values | {"cluster": f"c{seed}"} | changes)


def taught(database: Database, blobs: BlobStore, entries: Sequence[ManifestEntry]) -> dict[str, StoredMask]:
    wanted = [Wanted(each.sha256, each.boxes) for each in entries if each.tampered]
    return teach(database, blobs, GrabCutTeacher(), wanted, lambda *_: None, lambda: False).masks


def made(
    entries: Sequence[ManifestEntry], blobs: BlobStore, masks: dict[str, StoredMask], folder: Path, **changes: Any
) -> WorkingSet:
    read: ReadPicture = stored_pictures(blobs, PictureLimits())
    working = materialise(entries, blobs, masks, folder, **{"read_picture": read} | changes)
    assert working is not None
    return working


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_training_reads_what_was_frozen(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    entries = [
        entry(blobs, 1, weight=0.5),
        entry(blobs, 2, origin="base", cluster="shared"),
        entry(blobs, 3, tampered=False, weight=0.25),
        entry(blobs, 4, role="tune"),
        entry(blobs, 5, tampered=False, role="tune"),
        entry(blobs, 6, role="holdout"),
    ]
    masks = taught(database, blobs, entries)
    working = made(entries, blobs, masks, tmp_path / "run")
    assert working.dropped == {}
    manifest = read_manifest(working.manifest)
    check_training_data(manifest)
    rows = {row.image.rpartition("/")[2]: row for row in manifest.rows}
    assert set(rows) == {each.sha256 for each in entries[:5]}
    for each in entries[:5]:
        row = rows[each.sha256]
        assert (row.tampered, row.boxes, row.scene) == (each.tampered, each.boxes, each.cluster)
        assert (row.set_name, row.weight, row.size_px) == (each.origin, each.weight, (96, 72))
        assert row.pinned == {"train": "training", "tune": "validation"}[each.role]
        assert (manifest.root / row.image).read_bytes() == blobs.get(picture_key(each.sha256), 10**6)
    given = GivenMasks("somebody", working.masks)
    for each in entries[:2]:
        assert given.file_of(rows[each.sha256]).read_bytes() == blobs.get(masks[each.sha256].key, 10**6)
    tuning = rows[entries[3].sha256]
    assert tuning.mask is not None
    truth = true_mask((manifest.root / tuning.mask).read_bytes(), 96, 72)
    assert truth[30, 40] and not truth[70, 90]
    assert [rows[each.sha256].mask for each in (*entries[:3], entries[4])] == [None] * 4


def test_what_cannot_be_had_is_left_out_by_name(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    good, gone, changed, unmasked, lost, damaged = (entry(blobs, seed) for seed in range(6))
    masks = taught(database, blobs, [good, gone, changed, lost, damaged])
    blobs.delete(picture_key(gone.sha256))
    blobs.delete(picture_key(changed.sha256))
    blobs.put(picture_key(changed.sha256), b"other bytes")
    blobs.delete(masks[lost.sha256].key)
    blobs.delete(masks[damaged.sha256].key)
    blobs.put(masks[damaged.sha256].key, b"other bytes")
    cut_off = picture_bytes(9)[:900]
    sha256 = hashlib.sha256(cut_off).hexdigest()
    blobs.put(picture_key(sha256), cut_off)
    broken = ManifestEntry(sha256=sha256, tampered=False, origin="new", role="train", cluster="c")
    working = made([good, gone, changed, unmasked, lost, damaged, broken], blobs, masks, tmp_path / "run")
    assert [row.image for row in read_manifest(working.manifest).rows] == [f"pictures/{good.sha256}"]
    words = {
        gone.sha256: "no blob", changed.sha256: "the bytes stored as", unmasked.sha256: "it has no pseudo-mask",
        lost.sha256: "no blob", damaged.sha256: "is damaged; the next run makes it again", sha256: "truncated",
    }  # fmt: skip
    assert set(working.dropped) == set(words)
    assert all(word in working.dropped[sha256] for sha256, word in words.items())
    assert not blobs.exists(masks[damaged.sha256].key)


def test_a_run_that_was_stopped_goes_on_with_what_is_there(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    entries = [entry(blobs, seed, tampered=seed % 2 == 0) for seed in range(6)]
    masks = taught(database, blobs, entries)
    folder, asked = tmp_path / "run", iter([False] * 3 + [True])
    read = stored_pictures(blobs, PictureLimits())
    assert materialise(entries, blobs, masks, folder, read_picture=read, stop=lambda: next(asked)) is None
    assert len(list((folder / "pictures").iterdir())) == 3 and not (folder / "manifest.csv").exists()
    kept = sorted((folder / "pictures").iterdir())
    kept[0].write_bytes(b"torn")
    fetched: list[str] = []

    def reading(sha256: str) -> bytes:
        fetched.append(sha256)
        return read(sha256)

    made(entries, blobs, masks, folder, read_picture=reading)
    assert sorted(fetched) == sorted({each.sha256 for each in entries} - {path.name for path in kept[1:]})
    made(entries, blobs, masks, tmp_path / "at once")
    assert contents(folder) == contents(tmp_path / "at once")


def test_a_complete_folder_is_taken_as_it_is(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    """A run that is resumed after a picture was purged goes on with the data that it has begun with."""
    entries = [entry(blobs, 1), entry(blobs, 2, tampered=False), ManifestEntry(
        sha256=NO_SUCH, tampered=False, origin="new", role="train", cluster="c"
    )]  # fmt: skip
    masks = taught(database, blobs, entries)
    first = made(entries, blobs, masks, tmp_path / "run")
    before = contents(tmp_path / "run")
    for each in entries:
        blobs.delete(picture_key(each.sha256))
    assert made(entries[::-1], blobs, {}, tmp_path / "run") == first
    assert (contents(tmp_path / "run"), set(first.dropped)) == (before, {NO_SUCH})
    with pytest.raises(InvalidInput, match="holds the pictures of another run"):
        made(entries[:1], blobs, masks, tmp_path / "run")


def test_the_disk_is_not_filled(blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [entry(blobs, seed, tampered=False) for seed in range(3)]
    with pytest.raises(DiskFull, match="more than the 5,000 bytes a run may take"):
        made(entries, blobs, {}, tmp_path / "small", most_bytes=5000)
    assert sum(map(len, contents(tmp_path / "small").values())) <= 5000

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(DiskFull, match="no space left to write"):
            made(entries, blobs, {}, tmp_path / "full")
    assert contents(tmp_path / "full") == {}
    assert made(entries, blobs, {}, tmp_path / "full").dropped == {}


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blobs: Any = None
    (tmp_path / "file").write_bytes(b"")
    data = picture_bytes(1)
    wanted = ManifestEntry(sha256=hashlib.sha256(data).hexdigest(), tampered=False, origin="new", role="train", cluster="c")
    with pytest.raises(InvalidInput, match="cannot be written: Not a directory"):
        made([wanted], blobs, {}, tmp_path / "file" / "run", read_picture=lambda _: data)


def test_a_store_that_is_away_ends_it(tmp_path: Path) -> None:
    def away(_: str) -> bytes:
        raise BlobStoreUnavailable("away")

    blobs: Any = None
    wanted = ManifestEntry(sha256=NO_SUCH, tampered=False, origin="new", role="train", cluster="c")
    with pytest.raises(BlobStoreUnavailable):
        made([wanted], blobs, {}, tmp_path / "run", read_picture=away)


@pytest.mark.slow
def test_a_student_is_distilled_and_published_from_it(database: Database, blobs: BlobStore, tmp_path: Path) -> None:
    roles: list[Role] = ["train", "train", "tune"]
    entries = [entry(blobs, seed, tampered=seed % 2 == 0, role=roles[seed % 3]) for seed in range(18)]
    large = Image.fromarray(np.random.default_rng(1).integers(0, 255, (700, 1400, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    large.save(buffer, "JPEG")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    blobs.put(picture_key(sha256), buffer.getvalue())
    entries.append(ManifestEntry(sha256=sha256, tampered=True, boxes=(BOX,), origin="old", role="tune", cluster="large"))
    working = made(entries, blobs, taught(database, blobs, entries), tmp_path / "run" / "data")
    config = TrainConfig(
        name="tiny", student=StudentConfig(backbone="test_efficientnet", input_size=64, width=16, slots=4), steps=4,
        batch_size=2, warmup_steps=2, loader_workers=0, checkpoint_every_steps=2, evaluate_every_steps=2, validation_images=6,
        licence="made by a test",
    )  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        manifest = read_manifest(working.manifest)
        run = tmp_path / "run" / "training"
        distill(config, manifest, GivenMasks("grabcut-1024px", working.masks), run, lambda _: None)
        card = publish(run, manifest, tmp_path / "student", lambda *_: None)
    finally:
        torch.set_num_threads(threads)
    assert card.training["teacher"] == "grabcut-1024px"
    assert card.metrics["overall"]["n_tampered"] == sum(each.tampered for each in entries if each.role == "tune")
    assert not list((run / "pseudo-masks").glob("*"))
