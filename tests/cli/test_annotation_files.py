import json
from pathlib import Path
from typing import Any

import pytest

from cli.annotation_files import AnnotationFile, FileFormat, read_annotation_file
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from schemas.states import AnnotationKind


@pytest.fixture
def csv(tmp_path: Path) -> Any:
    def read(text: str, source_column: str | None = None, encoding: str = "utf-8") -> AnnotationFile:
        (tmp_path / "boxes.csv").write_bytes(text.encode(encoding))
        return read_annotation_file(tmp_path / "boxes.csv", None, source_column)

    return read


@pytest.fixture
def coco(tmp_path: Path) -> Any:
    def read(images: list[Any], annotations: list[Any], source_column: str | None = None) -> AnnotationFile:
        (tmp_path / "boxes.json").write_text(json.dumps({"images": images, "annotations": annotations, "categories": []}))
        return read_annotation_file(tmp_path / "boxes.json", None, source_column)

    return read


def told(found: AnnotationFile) -> list[tuple[str, str]]:
    return [(refusal.where, refusal.why) for refusal in found.refusals]


def test_lines_of_a_picture_are_one_word(csv: Any) -> None:
    found = csv("image,x0,y0,x1,y1\na.jpg,1,2,3,4\nb.jpg,0,0,1,1\na.jpg,5.2,6,7.5,8\n")
    first, second = found.words
    assert (first.name, first.where, first.kind) == ("a.jpg", "line 2", AnnotationKind.BOXES)
    assert first.boxes == [PixelBox.of(1, 2, 3, 4), PixelBox.of(5, 6, 8, 8)]
    assert (second.name, second.where, found.refusals) == ("b.jpg", "line 3", [])


def test_every_column_is_read(csv: Any) -> None:
    header = "\ufeffimage, x0,y0,x1,y1,kind,width,height,sha256,note,campaign"
    box = f'"a, b.jpg",1,2,3,4,boxes,40,30,{"AB" * 32},sky,c1'
    found = csv(f'{header}\r\n{box}\r\n"a, b.jpg",1,2,3,9,,,,,sea,\r\nc.jpg,,,,,Authentic,,,,,c2\r\n', "campaign")
    first, second = found.words
    assert (first.name, first.size_px, first.sha256, first.source_id) == ("a, b.jpg", (40, 30), "ab" * 32, "c1")
    assert first.note == "sky; sea"
    assert (second.kind, second.boxes, second.size_px, second.source_id) == (AnnotationKind.AUTHENTIC, [], None, "c2")


def test_a_source_column_of_the_usual_name_is_found(csv: Any) -> None:
    assert csv("image,x0,y0,x1,y1,source_id\na,1,2,3,4,s\n").words[0].source_id == "s"


def test_authentic_pictures_need_no_box_columns(csv: Any) -> None:
    assert [word.kind for word in csv("image,kind\na,authentic\nb,authentic\n").words] == [AnnotationKind.AUTHENTIC] * 2


