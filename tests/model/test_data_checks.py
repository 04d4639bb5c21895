from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.data_checks import check_training_data
from model.folders import read_data
from model.manifest import Manifest, read_manifest
from model.problems import Kind, Problem, refuse
from model.splits import clustered
from schemas.errors import InvalidInput
from tests.hostile import png_of_size

HEADER = "set,image,mask,label,kind,scene,boxes,width,height,split\n"
SIZE = (64, 48)


def picture(path: Path, seed: int, size: tuple[int, int] = SIZE) -> None:
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(path)


def mask(path: Path, share: float = 0.25, size: tuple[int, int] = SIZE) -> None:
    marked = np.zeros(size[0] * size[1], dtype=np.uint8)
    marked[: round(share * marked.size)] = 255
    Image.fromarray(marked.reshape(size[1], size[0])).save(path)


GOOD = (
    's,t1.png,m.png,tampered,,t1,"[[1,2,30,40]]",64,48,training',
    's,t2.png,m.png,tampered,,t2,"[[1,2,30,40]]",,,validation',
    "s,a1.png,,authentic,objects:m.png,a1,,64,48,training",
    "s,a2.png,,authentic,,a2,,,,validation",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("t1", "t2", "a1", "a2", "x")):
        picture(tmp_path / f"{name}.png", seed)
    mask(tmp_path / "m.png")
    return tmp_path


def read(folder: Path, *lines: str) -> Manifest:
    (folder / "manifest.csv").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
    return read_data(folder, strict=False)


def message(manifest: Manifest) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_training_data(manifest)
    return caught.value.message


def kinds(text: str) -> list[Kind]:
    """The kinds a message has headings of."""
    return [kind for kind in Kind if f"\n{kind.value[0]} (" in text and f"): {kind.value[1]}\n" in text]


def test_good_data_pass_and_every_picture_is_counted(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    check_training_data(read(folder, *GOOD), lambda done, count: told.append((done, count)))
    assert told == [(done, 4) for done in range(1, 5)]


def test_drawn_data_pass(drawn: Manifest) -> None:
    check_training_data(clustered(drawn))


def oriented(path: Path) -> None:
    """A picture stored lying: 64 x 48 as stored, 48 x 64 upright."""
    orientation = Image.Exif()
    orientation[0x0112] = 6
    Image.new("RGB", SIZE, "navy").save(path, exif=orientation)


def noise_mask(path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64), dtype=np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:1000])


MADE: dict[str, Callable[[Path], object]] = {
    "lying.jpg": oriented,
    "text.png": lambda path: path.write_text("no picture"),
    "nothing.png": lambda path: path.write_bytes(b""),
    "cut.jpg": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF"),
    "bomb.png": lambda path: path.write_bytes(png_of_size(16_000, 16_000)),
    "large.png": lambda path: path.write_bytes(png_of_size(10_000, 9_000)),
    "small-mask.png": lambda path: mask(path, size=(32, 24)),
    "black.png": lambda path: mask(path, 0),
    "half-grey.png": lambda path: Image.new("L", SIZE, 127).save(path),
    "white.png": lambda path: mask(path, 1),
    "almost-white.png": lambda path: mask(path, 0.9902),
    "deep.png": lambda path: Image.new("I;16", SIZE, 60_000).save(path),
    "cut-mask.png": noise_mask,
    "same-as-t1.png": lambda path: path.write_bytes((path.parent / "t1.png").read_bytes()),
}


