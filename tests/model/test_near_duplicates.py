from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model import near_duplicates
from model.manifest import ManifestRow
from model.near_duplicates import fingerprint, fingerprints, near_blocks, seen_before


def row(name: str) -> ManifestRow:
    return ManifestRow("s", name, None, False, "", name, (), (), None)


def photo(seed: int) -> Image.Image:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((320, 240), Image.Resampling.BICUBIC)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photo(1).save(tmp_path / "one.png")
    changed = photo(1)
    ImageDraw.Draw(changed).rectangle((100, 100, 140, 130), fill=(255, 0, 0))
    changed.resize((500, 375)).save(tmp_path / "one-changed.jpg", quality=60)
    photo(2).save(tmp_path / "two.png")
    Image.new("RGB", (50, 50), "grey").save(tmp_path / "flat.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def test_a_manipulated_resized_compressed_version_is_recognised(folder: Path) -> None:
    validation = [row("one-changed.jpg"), row("two.png"), row("flat.png"), row("broken.png")]
    assert seen_before(validation, [row("one.png"), row("flat.png"), row("broken.png")], folder) == [True, False, False, False]


def test_without_training_pictures_nothing_was_seen(folder: Path) -> None:
    assert seen_before([row("one.png")], [], folder) == [False]
    assert seen_before([], [row("one.png")], folder) == []


def test_a_fingerprint_has_length_one(folder: Path) -> None:
    assert np.linalg.norm(fingerprint(folder / "two.png")) == pytest.approx(1, abs=1e-5)


def test_a_turned_copy_is_recognised_by_its_orientation(folder: Path) -> None:
    orientation = Image.Exif()
    orientation[0x0112] = 6
    photo(1).transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=orientation)
    assert float(fingerprint(folder / "turned.jpg") @ fingerprint(folder / "one.png")) > 0.99


def test_names_that_no_file_can_have_resemble_nothing(folder: Path) -> None:
    assert not fingerprints([folder / "a\0b.png", folder / ("x" * 5000), folder / "gone.png"]).any()


@pytest.mark.parametrize("block", [1, 2, 3, 100])
def test_blocks_cover_every_pair_once(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    rng = np.random.default_rng(0)
    ours, theirs = (rng.standard_normal((count, 256)).astype(np.float32) for count in (5, 7))
    counted = np.zeros((5, 7), dtype=int)
    for rows, columns, alike in near_blocks(ours, theirs, 0.5):
        np.testing.assert_array_equal(alike, (ours @ theirs.T >= 0.5)[rows, columns])
        counted[rows, columns] += 1
    assert (counted == 1).all()


@pytest.mark.parametrize("block", [1, 3, 100])
def test_within_one_set_every_pair_is_compared_in_one_direction_at_least(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(near_duplicates, "_BLOCK", block)
    prints = np.eye(7, 256, dtype=np.float32)
    counted = np.zeros((7, 7), dtype=int)
    for rows, columns, _ in near_blocks(prints, prints):
        counted[rows, columns] += 1
    assert ((counted + counted.T) >= 1).all()
    assert counted.max() == 1
