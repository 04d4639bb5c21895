"""What moderators have before them: undecided pictures, `flag` before `review`, most suspicious first.

A result is undecided until a person decides about its picture, whichever of its results they looked at; the column says so,
and an index over the undecided ones alone keeps the queue fast however many were decided before.
"""

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, and_, exists, func, literal_column, or_, text, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, SQLModel, col, select

from schemas.learning_tables import Review
from schemas.states import AuditQueue, ReviewDecision, Verdict
from schemas.tables import OWN_PICTURE, REVIEW_QUEUE, AuditJob, AuditResult

ORDER: Final = (Verdict.FLAG, Verdict.REVIEW)
COUNTED_UP_TO: Final = 1000
_RESULTS: Final = SQLModel.metadata.tables["audit_result"]


@dataclass(frozen=True)
class QueueFilter:
    """Which pictures are wanted. What is not given does not matter.

    Attributes:
        unsure: pictures about which others were unsure, and nobody sure, in place of undecided ones.
        source_profile: the social network that the picture was taken from.
        since, before: when the result was made, `before` exclusive.
    """

    verdicts: tuple[Verdict, ...] = ORDER
    unsure: bool = False
    queue: AuditQueue | None = None
    source_profile: str | None = None
    model_version: str | None = None
    least_score: float | None = None
    most_score: float | None = None
    since: datetime | None = None
    before: datetime | None = None


@dataclass(frozen=True)
class Place:
    """A result's place in the queue: what comes after it is less suspicious."""

    verdict: Verdict
    score: float
    result_id: int


@dataclass(frozen=True)
class Candidate:
    """A result that waits, with the picture that it is of."""

    place: Place
    picture: str
    sha256: str | None


@dataclass(frozen=True)
class Count:
    """How many pictures wait; at least so many where they were too many to count."""

    results: int
    exact: bool


def waiting(
    session: Session, wanted: QueueFilter, who: str, after: Place | None = None, without: Sequence[int] = (), limit: int = 20
) -> list[Candidate]:
    """The results that wait, in their order.

    Args:
        who: the moderator: of pictures that are unsure, those of others.
        after: go on behind this place.
        without: numbers of results that are not wanted now.
    """
    found: list[Candidate] = []
    for verdict in (each for each in ORDER if each in wanted.verdicts):
        if after is not None and ORDER.index(verdict) < ORDER.index(after.verdict):
            continue
        here = after if after is not None and after.verdict is verdict else None
        found += _of_verdict(session, verdict, wanted, who, here, without, limit - len(found))
        if len(found) >= limit:
            break
    return found


def count(session: Session, wanted: QueueFilter, who: str) -> Count:
    """How many results wait, counted as far as it is cheap."""
    total = 0
    for verdict in wanted.verdicts:
        query = select(col(AuditResult.id)).join(AuditJob).where(*_conditions(verdict, wanted, who))
        rows = query.limit(COUNTED_UP_TO + 1 - total).subquery()
        total += session.exec(select(func.count()).select_from(rows)).one()
        if total > COUNTED_UP_TO:
            return Count(COUNTED_UP_TO, exact=False)
    return Count(total, exact=True)


def settle(session: Session, job_id: Any, sha256: str | None, undecided: bool) -> None:
    """Note for all results of a picture whether a person has decided about it."""
    jobs = select(AuditJob.id).where(AuditJob.sha256 == sha256) if sha256 is not None else [job_id]
    changed = update(_RESULTS).where(_RESULTS.c.job_id.in_(jobs), _RESULTS.c.undecided.is_not(undecided))
    session.connection().execute(changed.values(undecided=undecided))


def settle_result(session: Session, result_id: int) -> None:
    """Take one result out of the queue: its picture was decided before the result was made."""
    session.connection().execute(update(_RESULTS).where(_RESULTS.c.id == result_id).values(undecided=False))


def decided(session: Session, candidates: Sequence[Candidate]) -> set[str]:
    """Those of these pictures about which somebody has decided."""
    hashes = [each.sha256 for each in candidates if each.sha256 is not None]
    numbers = [each.place.result_id for each in candidates]
    about = or_(col(Review.sha256).in_(hashes), col(Review.result_id).in_(numbers))
    rows = session.exec(select(Review.sha256, Review.result_id).where(about, standing())).all()
    by_number = {each.place.result_id: each.picture for each in candidates}
    return {sha256 for sha256, _ in rows if sha256} | {by_number[number] for _, number in rows if number in by_number}


def standing() -> ColumnElement[bool]:
    """The WHERE clause of decisions that were neither replaced nor taken back."""
    later = aliased(Review)
    return and_(col(Review.decision) != ReviewDecision.WITHDRAWN, ~exists().where(col(later.replaces) == col(Review.id)))


def _of_verdict(
    session: Session,
    verdict: Verdict,
    wanted: QueueFilter,
    who: str,
    after: Place | None,
    without: Sequence[int],
    limit: int,
) -> list[Candidate]:
    score, number = col(AuditResult.score), col(AuditResult.id)
    query = select(number, score, AuditJob.id, AuditJob.sha256).join(AuditJob).where(*_conditions(verdict, wanted, who))
    if after is not None:
        query = query.where(score <= after.score, or_(score < after.score, number < after.result_id))
    if without:
        query = query.where(number.not_in(list(without)))
    rows = session.exec(query.order_by(score.desc(), number.desc()).limit(limit)).all()
    return [
        Candidate(Place(verdict, found_score, result_id or 0), sha256 or job_id.hex, sha256)
        for result_id, found_score, job_id, sha256 in rows
    ]


def _conditions(verdict: Verdict, wanted: QueueFilter, who: str) -> list[ColumnElement[bool]]:
    conditions: list[Any] = [col(AuditResult.verdict) == literal_column(f"'{verdict.value}'")]
    if wanted.unsure:
        conditions += [col(AuditResult.profile) == OWN_PICTURE, _only_unsure(who)]
    else:
        conditions.append(text(REVIEW_QUEUE))
    return conditions + bounds(wanted)


def bounds(wanted: QueueFilter) -> list[ColumnElement[bool]]:
    """The WHERE clauses of everything but the verdicts, and who has decided."""
    score, made = col(AuditResult.score), col(AuditResult.created_at)
    limits = (
        (wanted.queue, col(AuditJob.queue), operator.eq),
        (wanted.source_profile, col(AuditJob.source_profile), operator.eq),
        (wanted.model_version, col(AuditResult.model_version), operator.eq),
        (wanted.least_score, score, operator.ge),
        (wanted.most_score, score, operator.le),
        (wanted.since, made, operator.ge),
        (wanted.before, made, operator.lt),
    )
    return [compare(column, value) for value, column, compare in limits if value is not None]


def _only_unsure(who: str) -> ColumnElement[bool]:
    """Somebody else was unsure about the result, and nobody who is sure, or who asks now, has said anything about it."""
    other, later = aliased(Review), aliased(Review)
    stands = and_(
        col(other.decision) != ReviewDecision.WITHDRAWN, ~exists().where(col(later.replaces) == col(other.id)).correlate(other)
    )
    clear = or_(col(other.decision) != ReviewDecision.UNSURE, col(other.reviewer) == who)
    unsure = select(col(Review.result_id)).where(Review.decision == ReviewDecision.UNSURE, standing())
    spoken = exists().where(col(other.result_id) == col(AuditResult.id), stands, clear)
    return and_(col(AuditResult.id).in_(unsure), ~spoken)