@pytest.mark.parametrize(
    ("line", "kind", "words"),
    [
        ("s,x.png,m.png,fake,,x", Kind.LINE, ["line 6: label 'fake'"]),
        ("s,gone.png,,authentic,,x", Kind.FILE, ["line 6 (gone.png): gone.png is not a file"]),
        ("s,x.png,gone.png,tampered,,x", Kind.FILE, ["line 6 (x.png): gone.png is not a file"]),
        ("s,x.png,,authentic,objects:m.png;gone.png,x", Kind.FILE, ["gone.png is not a file"]),
        ("s,text.png,,authentic,,x", Kind.PICTURE, ["line 6 (text.png): not a picture in an accepted format"]),
        ("s,nothing.png,,authentic,,x", Kind.PICTURE, ["not a picture in an accepted format"]),
        ("s,cut.jpg,,authentic,,x", Kind.PICTURE, ["line 6 (cut.jpg)"]),
        ("s,bomb.png,,authentic,,x", Kind.PICTURE, ["256000000 pixels"]),
        ("s,large.png,,authentic,,x", Kind.PICTURE, ["10000x9000 pixels", "80,000,000"]),
        ("s,x.png,,authentic,,x,,48,64", Kind.STATED_SIZE, ["48x64 is stated, the upright picture is 64x48"]),
        ("s,lying.jpg,,authentic,,x,,64,48", Kind.STATED_SIZE, ["64x48 is stated, the upright picture is 48x64"]),
        ('s,x.png,m.png,tampered,,x,"[[1,2,65,40]]"', Kind.BOX, ["box [1, 2, 65, 40] lies outside the picture of 64x48"]),
        ('s,lying.jpg,,tampered,,x,"[[1,2,50,40]]"', Kind.BOX, ["outside the picture of 48x64"]),
        ("s,x.png,,tampered,,x", Kind.NO_MARK, ["line 6 (x.png)"]),
        ("s,x.png,text.png,tampered,,x", Kind.MASK, ["text.png: not a picture"]),
        ("s,x.png,deep.png,tampered,,x", Kind.MASK, ["mode I;16"]),
        ("s,x.png,cut-mask.png,tampered,,x", Kind.MASK, ["cut-mask.png cannot be decoded"]),
        ("s,x.png,large.png,tampered,,x", Kind.MASK, ["10000x9000 pixels"]),
        ("s,x.png,,authentic,objects:text.png,x", Kind.MASK, ["text.png: not a picture"]),
        ("s,x.png,small-mask.png,tampered,,x", Kind.MASK_SIZE, ["small-mask.png is 32x24, the upright picture 64x48"]),
        ("s,lying.jpg,m.png,tampered,,x", Kind.MASK_SIZE, ["m.png is 64x48, the upright picture 48x64"]),
        ('s,x.png,black.png,tampered,,x,"[[1,2,30,40]]"', Kind.EMPTY_MASK, ["black.png has no value above 127"]),
        ("s,x.png,half-grey.png,tampered,,x", Kind.EMPTY_MASK, ["half-grey.png has no value above 127"]),
        ("s,x.png,white.png,tampered,,x", Kind.FULL_MASK, ["white.png marks 100.0%"]),
        ("s,x.png,almost-white.png,tampered,,x", Kind.FULL_MASK, ["almost-white.png marks 99.0%"]),
        ("s,./t1.png,m.png,tampered,,t1", Kind.TWICE, ["line 6 (./t1.png): also line 2 (t1.png)"]),
        ("s,same-as-t1.png,,authentic,,t1", Kind.BOTH_LABELS, ["line 2 (t1.png): tampered here, authentic in line 6"]),
        ("s,t1.png,,authentic,,t1", Kind.BOTH_LABELS, ["line 2 (t1.png): tampered here, authentic in line 6"]),
        (
            "s,x.png,,authentic,,t1,,,,validation",
            Kind.BOTH_SIDES,
            ["scene t1: training has line 2 (t1.png), validation has line 6"],
        ),
        ('s,x.png,,tampered,,t2,"[[1,2,30,40]]"', Kind.NO_TRUE_MASK, ["line 6 (x.png)"]),
    ],
)
def test_each_problem_is_told_alone_with_its_line(folder: Path, line: str, kind: Kind, words: Sequence[str]) -> None:
    for name, make in MADE.items():
        if name in line:
            make(folder / name)
    told = message(read(folder, *GOOD, line))
    assert kinds(told) == [kind]
    assert "1 problem:" in told
    for word in words:
        assert word in told


@pytest.mark.parametrize(
    "line",
    [
        's,lying.jpg,lying-mask.png,tampered,,x,"[[1,2,48,64]]",48,64,training',
        "s,x.png,unmarked.png,authentic,,x",
        "s,x.png,half-white.png,tampered,,x,,,,validation",
        "s,same-as-t1.png,m.png,tampered,,t1",
    ],
    ids=["lying", "mask of an authentic picture", "mask without boxes", "copy of one label"],
)
def test_what_is_no_problem(folder: Path, line: str) -> None:
    oriented(folder / "lying.jpg")
    mask(folder / "lying-mask.png", size=(48, 64))
    mask(folder / "half-white.png", 0.98)
    mask(folder / "unmarked.png", 0)
    MADE["same-as-t1.png"](folder / "same-as-t1.png")
    check_training_data(read(folder, *GOOD, line))


