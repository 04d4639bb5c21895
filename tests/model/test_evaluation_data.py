"""Which pictures are evaluated: manifests and their splits, folders, samples, and masks that do not fit."""

import csv
import itertools
from pathlib import Path

import pytest

from model.evaluation_data import EvaluationItem, check_masks, folder_items, manifest_items, sample
from model.manifest import is_validation, read_manifest
from schemas.errors import InvalidInput
from tests.drawings import draw, draw_mask


def test_manifest_items_take_one_side_of_the_split(tmp_path: Path) -> None:
    scenes = [f"scene{index}" for index in range(12)]
    with (tmp_path / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["set", "image", "mask", "label", "scene"])
        for scene in scenes:
            draw(tmp_path / f"{scene}.png")
            draw_mask(tmp_path / f"{scene}_m.png")
            writer.writerow(["one", f"{scene}.png", f"{scene}_m.png", "tampered", scene])
    manifest = read_manifest(tmp_path / "manifest.csv")
    validation = [scene for scene in scenes if is_validation(scene)]
    assert 0 < len(validation) < 12

    chosen = manifest_items(manifest, "validation")

    assert [item.image.stem for item in chosen] == validation
    assert chosen[0] == EvaluationItem("one", tmp_path / f"{validation[0]}.png", tmp_path / f"{validation[0]}_m.png", True)
    assert len(manifest_items(manifest, "training")) + len(chosen) == len(manifest_items(manifest)) == 12


def test_an_empty_side_of_a_split_is_refused(tmp_path: Path) -> None:
    draw(tmp_path / "a.png")
    scene = next(str(number) for number in itertools.count() if not is_validation(str(number)))
    (tmp_path / "m.csv").write_text(f"set,image,mask,label,scene\ns,a.png,,authentic,{scene}\n", encoding="utf-8")

    with pytest.raises(InvalidInput, match="no validation pictures"):
        manifest_items(read_manifest(tmp_path / "m.csv"), "validation")


def test_folders_are_matched_by_relative_stem(tmp_path: Path) -> None:
    folder = tmp_path / "setname"
    draw(folder / "images" / "été 1.jpg")
    draw(folder / "images" / "deep" / "b.png")
    draw(folder / "images" / ".hidden" / "c.png")
    draw_mask(folder / "masks" / "été 1.png")
    draw_mask(folder / "masks" / "deep" / "b.tif")
    draw_mask(folder / "masks" / "unused.png")
    draw(folder / "authentic" / "d.png")

    items = folder_items(folder / "images", folder / "masks", folder / "authentic")

    assert {(item.image.name, item.mask.name if item.mask else None, item.tampered) for item in items} == {
        ("été 1.jpg", "été 1.png", True),
        ("b.png", "b.tif", True),
        ("d.png", None, False),
    }
    assert {item.set_name for item in items} == {"setname"}
    assert [item.set_name for item in folder_items(None, None, folder / "authentic")] == ["setname"]


def test_every_picture_without_exactly_one_mask_is_listed(tmp_path: Path) -> None:
    for name in ("none.png", "two.png", "one.png"):
        draw(tmp_path / "pictures" / name)
    for name in ("two.png", "two.gif", "one.png"):
        draw_mask(tmp_path / "masks" / name)

    with pytest.raises(InvalidInput) as caught:
        folder_items(tmp_path / "pictures", tmp_path / "masks", None)

    assert "2 pictures without exactly one mask" in caught.value.message
    assert "none.png: no mask with its stem" in caught.value.message
    assert "two.png: 2 masks with its stem" in caught.value.message


def test_folders_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    draw(tmp_path / "full" / "a.png")
    (tmp_path / "empty").mkdir()

    with pytest.raises(InvalidInput, match="belong together"):
        folder_items(tmp_path / "full", None, None)
    with pytest.raises(InvalidInput, match="nothing to evaluate"):
        folder_items(None, None, None)
    with pytest.raises(InvalidInput, match="is not a folder"):
        folder_items(None, None, tmp_path / "missing")
    with pytest.raises(InvalidInput, match="holds no files"):
        folder_items(None, None, tmp_path / "empty")


def test_a_sample_is_spread_over_the_list(tmp_path: Path) -> None:
    items = [EvaluationItem(f"set{index // 10}", tmp_path, None, False) for index in range(30)]

    assert [item.set_name for item in sample(items, 3)] == ["set0", "set1", "set2"]
    assert sample(items, None) == sample(items, 30) == sample(items, 99) == items


def test_masks_of_unreadable_pictures_are_not_blamed(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")

    check_masks([EvaluationItem("s", tmp_path / "a.png", draw_mask(tmp_path / "m.png"), True)])
