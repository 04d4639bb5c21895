from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from model import near_duplicates, splits
from model.manifest import Manifest, ManifestRow, Side, is_validation
from model.near_duplicates import seen_before
from model.splits import clustered


def photo(seed: int) -> Image.Image:
    coarse = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return coarse.resize((160, 120), Image.Resampling.BICUBIC)


def row(image: str, scene: str, pinned: Side | None = None) -> ManifestRow:
    return ManifestRow("s", image, None, False, "", scene, (), (), None, pinned)


def side_of(scene: str) -> Side:
    return "validation" if is_validation(scene) else "training"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed in range(1, 5):
        photo(seed).save(tmp_path / f"{seed}.png")
    changed = photo(1)
    ImageDraw.Draw(changed).rectangle((20, 20, 40, 35), fill="red")
    changed.resize((200, 150)).save(tmp_path / "1-changed.jpg", quality=60)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    Image.new("L", (30, 30), 80).save(tmp_path / "flat.png")
    return tmp_path


def test_look_alikes_take_the_smallest_scene_name_and_others_keep_theirs(folder: Path) -> None:
    rows = (row("1.png", "z"), row("1-changed.jpg", "b"), row("2.png", "c"), row("broken.png", "d"), row("flat.png", "e"))
    assert [found.scene for found in clustered(Manifest(folder, rows, "")).rows] == ["b", "b", "c", "d", "e"]


def test_scenes_join_through_a_chain(folder: Path) -> None:
    """2 and 1 are one scene by name, 1 and its changed version look alike, which shares a scene with 3."""
    rows = (row("2.png", "m"), row("1.png", "m"), row("1-changed.jpg", "k"), row("3.png", "k"), row("4.png", "a"))
    assert [found.scene for found in clustered(Manifest(folder, rows, "")).rows] == ["k", "k", "k", "k", "a"]


def test_the_order_of_rows_does_not_matter_and_a_second_time_changes_nothing(folder: Path) -> None:
    rows = tuple(row(name, f"scene {name}") for name in ("1.png", "2.png", "1-changed.jpg", "3.png", "4.png"))
    found = clustered(Manifest(folder, rows, "hash"))
    turned = clustered(Manifest(folder, rows[::-1], "hash"))
    assert turned.rows == found.rows[::-1]
    assert clustered(found) == found
    assert found.sha256 == "hash"


def test_no_look_alike_is_left_on_the_other_side(folder: Path) -> None:
    training = next(name for name in map(str, range(99)) if not is_validation(name))
    validation = next(name for name in map(str, range(99)) if is_validation(name))
    before = Manifest(folder, (row("1.png", training), row("1-changed.jpg", validation), row("2.png", validation)), "")
    assert seen_before(before.split("validation"), before.split("training"), folder) == [True, False]
    after = clustered(before)
    assert not any(seen_before(after.split("validation"), after.split("training"), folder))
    assert len({side_of(found.scene) for found in after.rows[:2]}) == 1


def test_blocks_give_what_the_whole_matrix_gives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connected parts by an independent way: the transitive closure of the matrix of near-duplicates."""
    rng = np.random.default_rng(3)
    prints = np.repeat(rng.standard_normal((12, 256)), 3, axis=0) + 0.25 * rng.standard_normal((36, 256))
    prints = (prints / np.linalg.norm(prints, axis=1, keepdims=True)).astype(np.float32)
    rows = tuple(row(f"{index:02}", f"scene {index:02}") for index in range(36))
    close = prints @ prints.T >= 0.94
    for _ in range(6):
        close = (close.astype(int) @ close.astype(int)) > 0
    expected = [f"scene {int(np.flatnonzero(found)[0]):02}" for found in close]
    assert 12 <= len(set(expected)) < 36

    def made(paths: list[Path], progress: object) -> NDArray[np.float32]:
        del progress
        return prints[[int(path.name) for path in paths]]

    monkeypatch.setattr(splits, "fingerprints", made)
    monkeypatch.setattr(near_duplicates, "_BLOCK", 5)
    assert [found.scene for found in clustered(Manifest(tmp_path, rows, ""), 0.94).rows] == expected


def test_progress_counts_pictures(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    clustered(
        Manifest(folder, (row("1.png", "a"), row("2.png", "b")), ""), progress=lambda done, count: told.append((done, count))
    )
    assert told == [(1, 2), (2, 2)]


def test_a_manifest_without_rows_stays_empty(tmp_path: Path) -> None:
    assert clustered(Manifest(tmp_path, (), "")).rows == ()


def test_a_pinned_row_takes_its_scene_along() -> None:
    scene = next(name for name in map(str, range(99)) if not is_validation(name))
    rows = (row("a", scene), row("b", scene, "validation"), row("c", f"{scene}+"))
    manifest = Manifest(Path(), rows, "")
    assert {"a", "b"} <= {found.image for found in manifest.split("validation")}
    assert len(manifest.split("training")) + len(manifest.split("validation")) == 3


def test_a_scene_pinned_to_both_sides_trains_except_where_pinned() -> None:
    rows = (row("a", "s", "validation"), row("b", "s", "training"), row("c", "s"))
    for order in (rows, rows[::-1]):
        assert {found.image for found in Manifest(Path(), order, "").split("training")} == {"b", "c"}


def test_a_pin_reaches_the_whole_cluster(folder: Path) -> None:
    rows = (row("1.png", "a"), row("1-changed.jpg", "b"), row("2.png", "c"))
    for side in ("training", "validation"):
        pinned = (rows[0], replace(rows[1], pinned=side), rows[2])
        found = clustered(Manifest(folder, pinned, ""))
        assert {"1.png", "1-changed.jpg"} <= {one.image for one in found.split(side)}
