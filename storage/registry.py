"""Which student versions exist, which one is live, and every decision about them.

A version changes its stage only here, and never without a `ModelDecision` row in the same transaction that says who decided,
why, and on which figures. Callers bring the session. All changes take turns, and a decision may name the version it was made
against: of two that would replace the same live version at once the first one holds, and the second is told.
"""

import uuid
from collections.abc import Mapping, Set
from typing import Any

from sqlmodel import Session, col, select

from schemas.errors import InvalidInput
from schemas.states import ModelAction, ModelStage
from schemas.tables import ModelVersion, now
from storage.model_decisions import Why, decisions, once_live, record, rejection
from storage.turns import take_turns

__all__ = ["decisions", "rejection"]  # beside what is defined here

PACKAGE_LOCATION = "package"
"""The location of the student that ships with the release."""

OURSELVES = "tamperwatch"
"""Who decides where no person did: the installation itself, or its promotion rule."""

_TURN = "model registry"
_LONGEST_NAME = 128


def register(
    session: Session,
    version: str,
    card: Mapping[str, Any],
    location: str,
    who: str,
    reason: str,
    run_id: uuid.UUID | None = None,
    figures: Mapping[str, Any] | None = None,
    action: ModelAction = ModelAction.REGISTER,
) -> ModelVersion:
    """Add a version as CANDIDATE; one that is known is returned as it is, and nothing is recorded.

    Args:
        card: of the version, as JSON.
        location: of its files: `PACKAGE_LOCATION`, a folder, or what `storage.model_files.store_student` returned.
        who, reason: for the record.
        run_id: the retraining run that made it.
        figures: whatever numbers speak for or against it.
        action: REGISTER, or IMPORT for one that was made elsewhere.
    """
    _begin(session, who, reason)
    known = _found(session, version)
    if known is not None:
        return known
    row = ModelVersion(version=version, card=dict(card), location=location, reason=reason)
    session.add(row)
    session.flush()
    record(session, version, action, None, Why(who, reason, run_id, figures))
    return row


def promote(
    session: Session,
    version: str,
    who: str,
    reason: str,
    run_id: uuid.UUID | None = None,
    figures: Mapping[str, Any] | None = None,
    *,
    from_version: str | None = None,
    override: bool = False,
) -> ModelVersion:
    """Make a version the live one and retire the one that was; one that is live already is returned as it is.

    Args:
        from_version: the live version that the decision was made against; None for whichever is live.
        override: promote it although it was rejected; the decision's figures say so.

    Raises:
        InvalidInput: no such version; it was rejected; or another one has been made live than the decision reckoned with.
    """
    _begin(session, who, reason)
    chosen, current = get(session, version), live(session)
    if chosen.stage is ModelStage.LIVE:
        return chosen
    _check_against(version, from_version, current)
    refusal = rejection(session, version)
    if refusal is not None and not override:
        raise InvalidInput(
            f"{version} was rejected by {refusal.who} ({refusal.reason.rstrip('.')}); to promote it all the same, override that"
        )
    noted = dict(figures or {}) | ({"override": True} if refusal is not None else {})
    return _put_live(session, chosen, current, ModelAction.PROMOTE, Why(who, reason, run_id, noted))


def reject(
    session: Session,
    version: str,
    who: str,
    reason: str,
    run_id: uuid.UUID | None = None,
    figures: Mapping[str, Any] | None = None,
) -> ModelVersion:
    """Retire a version that is not live, so that neither a roll-back nor a promotion without override makes it live.

    Raises:
        InvalidInput: no such version, or it is live.
    """
    _begin(session, who, reason)
    row = get(session, version)
    if row.stage is ModelStage.LIVE:
        raise InvalidInput(f"{version} is live; roll back to another version first, then reject it")
    _move(session, row, ModelStage.RETIRED, f"rejected: {reason}")
    record(session, version, ModelAction.REJECT, None, Why(who, reason, run_id, figures))
    return row


def rollback(session: Session, who: str, reason: str, to: str | None = None, *, from_version: str | None = None) -> ModelVersion:
    """Make the version live that was live before, by the record of decisions; called again, the one before that.

    It works as an editor's undo does: a promotion puts a version on top of a pile, a roll-back takes the top ones off. What
    was rolled back from is not gone back to, nor is what was rejected since.

    Args:
        to: a certain version that was live once, further down the pile or taken off it.
        from_version: as in `promote`.

    Raises:
        InvalidInput: there is none to go back to, or `to` was never live or has been rejected.
    """
    _begin(session, who, reason)
    current = live(session)
    target = rollback_target(session, to)
    _check_against(target, from_version, current)
    return _put_live(session, get(session, target), current, ModelAction.ROLLBACK, Why(who, reason))


