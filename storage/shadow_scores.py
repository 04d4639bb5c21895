"""What candidates said of live traffic, and which version a shadow or a canary should be. Callers bring the session."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from sqlalchemy import func
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col, select

from schemas.learning_tables import ShadowScore
from schemas.states import ModelStage, Verdict
from schemas.tables import ModelVersion

NEWEST_CANDIDATE = "candidate"
"""In the place of a version: the candidate that was registered last."""


@dataclass(frozen=True)
class ShadowSummary:
    """A candidate beside the live model on the same pictures.

    Attributes:
        pictures: how many.
        same_verdict: share of them with the same verdict.
        mean_agreement: mean IoU of the two masks.
        changes: how many pictures for each (live verdict, candidate verdict).
        differences: [N] candidate score minus live score, ascending.
        live_versions: those it was compared with.
    """

    pictures: int
    same_verdict: float
    mean_agreement: float
    changes: dict[tuple[Verdict, Verdict], int]
    differences: Sequence[float]
    live_versions: Sequence[str]


def add_shadow_score(session: Session, row: ShadowScore) -> None:
    """Store what a candidate said of one job's picture, unless that is known."""
    module: ModuleType = postgresql if session.get_bind().dialect.name == "postgresql" else sqlite
    session.execute(module.insert(ShadowScore).on_conflict_do_nothing(), [row.model_dump(exclude={"id"})])


def shadow_count(session: Session, version: str) -> int:
    """How many pictures a candidate has scored."""
    return session.exec(select(func.count()).where(ShadowScore.candidate_version == version)).one()


def shadow_scores(session: Session, version: str) -> list[ShadowScore]:
    """Everything a candidate said, oldest first."""
    return list(session.exec(select(ShadowScore).where(ShadowScore.candidate_version == version).order_by(col(ShadowScore.id))))


def summarised(rows: Sequence[ShadowScore]) -> ShadowSummary | None:
    """The rows of one candidate in figures; None without any."""
    if not rows:
        return None
    changes: dict[tuple[Verdict, Verdict], int] = {}
    for row in rows:
        verdicts = (row.live_verdict, row.candidate_verdict)
        changes[verdicts] = changes.get(verdicts, 0) + 1
    same = sum(count for (live, candidate), count in changes.items() if live is candidate)
    return ShadowSummary(
        pictures=len(rows),
        same_verdict=same / len(rows),
        mean_agreement=sum(row.mask_agreement for row in rows) / len(rows),
        changes=changes,
        differences=sorted(row.candidate_score - row.live_score for row in rows),
        live_versions=sorted({row.live_version for row in rows}),
    )


def most_changed(rows: Sequence[ShadowScore], limit: int) -> list[ShadowScore]:
    """One row a picture: other verdicts first, then by how far scores and masks lie apart."""
    by_picture = {row.sha256: row for row in rows}
    return sorted(by_picture.values(), key=_change, reverse=True)[:limit]


def wanted_version(session: Session, named: str) -> ModelVersion | None:
    """The version that a setting names for work beside the live one.

    Returns:
        None if the name is empty or unknown, and for a version that is live already; for `NEWEST_CANDIDATE` also where there
        is no candidate.
    """
    if not named:
        return None
    query = select(ModelVersion).where(ModelVersion.stage != ModelStage.LIVE)
    if named == NEWEST_CANDIDATE:
        query = query.where(ModelVersion.stage == ModelStage.CANDIDATE)
    else:
        query = query.where(ModelVersion.version == named)
    return session.exec(query.order_by(col(ModelVersion.created_at).desc()).limit(1)).first()


def _change(row: ShadowScore) -> tuple[bool, float]:
    apart = abs(row.candidate_score - row.live_score) + 1 - row.mask_agreement
    return row.live_verdict is not row.candidate_verdict, apart
