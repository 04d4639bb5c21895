"""The record of what was decided about model versions, and what it says of the order in which they were live.

Rows are only ever added, by `storage.registry`. Callers bring the session.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session, col, select

from schemas.learning_tables import ModelDecision
from schemas.states import ModelAction
from storage import audit_log


@dataclass(frozen=True)
class Why:
    """What every decision is recorded with.

    Attributes:
        who: a person's name, or the installation itself.
        reason: in words.
        run_id: the retraining run it belongs to.
        figures: whatever numbers speak for it.
    """

    who: str
    reason: str
    run_id: uuid.UUID | None = None
    figures: Mapping[str, Any] | None = None


def record(session: Session, version: str, action: ModelAction, from_version: str | None, why: Why) -> None:
    """Add a row; `from_version` is the version that was live before, where this changed."""
    row = ModelDecision(
        version=version,
        action=action,
        from_version=from_version,
        who=why.who.strip(),
        reason=why.reason.strip(),
        run_id=why.run_id,
        figures=dict(why.figures or {}),
    )
    session.add(row)
    session.flush()
    audit_log.append(
        session,
        row.who,
        f"model.{action.value}",
        f"model {version}",
        row=row.id,
        reason=row.reason,
        from_version=from_version,
        run=None if row.run_id is None else str(row.run_id),
        # Of figures, which may be many, what proves that the decision's own row still has them.
        figures_sha256=audit_log.digest(row.figures),
    )


def decisions(session: Session, version: str | None = None) -> list[ModelDecision]:
    """What was decided, oldest first: about one version, or about all."""
    query = select(ModelDecision).order_by(col(ModelDecision.id))
    return list(session.exec(query if version is None else query.where(ModelDecision.version == version)))


def rejection(session: Session, version: str) -> ModelDecision | None:
    """The decision by which a version is rejected, unless it was made live since."""
    last = decisions(session, version)[-1:]
    return last[0] if last and last[0].action is ModelAction.REJECT else None


def once_live(session: Session) -> tuple[list[str], set[str]]:
    """The pile of versions that were live, the present one on top, and all that ever were.

    A promotion puts a version on top; a roll-back takes off what lies above the version it goes back to.
    """
    pile: list[str] = []
    ever: set[str] = set()
    # Without the figures: there may be thousands of rows.
    query = select(ModelDecision.action, ModelDecision.version, ModelDecision.from_version).order_by(col(ModelDecision.id))
    for action, version, before in session.exec(query):
        if action not in (ModelAction.PROMOTE, ModelAction.ROLLBACK):
            continue
        if before and (not pile or pile[-1] != before):
            pile.append(before)  # made live before decisions were recorded
        places = [place for place, each in enumerate(pile) if each == version]
        if action is ModelAction.ROLLBACK and places:
            del pile[places[-1] + 1 :]
        else:
            pile.append(version)
        ever.update(pile)
    return pile, ever
