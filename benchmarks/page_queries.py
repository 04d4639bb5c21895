"""What the pages ask of SQL, and beat of people's words, in a store that `generated_rows` has filled."""

from datetime import timedelta

from sqlmodel import col, func, select

from benchmarks.stream_queries import Query
from schemas.geometry import PixelBox
from schemas.learning_tables import BoxAnnotation, Review, ReviewClaim
from schemas.states import AnnotationKind, AuditQueue, ReviewDecision, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import (
    annotation_queries,
    registry,
    result_list,
    review_claims,
    review_decisions,
    review_queue,
    stream_figures,
)
from storage.database import Database
from storage.review_decisions import Decision
from storage.review_queue import Place, QueueFilter
from web.pages.review.item import look_up

_CLAIM_S = 300.0
_BOX = PixelBox(x0=100, y0=120, x1=420, y1=380)
_ANYTHING = QueueFilter()
_OF_WECHAT = QueueFilter(source_profile="wechat")
_UNSURE = QueueFilter(unsure=True)


def page_queries(database: Database, versions: tuple[str, ...]) -> dict[str, Query]:
    """Everything that pages ask again and again, by what it is for; each may be called again and again, and is rolled back."""
    with database.read() as session:
        newest_end = session.exec(select(func.max(AuditJob.finished_at))).one()
        newest_word = annotation_queries.newest_annotation(session)
    return {
        "dashboard: endings of an hour": lambda session: stream_figures.endings(session, newest_end),
        "dashboard: failures by code": stream_figures.failures,
        "dashboard: newest 5,000 results": stream_figures.newest_results,
        "dashboard: webhooks": stream_figures.failing_webhooks,
        "dashboard: failed jobs of a code": lambda session: stream_figures.failed_jobs(session, "decode_failed", 50),
        "boxes since the last run": lambda session: annotation_queries.count_new(session, newest_word - 1000),
        "boxes since ever": lambda session: annotation_queries.count_new(session, 0),
        **_list_queries(database, versions),
        **_review_queries(database, versions),
    }


def _list_queries(database: Database, versions: tuple[str, ...]) -> dict[str, Query]:
    """The page of all results, newest first, with its filters."""
    with database.read() as session:
        middle = session.exec(select(AuditResult.id).order_by(col(AuditResult.id)).limit(1)).one() or 0
        middle += (session.exec(select(AuditResult.id).order_by(col(AuditResult.id).desc()).limit(1)).one() or 0) // 2
    month = now() - timedelta(days=30)
    every = tuple(Verdict)
    filters = {
        "any": QueueFilter(every),
        "flagged": QueueFilter((Verdict.FLAG,)),
        "of one network": QueueFilter(every, source_profile="wechat"),
        "of one queue": QueueFilter(every, queue=AuditQueue.HIGH),
        "score above 0.999": QueueFilter(every, least_score=0.999),
        "of the first version": QueueFilter(every, model_version=versions[0]),
        "of a month ago": QueueFilter(every, before=month, since=month - timedelta(days=1)),
    }

    def listed(wanted: QueueFilter, before: int | None = None) -> Query:
        return lambda session: result_list.newest_results(session, wanted, before, 50)

    found = {f"results list, {name}": listed(wanted) for name, wanted in filters.items()}
    return found | {"results list, further down": listed(QueueFilter(every), middle), "versions": registry.versions}


def _review_queries(database: Database, versions: tuple[str, ...]) -> dict[str, Query]:
    """The moderators' page."""
    with database.read() as session:
        held = session.exec(select(ReviewClaim).where(ReviewClaim.expires_at > now()).order_by(ReviewClaim.token)).first()
        last = col(Review.id).desc()
        spoken = select(Review, BoxAnnotation).join(BoxAnnotation, col(BoxAnnotation.result_id) == col(Review.result_id))
        spoken = spoken.where(BoxAnnotation.annotator == Review.reviewer, BoxAnnotation.kind == AnnotationKind.BOXES)
        review, annotation = session.exec(spoken.where(review_queue.standing()).order_by(last).limit(1)).one()
        (deep, *_) = review_queue.waiting(session, _ANYTHING, "", Place(Verdict.REVIEW, 0.95, 0), limit=1)
        session.expunge_all()
    assert held is not None
    who, number = held.holder, deep.place.result_id
    decision = Decision(held.result_id, ReviewDecision.MANIPULATED, who, held.token, (_BOX,))
    undone = (review.reviewer, review.id or 0, annotation.id)
    old = QueueFilter(model_version=versions[0])
    return {
        "review queue: count": lambda session: review_queue.count(session, _ANYTHING, who),
        "review queue: count, one network": lambda session: review_queue.count(session, _OF_WECHAT, who),
        "review queue: count, unsure": lambda session: review_queue.count(session, _UNSURE, who),
        "review queue: first 20": lambda session: review_queue.waiting(session, _ANYTHING, who),
        "review queue: 20 further down": lambda session: review_queue.waiting(session, _ANYTHING, who, deep.place),
        "review queue: 20 of the first version": lambda session: review_queue.waiting(session, old, who),
        "review: claim the next": lambda session: review_claims.claim_next(session, who, _ANYTHING, _CLAIM_S),
        "review: claim, one network": lambda session: review_claims.claim_next(session, who, _OF_WECHAT, _CLAIM_S),
        "review: claim, unsure": lambda session: review_claims.claim_next(session, who, _UNSURE, _CLAIM_S),
        "review: claim one": lambda session: review_claims.claim_result(session, deep.picture, number, who, _CLAIM_S),
        "review: renew a claim": lambda session: review_claims.renew(session, who, [held.token], _CLAIM_S),
        "review: release a claim": lambda session: review_claims.release(session, who, [held.token]) or True,
        "review: one picture, undecided": lambda session: look_up(session, number, who),
        "review: one picture, decided": lambda session: look_up(session, review.result_id, who),
        "review: decide": lambda session: review_decisions.decide(session, decision),
        "review: undo": lambda session: review_decisions.undo(session, *undone),
    }
