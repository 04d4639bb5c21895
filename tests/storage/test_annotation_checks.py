from dataclasses import replace

import pytest

from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from schemas.states import AnnotationKind, AnnotationOrigin
from storage.annotation_checks import MOST_BOXES, NewAnnotation, checked

BOX = PixelBox.of(1, 2, 30, 20)
LATER = PixelBox.of(5, 0, 6, 1)
WORD = NewAnnotation("ab" * 32, "anna", AnnotationKind.BOXES, AnnotationOrigin.PAGE, (BOX,), 40, 20)


def test_it_is_made_ready() -> None:
    untidy = replace(WORD, annotator=" anna ", source_id="  ", note=" why\n", boxes=(LATER, BOX, LATER))
    ready = checked(untidy, None)
    assert (ready.annotator, ready.source_id, ready.note) == ("anna", None, "why")
    assert ready.boxes == (BOX, LATER)
    assert checked(ready, None) == ready


@pytest.mark.parametrize("stated", [(None, None), (40, 20)])
def test_the_size_is_the_known_one(stated: tuple[int | None, int | None]) -> None:
    ready = checked(replace(WORD, width_px=stated[0], height_px=stated[1]), (40, 20))
    assert (ready.width_px, ready.height_px) == (40, 20)


def test_an_authentic_picture_needs_no_size() -> None:
    ready = checked(replace(WORD, kind=AnnotationKind.AUTHENTIC, boxes=(), width_px=None, height_px=None), None)
    assert (ready.width_px, ready.height_px) == (None, None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": ()}, "boxes are missing; a picture without manipulation is authentic"),
        ({"kind": AnnotationKind.AUTHENTIC}, "an authentic picture has no boxes"),
        ({"kind": AnnotationKind.RETRACTED, "boxes": ()}, "taken back by its number"),
        ({"boxes": tuple(PixelBox.of(0, 0, 1 + n, 1) for n in range(MOST_BOXES + 1)), "width_px": 999}, "201 boxes; 200 are"),
        ({"width_px": 29}, r"\(1, 2, 30, 20\) is not inside the picture of 29 x 20"),
        ({"height_px": 19}, "is not inside the picture of 40 x 19"),
        ({"width_px": 0}, "width and height must both be at least 1"),
        ({"height_px": None}, "width and height must both"),
        ({"width_px": None, "height_px": None}, "the picture's size is not known; state width and height"),
        ({"sha256": "AB" * 32}, "64 small hexadecimal digits"),
        ({"sha256": "ab"}, "64 small hexadecimal digits"),
        ({"annotator": " "}, "no annotator is named"),
        ({"annotator": "a" * 129}, "annotator has 129 characters; 128 are allowed"),
        ({"annotator": "a\x1b[31m"}, "annotator holds characters that cannot be shown"),
        ({"source_id": "s" * 257}, "source_id has 257 characters"),
        ({"source_id": "a\nb"}, "source_id holds characters that cannot be shown"),
        ({"note": "n" * 4097}, "note has 4097 characters"),
        ({"note": "\ud800"}, "note holds characters that cannot be shown"),
        ({"note": "\0"}, "note holds characters that cannot be shown"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        checked(replace(WORD, **changes), None)  # type: ignore[arg-type]


def test_the_edges_of_the_picture_are_inside() -> None:
    whole = PixelBox.of(0, 0, 40, 20)
    assert checked(replace(WORD, boxes=(whole,)), None).boxes == (whole,)


def test_a_stated_size_that_is_not_the_pictures_is_refused() -> None:
    """It would put the boxes in another place: the sides are swapped where EXIF turned the picture."""
    with pytest.raises(InvalidInput, match="stated size 40 x 20 is not the upright picture's, 20 x 40"):
        checked(WORD, (20, 40))


def test_everything_is_named_at_once() -> None:
    with pytest.raises(InvalidInput) as raised:
        checked(replace(WORD, annotator="", sha256="x", boxes=(BOX, PixelBox.of(0, 0, 50, 5), PixelBox.of(0, 0, 1, 99))), None)
    assert all(part in raised.value.message for part in ("no annotator", "sha256", "(0, 0, 1, 99), (0, 0, 50, 5) are not inside"))
