from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from model.manifest import ManifestRow
from model.near_duplicates import fingerprint, seen_before


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
