import hashlib
from pathlib import Path

import pytest
from PIL import Image

from model.manifest import Manifest, count_by_set, is_validation, read_manifest
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox

HEADER = "set,image,mask,label,kind,scene,boxes,width,height\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.jpg", "b c.jpg", "m.png", "o.png"):
        Image.new("L", (40, 30)).save(tmp_path / name)
    return tmp_path


def write(folder: Path, text: str) -> Path:
    path = folder / "manifest.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_full_row_is_read(folder: Path) -> None:
    write(
        folder,
        HEADER
        + 's,a.jpg,m.png,tampered,splice,x:1,"[[1, 2, 40, 30]]",40,30\ns,b c.jpg,,authentic,objects:o.png;m.png,x:2,[],40,30\n',
    )
    first, second = read_manifest(folder).rows
    assert (first.tampered, first.mask, first.boxes, first.size_px) == (True, "m.png", (PixelBox.of(1, 2, 40, 30),), (40, 30))
    assert (second.tampered, second.mask, second.objects, second.image) == (False, None, ("o.png", "m.png"), "b c.jpg")


def test_four_columns_are_enough(folder: Path) -> None:
    path = write(folder, "\ufeffset,image,mask,label\ns,a.jpg,m.png,tampered\n")
    (row,) = read_manifest(path).rows
    assert (row.scene, row.boxes, row.size_px) == ("s:a.jpg", (), None)


def test_the_manifest_is_named_by_its_hash(folder: Path) -> None:
    path = write(folder, "set,image,mask,label\ns,a.jpg,,authentic\n")
    assert read_manifest(path).sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_split_follows_the_scene() -> None:
    by_hand = {name: int(hashlib.sha256(name.encode()).hexdigest()[:8], 16) % 5 == 0 for name in map(str, range(50))}
    assert {name: is_validation(name) for name in by_hand} == by_hand
    assert 0 < sum(by_hand.values()) < 25


def test_the_sides_share_no_scene_and_lose_no_row(drawn: Manifest) -> None:
    training, validation = drawn.split("training"), drawn.split("validation")
    assert not {row.scene for row in training} & {row.scene for row in validation}
    assert len(training) + len(validation) == len(drawn.split("all")) == 20
    assert len(validation) == 8


def test_pictures_are_counted_by_set(drawn: Manifest) -> None:
    counts = count_by_set(drawn.rows)
    assert list(counts) == ["discs", "plates"]
    assert sum(count["tampered"] for count in counts.values()) == 10


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("s,,m.png,tampered,,x,[],40,30", "no image"),
        ("s,a.jpg,,fake,,x,[],40,30", "label 'fake'"),
        ("s,gone.jpg,,authentic,,x,[],40,30", "gone.jpg is not a file"),
        ("s,a.jpg,gone.png,tampered,,x,[],40,30", "gone.png is not a file"),
        ("s,a.jpg,,authentic,objects:gone.png,x,[],40,30", "gone.png is not a file"),
        ('s,a.jpg,m.png,tampered,,x,"[[1,2,41,30]]",40,30', "outside the picture of 40x30"),
        ('s,a.jpg,m.png,tampered,,x,"[[5,2,5,30]]",40,30', "no area"),
        ('s,a.jpg,m.png,tampered,,x,"[[1,2,3]]",40,30', "JSON list"),
        ("s,a.jpg,m.png,tampered,,x,box,40,30", "Expecting value"),
        ("s,a.jpg,m.png,tampered,,x,[],wide,30", "wide"),
    ],
)
def test_a_wrong_row_is_named_by_line(folder: Path, row: str, word: str) -> None:
    write(folder, HEADER + "s,a.jpg,,authentic,,ok,[],40,30\n" + row + "\n")
    with pytest.raises(InvalidInput) as caught:
        read_manifest(folder)
    assert "line 3" in caught.value.message
    assert word in caught.value.message


def test_many_problems_are_cut_short(folder: Path) -> None:
    write(folder, HEADER + "s,a.jpg,,fake,,x,[],40,30\n" * 14)
    with pytest.raises(InvalidInput, match="and 4 more"):
        read_manifest(folder)


@pytest.mark.parametrize(
    ("text", "word"), [("", "no rows"), (HEADER, "no rows"), ("set,image\ns,a.jpg\n", "lacks columns: mask, label")]
)
def test_a_manifest_without_content_is_refused(folder: Path, text: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        read_manifest(write(folder, text))


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"manifest\.csv cannot be read"):
        read_manifest(tmp_path)
