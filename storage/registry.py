"""Which student versions exist, and which one is live."""

from typing import Any

from sqlmodel import Session, col, select

from schemas.errors import InvalidInput
from schemas.states import ModelStage
from schemas.tables import ModelVersion, now

PACKAGE_LOCATION = "package"
"""The location of the student that ships with the release."""


def register(session: Session, version: str, card: dict[str, Any], location: str, reason: str) -> ModelVersion:
    """Add a version as CANDIDATE; a version that is known is returned as it is."""
    known = session.get(ModelVersion, version)
    if known is not None:
        return known
    row = ModelVersion(version=version, card=card, location=location, reason=reason)
    session.add(row)
    session.flush()
    return row


def set_live(session: Session, version: str, reason: str) -> ModelVersion:
    """Make a version the live one and retire the one that was, in the caller's one transaction.

    Raises:
        InvalidInput: no such version, or its stage does not allow it.
    """
    chosen = get(session, version)
    if chosen.stage is ModelStage.LIVE:
        return chosen
    _check(chosen, ModelStage.LIVE)
    current = live(session)
    if current is not None:
        _move(session, current, ModelStage.RETIRED, f"replaced by {version}")
    _move(session, chosen, ModelStage.LIVE, reason)
    return chosen


def ensure_live(session: Session, version: str, card: dict[str, Any], location: str) -> ModelVersion:
    """Register the student that ships with the release, and make it live only where nothing else ever was."""
    row = register(session, version, card, location, "ships with the release")
    current = live(session)
    return current or set_live(session, row.version, "first model of this installation")


def live(session: Session) -> ModelVersion | None:
    """The live version, or None before the first one is set."""
    return session.exec(select(ModelVersion).where(ModelVersion.stage == ModelStage.LIVE)).one_or_none()


def get(session: Session, version: str) -> ModelVersion:
    """One version by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    row = session.get(ModelVersion, version)
    if row is None:
        raise InvalidInput(f"no model version '{version}'; `tamperwatch models list` shows them")
    return row


def versions(session: Session) -> list[ModelVersion]:
    """All versions, newest first."""
    return list(session.exec(select(ModelVersion).order_by(col(ModelVersion.created_at).desc())))


def _move(session: Session, row: ModelVersion, stage: ModelStage, reason: str) -> None:
    _check(row, stage)
    row.stage, row.reason, row.stage_changed_at = stage, reason, now()
    session.add(row)
    # Flushed one by one: the index that allows one live row must never see two.
    session.flush()


def _check(row: ModelVersion, stage: ModelStage) -> None:
    if not row.stage.may_become(stage):
        raise InvalidInput(f"{row.version} is {row.stage.value} and cannot become {stage.value}")