@pytest.mark.parametrize(
    ("kept", "words"),
    [
        ((0, 1), ["all pictures: none is authentic"]),
        ((2, 3), ["all pictures: none is tampered"]),
        ((0, 2, 3), ["validation: none of its pictures is tampered"]),
        ((0, 1, 2), ["validation: none of its pictures is authentic"]),
        ((1, 2, 3), ["training: none of its pictures is tampered"]),
        ((0, 1, 3), ["training: none of its pictures is authentic"]),
        ((0, 2), ["validation: none of its pictures is tampered", "validation: none of its pictures is authentic"]),
    ],
)
def test_a_missing_label_is_told(folder: Path, kept: tuple[int, ...], words: Sequence[str]) -> None:
    told = message(read(folder, *(GOOD[index] for index in kept)))
    assert kinds(told) == [Kind.CLASS]
    assert f"{len(words)} problem" in told
    for word in words:
        assert word in told


def test_near_duplicates_pinned_to_both_sides_are_told(folder: Path) -> None:
    """Their scenes have different names; only clustering shows that they are one."""
    with Image.open(folder / "t1.png") as image:
        image.resize((80, 60)).save(folder / "x.png")
    mask(folder / "m2.png", size=(80, 60))
    manifest = read(folder, *GOOD, "s,x.png,m2.png,tampered,,other,,,,validation")
    check_training_data(manifest)
    assert kinds(message(clustered(manifest))) == [Kind.BOTH_SIDES]


def test_all_problems_are_told_at_once(folder: Path) -> None:
    for make in (MADE["white.png"], MADE["text.png"]):
        make(folder / ("white.png" if make is MADE["white.png"] else "text.png"))
    lines = [
        's,x.png,white.png,tampered,,x,"[[1,2,99,40]]",48,64',
        "s,text.png,gone.png,tampered,,y",
        "s,t1.png,,fake,,z",
        "s,lost.png,,authentic,,v,,wide,2",
    ]
    told = message(read(folder, *GOOD, *lines))
    assert "7 problems:" in told
    assert kinds(told) == [Kind.LINE, Kind.FILE, Kind.PICTURE, Kind.STATED_SIZE, Kind.BOX, Kind.FULL_MASK]
    assert "lines that cannot be understood (2)" in told


def test_ten_of_a_kind_are_named_and_the_rest_counted(folder: Path) -> None:
    told = message(read(folder, *GOOD, *(f"s,gone-{number}.png,,authentic,,{number}" for number in range(14))))
    assert "missing files (14)" in told
    assert told.count("is not a file") == 10
    assert told.endswith("... and 4 more")


def test_nothing_but_bad_lines_is_told(folder: Path) -> None:
    assert Kind.LINE in kinds(message(clustered(read(folder, "s,t1.png,,fake,,z"))))


def test_folders_are_checked_too(tmp_path: Path) -> None:
    for index, name in enumerate(("tampered", "authentic", "masks")):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "1.png", index)
    (tmp_path / "boxes.csv").write_text("image,x0,y0,x1,y1\n1.png,0,0,99,9\nlost.png,1,2,3,4\n")
    told = message(read_data(tmp_path, strict=False))
    assert kinds(told) == [Kind.FILE, Kind.BOX, Kind.CLASS]
    assert "tampered/1.png: box [0, 0, 99, 9] lies outside" in told


def test_strict_reading_tells_the_same_lines(folder: Path) -> None:
    read(folder, *GOOD, "s,gone.png,,authentic,,x")
    with pytest.raises(InvalidInput) as caught:
        read_manifest(folder)
    assert kinds(caught.value.message) == [Kind.FILE]


def test_no_problem_is_no_refusal() -> None:
    refuse([], "data")
    with pytest.raises(InvalidInput, match="data cannot be used, 1 problem:"):
        refuse([Problem(Kind.CLASS, "training", "none")], "data")
