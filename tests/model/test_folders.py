import json
import os
from pathlib import Path

import pytest
from PIL import Image

from model.folders import files_below, masks_by_stem, read_data, read_folder
from model.problems import Kind
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


def picture(path: Path, size: tuple[int, int] = (40, 30)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", size, 255).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "phones"
    for name in ("tampered/1.jpg", "tampered/sub/ü 2.jpg", "authentic/1.png", "authentic/sub/3.jpg"):
        picture(root / name)
    for name in ("masks/1.png", "masks/sub/ü 2.bmp", "masks/9.png", "tampered/.hidden.jpg", "masks/.cache/1.png"):
        picture(root / name)
    return root


def test_pictures_find_their_masks_and_labels(folder: Path) -> None:
    rows = read_data(folder).rows
    assert [(row.image, row.mask, row.tampered) for row in rows] == [
        ("tampered/1.jpg", "masks/1.png", True),
        ("tampered/sub/ü 2.jpg", "masks/sub/ü 2.bmp", True),
        ("authentic/1.png", None, False),
        ("authentic/sub/3.jpg", None, False),
    ]
    assert {row.set_name for row in rows} == {"phones"}
    assert rows[0].where == "tampered/1.jpg"


def test_pictures_named_alike_are_one_scene(folder: Path) -> None:
    first, second, original, other = read_data(folder).rows
    assert first.scene == original.scene == "phones:1"
    assert len({first.scene, second.scene, other.scene}) == 3


def test_the_name_of_the_data_changes_with_the_data(folder: Path) -> None:
    before = read_folder(folder).sha256
    assert read_folder(folder).sha256 == before
    (folder / "boxes.csv").write_text("image,x0,y0,x1,y1\n1.jpg,1,2,3,4\n")
    with_boxes = read_folder(folder).sha256
    picture(folder / "authentic" / "1.png", (50, 60))
    assert len({before, with_boxes, read_folder(folder).sha256}) == 3


def test_boxes_of_a_csv_file_join_their_pictures(folder: Path) -> None:
    (folder / "boxes.csv").write_text("image,x0,y0,x1,y1\n1.jpg,1,2,30,20\nsub/ü 2.jpg,0,0,4.5,4\ntampered/1.jpg,5,5,6,6\n")
    first, second, *authentic = read_data(folder).rows
    assert first.boxes == (PixelBox.of(1, 2, 30, 20), PixelBox.of(5, 5, 6, 6))
    assert second.boxes == (PixelBox.of(0, 0, 5, 4),)
    assert all(row.boxes == () for row in authentic)


def test_boxes_of_a_coco_file_join_their_pictures(folder: Path) -> None:
    coco = {
        "images": [{"id": 7, "file_name": "1.jpg", "width": 40}, {"id": "b", "file_name": "tampered/sub/ü 2.jpg"}],
        "annotations": [{"image_id": 7, "bbox": [1, 2, 9.001, 8]}, {"image_id": "b", "bbox": [0.5, 0.999, 10, 10.001]}],
    }
    (folder / "boxes.json").write_text(json.dumps(coco), encoding="utf-8-sig")
    first, second, *_ = read_data(folder).rows
    assert (first.boxes, second.boxes) == ((PixelBox.of(1, 2, 10, 10),), (PixelBox.of(0, 1, 11, 11),))


def test_boxes_replace_the_folder_of_masks(tmp_path: Path) -> None:
    picture(tmp_path / "tampered" / "1.jpg")
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\n1.jpg,1,2,30,20\n")
    (row,) = read_data(tmp_path).rows
    assert (row.mask, row.boxes) == (None, (PixelBox.of(1, 2, 30, 20),))


def test_a_manifest_goes_before_folders(folder: Path) -> None:
    (folder / "manifest.csv").write_text("set,image,mask,label\ns,authentic/1.png,,authentic\n")
    assert [row.set_name for row in read_data(folder).rows] == ["s"]
    assert [row.set_name for row in read_data(folder / "manifest.csv").rows] == ["s"]


@pytest.mark.parametrize(("name", "word"), [("", "holds neither manifest.csv nor a folder tampered"), ("gone", "does not exist")])
def test_anything_else_explains_both_layouts(tmp_path: Path, name: str, word: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        read_data(tmp_path / name)
    message = caught.value.message
    assert word in message
    assert "set,image,mask,label,boxes" in message
    assert "image,x0,y0,x1,y1" in message


@pytest.mark.parametrize(
    ("line", "kind", "word"),
    [
        ("gone.jpg,1,2,3,4", Kind.FILE, "no picture tampered/gone.jpg"),
        ("../authentic/1.png,1,2,3,4", Kind.FILE, "no picture"),
        ("1.jpg,a,2,3,4", Kind.LINE, "must be numbers"),
        ("1.jpg,1,2,1,4", Kind.LINE, "1, 2, 1, 4 is no box"),
        ("1.jpg,-1,2,3,4", Kind.LINE, "is no box"),
        ("1.jpg,nan,2,3,4", Kind.LINE, "is no box"),
        ("1.jpg,1,2,inf,4", Kind.LINE, "is no box"),
        ("1.jpg,1,2,3,4,5", Kind.LINE, "more fields"),
    ],
)
def test_wrong_boxes_are_told_and_refused(folder: Path, line: str, kind: Kind, word: str) -> None:
    (folder / "boxes.csv").write_text(f"image,x0,y0,x1,y1\n1.jpg,1,2,3,4\n{line}\n")
    (problem,) = read_data(folder, strict=False).problems
    assert problem.kind is kind
    assert word in problem.what
    with pytest.raises(InvalidInput, match="1 problem:"):
        read_data(folder)


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[]", "document"),
        ('{"images": []}', "annotations: Field required"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3]}]}', r"annotations\.0\.bbox"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, NaN]}]}', "finite"),
        ('{"images": [], "annotations": [{"image_id": 1, "bbox": [1, 2, 3, 4]}]}', "image_id 1 is not among the images"),
        (
            '{"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": [{"image_id": 1, "bbox": [1e308, 2, 1e308, 4]}]}',
            "inf, 6 is no box",
        ),
    ],
)
def test_a_wrong_coco_file_is_refused(folder: Path, text: str, word: str) -> None:
    (folder / "boxes.json").write_text(text)
    with pytest.raises(InvalidInput, match=word):
        read_data(folder)


