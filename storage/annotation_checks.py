"""What a person may say of a picture, checked before it is stored. Pure: the caller brings what is known of the picture."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from schemas.states import AnnotationKind, AnnotationOrigin

MOST_BOXES = 200
"""Of one annotation: more is a detector's output or a mistake, not a person's word."""

SizePx = tuple[int, int]
"""(width, height) of an upright picture."""

_LONGEST = {"annotator": 128, "source_id": 256, "note": 4096}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class NewAnnotation:
    """What one person says of one picture.

    Attributes:
        kind: BOXES with at least one box, or AUTHENTIC with none.
        boxes: in original pixels, EXIF orientation applied; their order means nothing.
        width_px, height_px: of the upright picture; not needed where the picture was audited or annotated before.
        result_id: the result the person looked at.
        source_id: scene, campaign or account that the picture comes from.
        replaces: another's standing annotation that this one corrects. The annotator's own is replaced anyway.
    """

    sha256: str
    annotator: str
    kind: AnnotationKind
    origin: AnnotationOrigin
    boxes: tuple[PixelBox, ...] = ()
    width_px: int | None = None
    height_px: int | None = None
    result_id: int | None = None
    source_id: str | None = None
    note: str = ""
    replaces: int | None = None


def checked(new: NewAnnotation, known_px: SizePx | None) -> NewAnnotation:
    """An annotation ready to be stored: without blanks around its texts, boxes sorted and each once, its size filled in.

    Args:
        known_px: (width, height) of the upright picture, from `known_sizes`.

    Raises:
        InvalidInput: naming everything that is wrong with it.
    """
    boxes = tuple(sorted(set(new.boxes), key=PixelBox.as_tuple))
    stated = (new.width_px, new.height_px)
    problems = text_problems({"annotator": new.annotator, "source_id": new.source_id or "", "note": new.note})
    problems += [] if _SHA256.fullmatch(new.sha256) else ["sha256 must be 64 small hexadecimal digits"]
    problems += _kind_problems(new.kind, len(boxes))
    size_px, size_problems = _agreed_size(stated, known_px)
    problems += size_problems or (_box_problems(boxes, size_px) if boxes else [])
    if problems:
        raise InvalidInput(f"annotation of {new.sha256[:12]}: {'; '.join(problems)}")
    width_px, height_px = size_px or (None, None)
    return replace(
        new,
        boxes=boxes,
        width_px=width_px,
        height_px=height_px,
        annotator=new.annotator.strip(),
        source_id=(new.source_id or "").strip() or None,
        note=new.note.strip(),
    )


def text_problems(texts: Mapping[str, str]) -> list[str]:
    """What is wrong with an annotation's texts, by the names of its fields; one of them is `annotator`."""
    problems = [] if texts["annotator"].strip() else ["no annotator is named"]
    for name, value in texts.items():
        if len(value) > _LONGEST[name]:
            problems.append(f"{name} has {len(value)} characters; {_LONGEST[name]} are allowed")
        if not storable(value) or (name != "note" and not value.strip().isprintable()):
            problems.append(f"{name} holds characters that cannot be shown")
    return problems


def storable(text: str) -> bool:
    """Whether both databases take a text: PostgreSQL has no NUL, and half of a character has no UTF-8."""
    return not any(char == "\0" or "\ud800" <= char <= "\udfff" for char in text)


def _kind_problems(kind: AnnotationKind, n_boxes: int) -> list[str]:
    if kind is AnnotationKind.RETRACTED:
        return ["an annotation is taken back by its number"]
    if kind is AnnotationKind.AUTHENTIC and n_boxes:
        return ["an authentic picture has no boxes"]
    if kind is AnnotationKind.BOXES and not n_boxes:
        return ["boxes are missing; a picture without manipulation is authentic"]
    return [f"{n_boxes} boxes; {MOST_BOXES} are allowed"] if n_boxes > MOST_BOXES else []


def _agreed_size(stated: tuple[int | None, int | None], known_px: SizePx | None) -> tuple[SizePx | None, list[str]]:
    """The picture's size from what is stated and what is known, and what is wrong with the stated one."""
    if stated == (None, None):
        return known_px, []
    width_px, height_px = stated
    if width_px is None or height_px is None or width_px < 1 or height_px < 1:
        return known_px, ["width and height must both be at least 1, or both be left out"]
    if known_px is not None and known_px != (width_px, height_px):
        real = f"{known_px[0]} x {known_px[1]}"
        return known_px, [
            f"stated size {width_px} x {height_px} is not the upright picture's, {real}; boxes are in its own pixels"
        ]
    return (width_px, height_px), []


def _box_problems(boxes: Sequence[PixelBox], size_px: SizePx | None) -> list[str]:
    if size_px is None:
        return ["the picture's size is not known; state width and height"]
    width_px, height_px = size_px
    outside = [box for box in boxes if not box.fits(width_px, height_px)]
    if not outside:
        return []
    shown = ", ".join(str(box.as_tuple()) for box in outside[:3]) + (" ..." if len(outside) > 3 else "")
    return [f"{shown} {'is' if len(outside) == 1 else 'are'} not inside the picture of {width_px} x {height_px}"]
