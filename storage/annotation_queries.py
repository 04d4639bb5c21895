"""Every reading of what people said of pictures. Callers bring the session."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, and_, exists, func
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from schemas.learning_tables import BoxAnnotation
from schemas.states import AnnotationKind
from storage.annotation_checks import SizePx
from storage.consensus import Consensus, agree
from storage.feed import PATIENCE_S, wait_for_writers

_PAGE = 500
_id = col(BoxAnnotation.id)


@dataclass(frozen=True)
class JudgedPicture:
    """A picture with what stands of it, oldest first, and what that comes to."""

    sha256: str
    annotations: tuple[BoxAnnotation, ...]
    consensus: Consensus

    @property
    def size_px(self) -> SizePx | None:
        """(width, height) of the upright picture; None if nobody told it, which happens only without boxes."""
        known = ((each.width_px, each.height_px) for each in self.annotations)
        return next(((width, height) for width, height in known if width is not None and height is not None), None)

    @property
    def source_id(self) -> str | None:
        """Scene, campaign or account the picture comes from, as the newest annotation that knows tells it."""
        return next((each.source_id for each in reversed(self.annotations) if each.source_id), None)

    @property
    def newest_id(self) -> int:
        return max(each.id or 0 for each in self.annotations)


@dataclass(frozen=True)
class NewWords:
    """How much stands that is newer than some annotation: pictures, annotations (authentic ones too), and boxes in them."""

    pictures: int
    annotations: int
    boxes: int


def history(session: Session, sha256: str) -> list[BoxAnnotation]:
    """Everything ever said of a picture, oldest first, with what was replaced and taken back."""
    return list(session.exec(select(BoxAnnotation).where(BoxAnnotation.sha256 == sha256).order_by(_id)))


def standing(session: Session, pictures: Sequence[str], up_to: int | None = None) -> dict[str, list[BoxAnnotation]]:
    """What stands of pictures, by sha256: one annotation an annotator at most, oldest first. Others are left out.

    Args:
        up_to: as it was when the annotation with this id was the newest.
    """
    found: dict[str, list[BoxAnnotation]] = {}
    query = select(BoxAnnotation).where(col(BoxAnnotation.sha256).in_(list(pictures)), stands(up_to)).order_by(_id)
    for row in session.exec(query):
        found.setdefault(row.sha256, []).append(row)
    return found


def judged_pictures(session: Session, up_to: int | None = None) -> Iterator[JudgedPicture]:
    """Every picture of which something stands, by sha256, a page at a time.

    Args:
        up_to: as it was when the annotation with this id was the newest; from `newest_annotation`, it never changes.
    """
    last = ""
    while True:
        page = select(BoxAnnotation.sha256).where(col(BoxAnnotation.sha256) > last).distinct()
        pictures = session.exec(page.order_by(col(BoxAnnotation.sha256)).limit(_PAGE)).all()
        if not pictures:
            return
        found = standing(session, pictures, up_to)
        for sha256 in pictures:
            if sha256 in found:
                for row in found[sha256]:
                    session.expunge(row)  # or the session would hold them all
                yield judged(sha256, found[sha256])
        last = pictures[-1]


def judged(sha256: str, annotations: Sequence[BoxAnnotation]) -> JudgedPicture:
    """A picture with the consensus of its standing annotations, of which there is at least one."""
    return JudgedPicture(sha256, tuple(annotations), agree({each.annotator: each.pixel_boxes for each in annotations}))


def newest_annotation(session: Session, patience_s: float = PATIENCE_S) -> int:
    """The highest id of an annotation, 0 if there is none; none with this id or a lower one will appear any more.

    Raises:
        StoreUnavailable: a transaction that writes annotations stays open for longer than `patience_s`.
    """
    newest = session.exec(select(func.max(_id))).one() or 0
    wait_for_writers(session, patience_s, BoxAnnotation.__tablename__)
    return newest


def read_annotations(session: Session, after: int, limit: int = 100, patience_s: float = PATIENCE_S) -> list[BoxAnnotation]:
    """Annotations of every kind with an id above the cursor `after`, in the order of their ids.

    Whoever goes on from the last id of each page meets every row exactly once (`storage.feed` says how). An empty page
    means that there is nothing more yet.

    Raises:
        StoreUnavailable: a transaction that writes annotations stays open for longer than `patience_s`.
    """
    up_to = session.exec(select(_id).where(_id > after).order_by(_id).limit(limit)).all()
    if not up_to:
        return []
    wait_for_writers(session, patience_s, BoxAnnotation.__tablename__)
    # Again, and not further: what was in the making below the last id is there now.
    query = select(BoxAnnotation).where(_id > after, _id <= up_to[-1]).order_by(_id)
    return list(session.exec(query.limit(limit)))


def count_new(session: Session, after: int, up_to: int | None = None) -> NewWords:
    """How much stands that is newer than the annotation with the id `after`."""
    sha256 = col(BoxAnnotation.sha256)
    boxes = func.coalesce(func.sum(func.json_array_length(col(BoxAnnotation.boxes))), 0)
    query = select(func.count(sha256.distinct()), func.count(), boxes).where(_id > after, stands(up_to))
    pictures, annotations, n_boxes = session.exec(query).one()
    return NewWords(pictures, annotations, int(n_boxes))


def stands(up_to: int | None = None) -> ColumnElement[bool]:
    """The WHERE clause of standing annotations: the newest word of its annotator on its picture, and not replaced."""
    newer, replacement = aliased(BoxAnnotation), aliased(BoxAnnotation)

    def is_newer(row: Any) -> ColumnElement[bool]:
        same = and_(row.sha256 == BoxAnnotation.sha256, row.annotator == BoxAnnotation.annotator, row.id > BoxAnnotation.id)
        return and_(same, row.kind != AnnotationKind.RETRACTED, *_until(row, up_to))

    return and_(
        col(BoxAnnotation.kind) != AnnotationKind.RETRACTED,
        *_until(BoxAnnotation, up_to),
        ~exists().where(is_newer(newer)),
        ~exists().where(col(replacement.replaces) == _id, *_until(replacement, up_to)),
    )


def _until(row: Any, up_to: int | None) -> list[ColumnElement[bool]]:
    return [] if up_to is None else [col(row.id) <= up_to]