def test_two_files_of_boxes_are_refused(folder: Path) -> None:
    (folder / "boxes.csv").write_text("image,x0,y0,x1,y1\n1.jpg,1,2,3,4\n")
    (folder / "boxes.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(InvalidInput, match="leave one of them"):
        read_data(folder)


def test_two_masks_for_one_picture_are_told(folder: Path) -> None:
    picture(folder / "masks" / "1.bmp")
    (problem,) = read_data(folder, strict=False).problems
    assert (problem.kind, problem.where) == (Kind.MASK, "tampered/1.jpg")


def test_a_name_that_is_not_utf8_is_told(folder: Path) -> None:
    picture(folder / "tampered" / "good.png")
    os.rename(os.fsencode(folder / "tampered" / "good.png"), os.fsencode(folder / "tampered") + b"/bad\xff.png")
    manifest = read_data(folder, strict=False)
    (problem,) = manifest.problems
    assert "rename it" in problem.what
    assert problem.where.isascii()
    assert len(manifest.rows) == 4


@pytest.mark.parametrize("empty", ["tampered", "masks"])
def test_an_empty_folder_is_refused(tmp_path: Path, empty: str) -> None:
    picture(tmp_path / "authentic" / "1.jpg")
    (tmp_path / empty).mkdir()
    with pytest.raises(InvalidInput, match=f"{empty} holds no files"):
        read_data(tmp_path)


def test_files_are_sorted_and_hidden_ones_passed_over(folder: Path) -> None:
    assert [path.name for path in files_below(folder / "tampered")] == ["1.jpg", "ü 2.jpg"]
    assert set(masks_by_stem(folder / "masks")) == {Path("1"), Path("sub/ü 2"), Path("9")}
    with pytest.raises(InvalidInput, match="is not a folder"):
        files_below(folder / "gone")