def rollback_target(session: Session, to: str | None = None) -> str:
    """The version that `rollback` would make live.

    Raises:
        InvalidInput: as `rollback`.
    """
    current = live(session)
    pile, ever = once_live(session)
    if to is not None:
        _check_target(session, to, current, ever)
        return to
    below = pile[:-1] if pile and current is not None and pile[-1] == current.version else pile
    target = next((each for each in reversed(below) if rejection(session, each) is None), None)
    if target is None:
        raise InvalidInput("no version was live before this one that was not rejected since; promote one by name")
    return target


def ensure_live(session: Session, version: str, card: dict[str, Any], location: str) -> ModelVersion:
    """Register the student that ships with the release, and make it live only where nothing else ever was."""
    row = register(session, version, card, location, OURSELVES, "ships with the release")
    return live(session) or promote(session, row.version, OURSELVES, "first model of this installation", override=True)


def live(session: Session) -> ModelVersion | None:
    """The live version, or None before the first one is set."""
    query = select(ModelVersion).where(ModelVersion.stage == ModelStage.LIVE)
    return session.exec(query.execution_options(populate_existing=True)).one_or_none()


def get(session: Session, version: str) -> ModelVersion:
    """One version by name.

    Raises:
        InvalidInput: there is none of that name.
    """
    row = _found(session, version)
    if row is None:
        raise InvalidInput(f"no model version '{version}'; `tamperwatch models list` shows them")
    return row


def versions(session: Session) -> list[ModelVersion]:
    """All versions, newest first."""
    return list(session.exec(select(ModelVersion).order_by(col(ModelVersion.created_at).desc())))


def _begin(session: Session, who: str, reason: str) -> None:
    """Raises InvalidInput: nobody, or no reason, is named."""
    if not who.strip() or len(who) > _LONGEST_NAME:
        raise InvalidInput(f"say who decides, in up to {_LONGEST_NAME} characters")
    if not reason.strip():
        raise InvalidInput("say why: a decision about a model is recorded with its reason")
    take_turns(session, [_TURN])


def _found(session: Session, version: str) -> ModelVersion | None:
    """As it stands now, whatever this session read before its turn came."""
    return session.get(ModelVersion, version, populate_existing=True)


def _check_against(version: str, expected: str | None, current: ModelVersion | None) -> None:
    if expected is not None and (current is None or current.version != expected):
        stands = f"{current.version} is live" if current else "none is live"
        raise InvalidInput(
            f"{version} was to replace {expected}, but {stands} by now: another decision was faster; look again and decide anew"
        )


def _check_target(session: Session, to: str, current: ModelVersion | None, ever: Set[str]) -> None:
    get(session, to)
    if current is not None and current.version == to:
        raise InvalidInput(f"{to} is live already")
    if to not in ever:
        raise InvalidInput(f"{to} was never live, so there is no going back to it; promote it instead")
    refusal = rejection(session, to)
    if refusal is not None:
        raise InvalidInput(f"{to} was rejected since it was live ({refusal.reason.rstrip('.')}); promote it with an override")


def _put_live(
    session: Session, chosen: ModelVersion, current: ModelVersion | None, action: ModelAction, why: Why
) -> ModelVersion:
    before, reason = current.version if current else None, why.reason
    if current is not None:
        _move(session, current, ModelStage.RETIRED, f"replaced by {chosen.version}")
        if action is ModelAction.ROLLBACK:
            reason = f"back from {before}: {reason}"
    _move(session, chosen, ModelStage.LIVE, reason)
    record(session, chosen.version, action, before, why)
    return chosen


def _move(session: Session, row: ModelVersion, stage: ModelStage, reason: str) -> None:
    # A retired version may be rejected, which changes only what is said of it.
    if row.stage is not stage and not row.stage.may_become(stage):
        raise InvalidInput(f"{row.version} is {row.stage.value} and cannot become {stage.value}")
    row.stage, row.reason, row.stage_changed_at = stage, reason, now()
    session.add(row)
    # Flushed one by one: the index that allows one live row must never see two.
    session.flush()