def test_all_problems_are_told_at_once_and_their_pictures_left_out_whole(csv: Any) -> None:
    lines = [
        "image,x0,y0,x1,y1,kind,width,height",
        "good,1,2,3,4,,,",
        "words,a,b,c,d,,,",
        "inverted,5,5,5,9,,,",
        "negative,-1,0,5,5,,,",
        "endless,1,1,inf,9,,,",
        "silent,,,,,,,",
        "both,1,2,3,4,authentic,,",
        "odd,1,2,3,4,maybe,,",
        "sized,1,2,3,4,,40,",
        "twosizes,1,2,3,4,,40,30",
        "twosizes,1,2,3,9,,40,31",
        "partly,1,2,3,4,,,",
        "partly,9,9,3,4,,,",
        ",1,2,3,4,,,",
        "long,1,2,3,4,,,,surplus",
        "mixed,1,2,3,4,,,",
        "mixed,,,,,authentic,,",
    ]
    found = csv("\n".join(lines))
    assert [word.name for word in found.words] == ["good"]
    assert told(found) == [
        ("line 3", "x0, y0, x1, y1 must be numbers"),
        ("line 4", "x0, y0, x1, y1 = 5, 5, 5, 9 is no box inside a picture; x1 and y1 are exclusive"),
        ("line 5", "x0, y0, x1, y1 = -1, 0, 5, 5 is no box inside a picture; x1 and y1 are exclusive"),
        ("line 6", "x0, y0, x1, y1 = 1, 1, inf, 9 is no box inside a picture; x1 and y1 are exclusive"),
        ("line 7", "no box; if the picture is not manipulated, write authentic in column kind"),
        ("line 8", "an authentic picture has no box"),
        ("line 9", "kind is maybe; use boxes or authentic"),
        ("line 10", "width and height must both be whole numbers, or both be left out"),
        ("line 12", "size_px is (40, 31), and was (40, 30) before"),
        ("line 14", "x0, y0, x1, y1 = 9, 9, 3, 4 is no box inside a picture; x1 and y1 are exclusive"),
        ("line 15", "column image is empty"),
        ("line 16", "more fields than the first line has; quote fields that contain commas"),
        ("line 17", "mixed is called authentic and has boxes"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,x0,y0,x1\na,1,2,3\n", "it lacks columns: y1; its first line"),
        ("file,x0,y0,x1,y1\na,1,2,3,4\n", "it lacks columns: image"),
        ("image,image\na,b\n", "names a column twice"),
        ('image,x0,y0,x1,y1\n"a,1,2,3,4\n', "do all quotes match"),
        ("image,x0,y0,x1,y1\na\0,1,2,3,4\n", "NUL bytes"),
        ("image,x0,y0,x1,y1\n", "says nothing of any picture"),
        ("", "says nothing of any picture"),
    ],
)
def test_a_file_that_is_no_such_csv(csv: Any, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        csv(text)


def test_a_named_source_column_must_be_there(csv: Any) -> None:
    with pytest.raises(InvalidInput, match="lacks columns: campaign"):
        csv("image,x0,y0,x1,y1\na,1,2,3,4\n", "campaign")


def test_another_encoding_is_refused(csv: Any) -> None:
    with pytest.raises(InvalidInput, match="cannot be read: 'utf-8' codec"):
        csv("image,x0,y0,x1,y1\nä,1,2,3,4\n", encoding="latin-1")


def test_a_missing_file() -> None:
    with pytest.raises(InvalidInput, match=r"nowhere\.csv cannot be read: No such file"):
        read_annotation_file(Path("nowhere.csv"), None, None)


def test_coco(coco: Any) -> None:
    images = [
        {"id": 7, "file_name": "a.jpg", "width": 40, "height": 30, "scene": "s", "sha256": "ab" * 32},
        {"id": "b", "file_name": "b.jpg", "kind": "authentic"},
        {"id": 9, "file_name": "nobody looked.jpg"},
    ]
    boxes = [{"id": n, "image_id": 7, "category_id": 1, "bbox": box} for n, box in enumerate([[1, 2, 3, 4], [0.5, 0, 2, 2]])]
    found = coco(images, boxes, "scene")
    first, second = found.words
    assert first.boxes == [PixelBox.of(1, 2, 4, 6), PixelBox.of(0, 0, 3, 2)]
    assert (first.name, first.size_px, first.source_id, first.sha256) == ("a.jpg", (40, 30), "s", "ab" * 32)
    assert (second.name, second.kind) == ("b.jpg", AnnotationKind.AUTHENTIC)
    assert (found.silent, found.refusals) == (1, [])


def test_every_problem_of_coco_is_told(coco: Any) -> None:
    images = [
        {"id": 1, "file_name": "a"},
        {"id": 2, "file_name": "b"},
        {"id": 2, "file_name": "c"},
        {"file_name": "d"},
        {"id": 5, "file_name": "e", "kind": "so-so"},
        {"id": 6, "file_name": "f", "kind": "authentic"},
        {"id": 8, "file_name": "g"},
        {"id": 9, "file_name": "h\ud800"},
        {"id": 10, "file_name": "i", "sha256": "12"},
    ]
    boxes = [
        {"image_id": 1, "bbox": [0, 0, 2, 2]},
        {"image_id": 1, "bbox": [0, 0, 2]},
        {"image_id": 3, "bbox": [0, 0, 2, 2]},
        {"image_id": 6, "bbox": [0, 0, 2, 2]},
        {"image_id": 8, "bbox": [4, 4, 0, 1]},
        "box",
    ]
    found = coco(images, boxes)
    images_told = [f"image {number}" for number in (3, 4, 5, 8, 9)]
    annotations_told = [f"annotation {number}" for number in (2, 3, 5, 6)]
    assert [where for where, _ in told(found)] == [*images_told, *annotations_told, "image 6"]
    assert found.words == []


@pytest.mark.parametrize(
    ("text", "message"), [("{", "is not JSON"), ("[]", "is not COCO"), ('{"images": []}', "annotations: Field")]
)
def test_a_file_that_is_no_coco(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "boxes.txt").write_text(text)
    with pytest.raises(InvalidInput, match=message):
        read_annotation_file(tmp_path / "boxes.txt", FileFormat.COCO, None)
