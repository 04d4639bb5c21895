import csv
import hashlib
from pathlib import Path

import pytest
from PIL import Image

from model.manifest import Manifest, count_by_set, is_validation, read_manifest
from model.problems import Kind
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
        ("s,a.jpg,m.png,tampered,,x,box,40,30", "JSON list"),
        ('s,a.jpg,m.png,tampered,,x,"[[1,2.5,3,4]]",40,30', "integer"),
        ('s,a.jpg,m.png,tampered,,x,"[[1,2,3,1e999]]",40,30', "finite"),
        ('s,a.jpg,m.png,tampered,,x,"[[-1,2,3,4]]",40,30', "greater than or equal to 0"),
        ("s,a.jpg,m.png,tampered,,x," + 60_000 * "[" + ",40,30", "JSON list"),
        ("s,a.jpg,m.png,tampered,,x,[[1,2,40,30]],40,30", "quote fields that contain commas"),
        ("s,a.jpg,m.png,tampered,,x,[],wide,30", "wide"),
        ("s,a.jpg,m.png,tampered,,x,[],0,30", "above zero"),
        ("s,a.jpg,m.png,tampered,,x,[]," + 5000 * "9" + ",30", "above zero"),
        ("s," + 5000 * "a" + ",,authentic,,x,[],40,30", "is not a file"),
        ("s,.,,authentic,,x,[],40,30", "is not a file"),
        ("s,a.jpg", "label ''"),
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


def test_all_kinds_of_problems_are_told_together(folder: Path) -> None:
    write(folder, HEADER + "s,a.jpg,,fake,,x,[],,\n" + 's,a.jpg,gone.png,tampered,,x,"[[1,2,41,30]]",40,30\n' + "s,,,authentic\n")
    with pytest.raises(InvalidInput) as caught:
        read_manifest(folder)
    message = caught.value.message
    assert "4 problems" in message
    assert "lines that cannot be understood (2)" in message
    assert "missing files (1)" in message
    assert "boxes outside their picture (1)" in message
    assert message.index("line 2") < message.index("line 4") < message.index("line 3")


def test_leniently_read_problems_are_kept_and_files_not_looked_at(folder: Path) -> None:
    write(folder, HEADER + "s,a.jpg,,fake,,x,[],,\ns,gone.jpg,,authentic,,y,[],,\n")
    manifest = read_manifest(folder, strict=False)
    assert [row.image for row in manifest.rows] == ["gone.jpg"]
    assert [(problem.kind, problem.where) for problem in manifest.problems] == [(Kind.LINE, "line 2")]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_and_empty_lines_do_not_matter(folder: Path, ends: str) -> None:
    lines = ["\ufeffset, image ,mask,label,", "", "s, a.jpg ,,authentic,", "", "s,b c.jpg,m.png,tampered,", ""]
    path = folder / "manifest.csv"
    path.write_bytes(ends.join(lines).encode())
    rows = read_manifest(path).rows
    assert [(row.image, row.line) for row in rows] == [("a.jpg", 3), ("b c.jpg", 5)]
    assert rows[0].where == "line 3 (a.jpg)"


@pytest.mark.parametrize(
    "name", ["größe 漢字.png", 'a"quote".png', "a,comma.png", "two\nlines.png", "a\u2028b\x85c.png", "=cmd|x.png"]
)
def test_any_name_that_a_file_may_have_is_read(folder: Path, name: str) -> None:
    Image.new("L", (40, 30)).save(folder / name)
    path = folder / "manifest.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["set", "image", "mask", "label"], ["s", name, "", "authentic"]])
    (row,) = read_manifest(path).rows
    assert row.image == name


def test_paths_may_be_absolute_or_climb_out_of_the_folder(folder: Path) -> None:
    (folder / "inner").mkdir()
    path = folder / "inner" / "manifest.csv"
    path.write_text(f"set,image,mask,label\ns,../a.jpg,,authentic\ns,{folder / 'b c.jpg'},,authentic\n")
    assert len(read_manifest(path).rows) == 2


@pytest.mark.parametrize(("text", "side"), [("training", "training"), ("validation", "validation"), ("", None)])
def test_the_owner_may_choose_the_side(folder: Path, text: str, side: str | None) -> None:
    path = write(folder, f"set,image,mask,label,split\ns,a.jpg,,authentic,{text}\n")
    manifest = read_manifest(path)
    assert manifest.rows[0].pinned == side
    if side == "training" or side == "validation":
        assert manifest.split(side) == manifest.rows


def test_another_side_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match="split 'test' is neither training nor validation"):
        read_manifest(write(folder, "set,image,mask,label,split\ns,a.jpg,,authentic,test\n"))


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"set,image,mask,label\ns,a\0.jpg,,authentic\n", "NUL bytes"),
        ("set,image,mask,label\n".encode("utf-16"), "utf-8"),
        (b"set,image,mask,label\ns,\xff.jpg,,authentic\n", "utf-8"),
        (b'set,image,mask,label\ns,"a.jpg,,authentic\ns,b,,authentic\n', "do all quotes match"),
        (b'set,image,mask,label\ns,"a"b.jpg,,authentic\n', "at its beginning: "),
        (b"set,image,mask,label\ns,a.jpg,,authentic\ns," + 200_000 * b"x" + b",,authentic\n", "after line 2: field larger"),
        (b"set,image,mask,label,image\ns,a.jpg,,authentic,a.jpg\n", "names a column twice"),
        (b"set;image;mask;label\ns;a.jpg;;authentic\n", "separated by commas"),
    ],
    ids=["nul", "utf-16", "latin-1", "open quote", "text after a quote", "huge field", "column twice", "semicolons"],
)
def test_what_is_not_csv_in_utf8_is_refused(folder: Path, content: bytes, word: str) -> None:
    path = folder / "manifest.csv"
    path.write_bytes(content)
    with pytest.raises(InvalidInput, match=word):
        read_manifest(path)


@pytest.mark.parametrize(
    ("text", "word"), [("", "no rows"), (HEADER, "no rows"), ("set,image\ns,a.jpg\n", "lacks columns: mask, label")]
)
def test_a_manifest_without_content_is_refused(folder: Path, text: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        read_manifest(write(folder, text))


def test_a_missing_manifest_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"manifest\.csv cannot be read"):
        read_manifest(tmp_path)


@pytest.mark.parametrize(("text", "weight"), [("", 1.0), ("0", 0.0), ("0.25", 0.25), ("1", 1.0)])
def test_a_picture_may_weigh_less(folder: Path, text: str, weight: float) -> None:
    write(folder, f"set,image,mask,label,weight\ns,a.jpg,,authentic,{text}\n")
    (row,) = read_manifest(folder).rows
    assert row.weight == weight


@pytest.mark.parametrize("text", ["-0.1", "1.01", "nan", "inf", "half"])
def test_another_weight_is_refused(folder: Path, text: str) -> None:
    write(folder, f"set,image,mask,label,weight\ns,a.jpg,,authentic,{text}\n")
    with pytest.raises(InvalidInput, match=f"weight '{text}' is no number from 0 to 1"):
        read_manifest(folder)
