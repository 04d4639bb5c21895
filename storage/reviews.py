"""What moderators decided about results. Rows are only added: a change of mind replaces the reviewer's earlier row."""

import uuid
from dataclasses import dataclass

from sqlmodel import Session, col, select

from schemas.errors import Conflict, InvalidInput
from schemas.learning_tables import Review
from schemas.states import ReviewDecision
from schemas.tables import AuditJob, AuditResult
from storage import audit_log, review_queue
from storage.annotation_checks import storable
from storage.turns import take_turns

_LONGEST_NAME = 128
_LONGEST_NOTE = 4096


@dataclass(frozen=True)
class Reviewed:
    """The picture behind a result."""

    result_id: int
    job_id: uuid.UUID
    sha256: str | None
    source: str


def picture_of(session: Session, result_id: int) -> Reviewed:
    """The job and the picture of a result.

    Raises:
        InvalidInput: there is no such result, or it was purged.
    """
    query = select(AuditJob).join(AuditResult).where(AuditResult.id == result_id)
    job = session.exec(query).one_or_none()
    if job is None:
        raise InvalidInput(f"no result {result_id}; it may have been purged. `tamperwatch results` shows what there is")
    return Reviewed(result_id, job.id, job.sha256, job.source)


def add_review(
    session: Session, result_id: int, decision: ReviewDecision, reviewer: str, note: str = "", seen: int | None = None
) -> Review:
    """Store a decision; the same reviewer's standing one is replaced. Saying the same again adds nothing.

    Args:
        seen: number of the newest decision about the result that the reviewer knows of, 0 for none; None does not ask.

    Raises:
        InvalidInput: no such result, no name, or a text that is too long or cannot be shown.
        Conflict: somebody else decided after `seen`.
    """
    reviewer, note = reviewer.strip(), note.strip()
    _check_texts(reviewer, note)
    picture = picture_of(session, result_id)
    take_turns(session, [f"review {result_id}", *([picture.sha256] if picture.sha256 else [])])
    standing = standing_reviews(session, result_id)
    own = next((each for each in standing if each.reviewer == reviewer), None)
    if own is not None and (own.decision, own.note) == (decision, note):
        return own
    if own is None and decision is ReviewDecision.WITHDRAWN:
        raise InvalidInput(f"there is no decision of {reviewer} about result {result_id} that could be taken back")
    if seen is not None and (newer := [each for each in standing if (each.id or 0) > seen and each is not own]):
        last = newer[-1]
        raise Conflict(f"{last.reviewer} decided meanwhile: {last.decision.value} (review {last.id})")
    row = Review(
        result_id=result_id,
        job_id=picture.job_id,
        sha256=picture.sha256,
        decision=decision,
        reviewer=reviewer,
        note=note,
        replaces=own.id if own is not None else None,
    )
    session.add(row)
    session.flush()
    review_queue.settle(
        session, picture.job_id, picture.sha256, undecided=not standing_of_picture(session, result_id, picture.sha256)
    )
    audit_log.append(
        session,
        reviewer,
        "review.add",
        f"result {result_id}",
        row=row.id,
        picture=picture.sha256,
        decision=decision.value,
        note=note,
        replaces=row.replaces,
    )
    return row


def _check_texts(reviewer: str, note: str) -> None:
    """Raises InvalidInput: a name or a note that cannot be stored."""
    if not reviewer or len(reviewer) > _LONGEST_NAME or not reviewer.isprintable():
        raise InvalidInput(f"the reviewer's name must have 1 to {_LONGEST_NAME} characters that can be shown")
    if len(note) > _LONGEST_NOTE or not storable(note):
        raise InvalidInput(f"the note must have at most {_LONGEST_NOTE} characters, all of them valid; it has {len(note)}")


def standing_reviews(session: Session, result_id: int) -> list[Review]:
    """The newest decision of each reviewer about a result, oldest first."""
    query = select(Review).where(Review.result_id == result_id, review_queue.standing())
    return list(session.exec(query.order_by(col(Review.id))))


def standing_of_picture(session: Session, result_id: int, sha256: str | None) -> list[Review]:
    """The standing decisions about any result of a picture, oldest first; of the result alone where its bytes are unknown."""
    if sha256 is None:
        return standing_reviews(session, result_id)
    query = select(Review).where(Review.sha256 == sha256, review_queue.standing())
    return list(session.exec(query.order_by(col(Review.id))))


def reviews_of_picture(session: Session, sha256: str) -> list[Review]:
    """Every decision about any result of a picture, oldest first, with those that were replaced."""
    return list(session.exec(select(Review).where(Review.sha256 == sha256).order_by(col(Review.id))))
