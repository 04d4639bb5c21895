"""A moderator's decision about a picture that they have claimed: review and boxes in one transaction, and the way back.

Nothing is overwritten. To take a decision back adds a row that says so, and says again what the person had said before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlmodel import Session

from schemas.errors import Conflict, NotFound
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, Review
from schemas.states import AnnotationKind, AnnotationOrigin, ReviewDecision
from storage import annotations, review_claims, reviews
from storage.annotation_checks import NewAnnotation
from storage.annotations import Added
from storage.reviews import Reviewed
from storage.turns import take_turns


@dataclass(frozen=True)
class Decision:
    """What a moderator says of a picture.

    Attributes:
        boxes: where it was manipulated, in original pixels; they go with `MANIPULATED` alone.
        claim_token: of the page that shows the picture.
        seen_review_id: the newest decision about the picture that the page has shown; 0 for none.
    """

    result_id: int
    decision: ReviewDecision
    who: str
    claim_token: str
    boxes: tuple[PixelBox, ...] = ()
    note: str = ""
    seen_review_id: int = 0


@dataclass(frozen=True)
class Decided:
    """The rows that a decision made; no annotation where nothing was said of places."""

    review_id: int
    annotation_id: int | None


def picture_key(picture: Reviewed) -> str:
    """What a picture is claimed by."""
    return picture.sha256 or picture.job_id.hex


def decide(session: Session, said: Decision) -> Decided:
    """Store a decision and give the picture back.

    Raises:
        Conflict: somebody else has the picture, or has decided about it since the page was shown; who, and what.
        InvalidInput: no such result, or boxes or a note that cannot be stored.
    """
    picture = reviews.picture_of(session, said.result_id)
    # All turns of what follows, in one order.
    take_turns(session, [f"review {said.result_id}", *([picture.sha256] if picture.sha256 else [])])
    review_claims.spend(session, picture_key(picture), said.who, said.claim_token)
    _check_news(session, said, picture)
    added = _annotation(session, said, picture)
    review = reviews.add_review(session, said.result_id, said.decision, said.who, said.note)
    return Decided(review.id or 0, added.annotation.id if added is not None and added.is_new else None)


def undo(session: Session, who: str, review_id: int, annotation_id: int | None) -> Review:
    """Take one's own decision back, and with it the boxes; what one had said of the places before stands again.

    Raises:
        NotFound: there is no such decision of theirs.
        InvalidInput: it does not stand any more.
    """
    review = session.get(Review, review_id)
    if review is None or review.reviewer != who:
        raise NotFound(f"no decision {review_id} of yours")
    take_turns(session, [f"review {review.result_id}", *([review.sha256] if review.sha256 else [])])
    if review.id not in {each.id for each in reviews.standing_reviews(session, review.result_id)}:
        raise Conflict("this decision was changed or taken back already; look at the picture again")
    if annotation_id is not None:
        _restore(session, who, annotation_id)
    return reviews.add_review(session, review.result_id, ReviewDecision.WITHDRAWN, who, "undone")


def _check_news(session: Session, said: Decision, picture: Reviewed) -> None:
    """Raises Conflict: the page does not know of another's decision."""
    known = reviews.standing_of_picture(session, said.result_id, picture.sha256)
    news = [each for each in known if each.reviewer != said.who and (each.id or 0) > said.seen_review_id]
    if news:
        raise Conflict(f"{news[-1].reviewer} decided “{news[-1].decision}” meanwhile; yours was not stored, look again")


def _annotation(session: Session, said: Decision, picture: Reviewed) -> Added | None:
    """What the decision says of places. A picture whose bytes are unknown is nobody's to learn from."""
    if picture.sha256 is None or said.decision not in (ReviewDecision.MANIPULATED, ReviewDecision.AUTHENTIC):
        return None
    kind = AnnotationKind.AUTHENTIC if said.decision is ReviewDecision.AUTHENTIC else AnnotationKind.BOXES
    if kind is AnnotationKind.BOXES and not said.boxes:
        return None
    boxes = said.boxes if kind is AnnotationKind.BOXES else ()
    return annotations.add_annotation(session, _new(said.who, picture.sha256, kind, boxes, said.result_id, said.note))


def _restore(session: Session, who: str, annotation_id: int) -> None:
    """Take an annotation back and say again what it had replaced of the same person."""
    row = session.get(BoxAnnotation, annotation_id)
    if row is None or row.annotator != who:
        raise NotFound(f"no annotation {annotation_id} of yours")
    before = session.get(BoxAnnotation, row.replaces) if row.replaces is not None else None
    annotations.retract(session, annotation_id, who, "undone", AnnotationOrigin.PAGE)
    if before is not None and before.annotator == who and before.kind is not AnnotationKind.RETRACTED:
        again = _new(who, before.sha256, before.kind, before.pixel_boxes, before.result_id, before.note)
        annotations.add_annotation(session, again)


def _new(
    who: str, sha256: str, kind: AnnotationKind, boxes: Sequence[PixelBox], result_id: int | None, note: str
) -> NewAnnotation:
    return NewAnnotation(
        sha256=sha256,
        annotator=who,
        kind=kind,
        origin=AnnotationOrigin.PAGE,
        boxes=tuple(boxes),
        result_id=result_id,
        note=note,
    )
