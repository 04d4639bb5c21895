"""What the dashboard asks of SQL: every answer reads a bounded part of an index, however many millions of rows there are.

Callers bring the session, and keep the answers for a while (`storage.telemetry_probe`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, literal, union_all
from sqlalchemy import select as select_columns
from sqlmodel import Session, SQLModel, col, select

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.states import DeliveryState, JobState, Verdict
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, now
from storage import registry, telemetry_drift
from storage.recovery import dead_letter_codes
from storage.telemetry_drift import RECENT_SCORES, Reference

SPAN: Final = timedelta(minutes=5)
SPANS: Final = 12
MOST_ENDED: Final = 50_000
"""Endings counted in one span at most."""

NEWEST_RESULTS: Final = 5_000
NEWEST_FAILURES: Final = 10_000
_LEAST_SCORES: Final = 200
_JOBS = SQLModel.metadata.tables["audit_job"]


@dataclass(frozen=True)
class Ended:
    """Jobs that ended within `SPAN` of a time; at `MOST_ENDED` counting stopped."""

    begins: datetime
    count: int


@dataclass(frozen=True)
class Failures:
    """Jobs that failed under one code, among the newest `NEWEST_FAILURES`; `mendable` where another try may help."""

    code: str
    count: int
    newest: datetime
    mendable: bool


@dataclass(frozen=True)
class Drift:
    """How far the live version's newest scores lie from those that are expected.

    Attributes:
        version: the live one.
        psi: population stability index; None where there are too few scores.
        against: what is expected: "card", or "earlier" scores of the same version.
        scores: how many were looked at.
    """

    version: str
    psi: float | None
    against: str
    scores: int


@dataclass(frozen=True)
class Newest:
    """The newest results as submitted, of all versions.

    Attributes:
        verdicts: how many carry each verdict.
        since: when the oldest of them was stored; None without results.
        drift: None where no version is live.
    """

    verdicts: Mapping[Verdict, int]
    since: datetime | None
    drift: Drift | None


@dataclass(frozen=True)
class FailingWebhook:
    """A webhook that is stopped, or has deliveries that failed or are being tried again."""

    id: str
    url: str
    stopped_why: str
    failed: int
    tried_again: int


def endings(session: Session, at: datetime | None = None) -> list[Ended]:
    """Jobs that ended in each of the last twelve five minutes, oldest first."""
    until = at or now()
    finished = col(AuditJob.finished_at)
    parts = []
    for place in range(SPANS, 0, -1):
        begins, ends = until - place * SPAN, until - (place - 1) * SPAN
        some = select_columns(literal(1).label("one")).select_from(_JOBS).where(finished >= begins, finished < ends)
        parts.append(select_columns(literal(place), func.count()).select_from(some.limit(MOST_ENDED).subquery()))
    counted = {row[0]: row[1] for row in session.connection().execute(union_all(*parts))}
    return [Ended(until - place * SPAN, counted.get(place, 0)) for place in range(SPANS, 0, -1)]


def failures(session: Session) -> list[Failures]:
    """The newest failures by code, the most frequent first."""
    some = (
        select_columns(_JOBS.c.error_code, _JOBS.c.updated_at)
        .where(_JOBS.c.state == JobState.FAILED)
        .order_by(_JOBS.c.updated_at.desc())
        .limit(NEWEST_FAILURES)
        .subquery()
    )
    query = select_columns(some.c.error_code, func.count(), func.max(some.c.updated_at)).group_by(some.c.error_code)
    mendable = dead_letter_codes()
    found = [Failures(code or "", count, newest, code in mendable) for code, count, newest in session.connection().execute(query)]
    return sorted(found, key=lambda each: (-each.count, each.code))


def failed_jobs(session: Session, code: str, limit: int) -> list[AuditJob]:
    """The newest jobs that failed under a code, among the newest `NEWEST_FAILURES`."""
    some = (select(AuditJob.id).where(AuditJob.state == JobState.FAILED).order_by(col(AuditJob.updated_at).desc())).limit(
        NEWEST_FAILURES
    )
    query = select(AuditJob).where(col(AuditJob.id).in_(some.subquery().select()), AuditJob.error_code == code)
    return list(session.exec(query.order_by(col(AuditJob.updated_at).desc()).limit(limit)))


def newest_results(session: Session) -> Newest:
    """Verdicts and scores of the newest results."""
    query = select(col(AuditResult.verdict), AuditResult.score, AuditResult.model_version, AuditResult.created_at)
    query = query.where(AuditResult.profile == OWN_PICTURE).order_by(col(AuditResult.id).desc()).limit(NEWEST_RESULTS)
    rows = session.exec(query).all()
    verdicts = dict.fromkeys(Verdict, 0)
    for row in rows:
        verdicts[row[0]] += 1
    live = registry.live(session)
    drift = None
    if live is not None:
        metrics = live.card.get("metrics")
        scores = [score for _, score, version, _ in rows if version == live.version]
        drift = _drift(live.version, metrics if isinstance(metrics, dict) else {}, scores)
    return Newest(verdicts, rows[-1][3] if rows else None, drift)


def failing_webhooks(session: Session) -> list[FailingWebhook]:
    """Webhooks that want looking after, the stopped ones first."""
    failed = _deliveries(session, WebhookDelivery.state == DeliveryState.FAILED)
    again = _deliveries(session, WebhookDelivery.state == DeliveryState.WAITING, WebhookDelivery.attempts > 0)
    found = [
        FailingWebhook(row.id, row.url, row.stopped_why, failed.get(row.id, 0), again.get(row.id, 0))
        for row in session.exec(select(Webhook).order_by(col(Webhook.created_at)))
    ]
    wanted = [each for each in found if each.stopped_why or each.failed or each.tried_again]
    return sorted(wanted, key=lambda each: not each.stopped_why)


def _drift(version: str, metrics: Mapping[str, object], newest_first: Sequence[float]) -> Drift:
    """Against the card's histogram; a card without one leaves the version's own earlier scores."""
    reference, recent = Reference.of_card(metrics), newest_first[:RECENT_SCORES]
    earlier = newest_first[RECENT_SCORES:]
    against = "card"
    if reference is None:
        against = "earlier"
        reference = Reference.of_scores(earlier) if len(earlier) >= _LEAST_SCORES else None
    if reference is None or len(recent) < _LEAST_SCORES:
        return Drift(version, None, against, len(recent))
    return Drift(version, telemetry_drift.population_stability_index(reference, recent), against, len(recent))


def _deliveries(session: Session, *which: object) -> dict[str, int]:
    some = select(WebhookDelivery.webhook_id).where(*which).limit(NEWEST_FAILURES).subquery()  # type: ignore[arg-type]
    query = select_columns(some.c.webhook_id, func.count()).group_by(some.c.webhook_id)
    return {row[0]: row[1] for row in session.connection().execute(query)}
