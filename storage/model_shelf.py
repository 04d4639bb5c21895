"""All versions at a glance, sorted by what became of them. Callers bring the session.

Cards are large and versions are many after a year of nights: only those of the live version and of the candidates are read.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlmodel import Session, col, select

from schemas.errors import InvalidInput
from schemas.learning_tables import ModelDecision
from schemas.states import ModelAction, ModelStage
from schemas.tables import ModelVersion
from storage import registry
from storage.model_decisions import once_live

MOST_CANDIDATES: Final = 8
MOST_RETIRED: Final = 100


@dataclass(frozen=True)
class Retired:
    """A version that is out of use: why it stands there, and since when."""

    version: str
    reason: str
    since: datetime


@dataclass(frozen=True)
class Shelf:
    """Every version in its place, the newest first.

    Attributes:
        live: None before the first worker or audit.
        candidates: the newest ones, with their cards.
        rejected: what a person or the promotion rule refused.
        former: what was live once and was not rejected since.
        others: retired without either.
        more: whether some are left out.
        back_to: the version that a roll-back would make live; None where there is none.
    """

    live: ModelVersion | None
    candidates: Sequence[ModelVersion]
    rejected: Sequence[Retired]
    former: Sequence[Retired]
    others: Sequence[Retired]
    more: bool
    back_to: str | None


def shelf(session: Session) -> Shelf:
    """Look through all versions."""
    candidates = select(ModelVersion).where(ModelVersion.stage == ModelStage.CANDIDATE)
    newest = list(session.exec(candidates.order_by(col(ModelVersion.created_at).desc()).limit(MOST_CANDIDATES + 1)))
    columns = select(ModelVersion.version, ModelVersion.reason, ModelVersion.stage_changed_at)
    retired = columns.where(ModelVersion.stage == ModelStage.RETIRED).order_by(col(ModelVersion.stage_changed_at).desc())
    out_of_use = [Retired(*row) for row in session.exec(retired.limit(MOST_RETIRED + 1))]
    last, (_, ever) = _last_actions(session), once_live(session)
    shown = out_of_use[:MOST_RETIRED]
    rejected = [each for each in shown if last.get(each.version) is ModelAction.REJECT]
    former = [each for each in shown if each.version in ever and each not in rejected]
    return Shelf(
        live=registry.live(session),
        candidates=newest[:MOST_CANDIDATES],
        rejected=rejected,
        former=former,
        others=[each for each in shown if each not in rejected and each not in former],
        more=len(newest) > MOST_CANDIDATES or len(out_of_use) > MOST_RETIRED,
        back_to=_back_to(session),
    )


def _last_actions(session: Session) -> dict[str, ModelAction]:
    query = select(ModelDecision.version, col(ModelDecision.action)).order_by(col(ModelDecision.id))
    return {version: action for version, action in session.exec(query)}


def _back_to(session: Session) -> str | None:
    try:
        return registry.rollback_target(session)
    except InvalidInput:
        return None
