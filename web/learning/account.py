"""All that there is to say of one model version beside another: read once, for the page and for the report as a file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from schemas.errors import InvalidInput
from schemas.learning_tables import ModelDecision, RetrainRun
from schemas.states import ModelAction
from schemas.tables import ModelVersion
from storage import registry, shadow_scores
from storage.blobs import BlobStore
from storage.database import Database
from storage.learned_boxes import boxes_of
from storage.model_changes import Change, changes_between, largest_changes
from storage.model_record import Ancestor, ModelRecord, model_record, run_of
from storage.run_files import held_out_changes, measured
from storage.shadow_scores import ShadowSummary
from web.learning.figures import CheckRow, FigureRow, check_rows, figure_rows, held_out_rows
from web.learning.words import Fact, created_at, facts_of, measures


@dataclass(frozen=True)
class Forebear:
    """One step of the line: a version, when it was made, and what is said of it; `known` where it is registered here."""

    name: str
    made: str
    words: str
    figures: str
    known: bool = True


@dataclass(frozen=True)
class Account:
    """One version.

    Attributes:
        row: the version.
        run: that made it, if any.
        against: the version it is held against; None where there is none.
        facts: where it comes from.
        line: root first, this version last.
        checks: what the promotion rule found.
        held_out: means over the pictures that were held out from its run.
        figures: validation figures of both cards, in groups.
        same_data: whether both cards were measured on the same pictures; None where the other card has no figures.
        decisions: about it, and those that put another in its place; oldest first.
        shadow: it beside live traffic, if it was.
    """

    row: ModelVersion
    run: RetrainRun | None
    against: ModelVersion | None
    facts: Sequence[Fact]
    line: Sequence[Forebear]
    checks: Sequence[CheckRow]
    held_out: Sequence[FigureRow]
    figures: Sequence[tuple[str, Sequence[FigureRow]]]
    same_data: bool | None
    decisions: Sequence[ModelDecision]
    shadow: ShadowSummary | None


@dataclass(frozen=True)
class Glance:
    """A candidate beside the live version, without what takes long to read.

    Attributes:
        row: the version.
        run: that made it, if any.
        checks: what the promotion rule found.
        held_out: means over the hold-out of its run; none unless that compared it with the version that is live now.
        figures: validation figures of both cards, in groups.
        same_data: as in `Account`.
        measures: its card's figures in words.
    """

    row: ModelVersion
    run: RetrainRun | None
    checks: Sequence[CheckRow]
    held_out: Sequence[FigureRow]
    figures: Sequence[tuple[str, Sequence[FigureRow]]]
    same_data: bool | None
    measures: str


def glance_of(session: Session, row: ModelVersion, live: ModelVersion | None) -> Glance:
    """Look at a version beside the live one; the caller brings the session."""
    run = run_of(session, row.version)
    theirs = metrics_of(live) if live is not None and live.version != row.version else {}
    ours = metrics_of(row)
    found = measured(run, live.version) if live is not None else None
    return Glance(
        row=row,
        run=run,
        checks=check_rows(run.decision.get("checks") if run and found else None),
        held_out=held_out_rows(*found) if found else [],
        figures=figure_rows(theirs, ours),
        same_data=_same_data(ours, theirs),
        measures=measures(row.card.get("metrics")),
    )


def account_of(database: Database, blobs: BlobStore, version: str, against: str | None = None) -> Account:
    """Read everything about a version, but for pictures.

    Args:
        database, blobs: of the installation.
        version: its name.
        against: the version to hold it against; None for the one that its run compared it with, or else the nearest.

    Raises:
        InvalidInput: there is none of that name, or `against` names the version itself.
    """
    with database.read() as session:
        record = model_record(session, version)
        other = _other(session, record, against)
        shadow = shadow_scores.summarised(shadow_scores.shadow_scores(session, version))
        session.expunge_all()
    ours, theirs = metrics_of(record.row), metrics_of(other)
    found = measured(record.run, other.version) if other is not None else None
    return Account(
        row=record.row,
        run=record.run,
        against=other,
        facts=facts_of(record, boxes_of(record.run, blobs)),
        line=_line(record),
        checks=check_rows(record.run.decision.get("checks") if record.run else None),
        held_out=held_out_rows(*found) if found else [],
        figures=figure_rows(theirs, ours),
        same_data=_same_data(ours, theirs),
        decisions=record.decisions,
        shadow=shadow,
    )


def changes_of(database: Database, blobs: BlobStore, account: Account, limit: int) -> list[Change]:
    """The pictures that changed most from the version it is held against: of the hold-out, and of live traffic."""
    if account.against is None:
        return []
    old, new = account.against.version, account.row.version
    held_out = held_out_changes(account.run, old, blobs)
    with database.read() as session:
        return largest_changes([*held_out, *changes_between(session, old, new, limit)], limit)


def metrics_of(row: ModelVersion | None) -> dict[str, Any]:
    """The figures of a version's card; none where it has none."""
    found = row.card.get("metrics") if row is not None else None
    return found if isinstance(found, dict) else {}


def _same_data(ours: dict[str, Any], theirs: dict[str, Any]) -> bool | None:
    return ours.get("dataset_sha256") == theirs.get("dataset_sha256") if theirs else None


def _other(session: Session, record: ModelRecord, against: str | None) -> ModelVersion | None:
    """The version named; else the one its run compared it with; else the one it replaced, its parent, or the live one."""
    if against is not None:
        if against == record.row.version:
            raise InvalidInput(f"{against} is the version itself; hold it against another one")
        return registry.get(session, against)
    replaced = [
        each.from_version
        for each in record.decisions
        if each.action is ModelAction.PROMOTE and each.version == record.row.version
    ]
    compared = record.run.decision.get("live") if record.run else None
    parent = record.run.parent_version if record.run else None
    live = registry.live(session)
    for name in (compared, *replaced[-1:], parent, live.version if live else None):
        found = session.get(ModelVersion, name) if name and name != record.row.version else None
        if found is not None:
            return found
    return None


def _line(record: ModelRecord) -> list[Forebear]:
    own = Ancestor(record.row.version, record.row, record.run)
    return [_forebear(each) for each in reversed([own, *record.ancestors])]


def _forebear(each: Ancestor) -> Forebear:
    if each.row is None:
        return Forebear(each.name, "", "not registered here", "", known=False)
    words = f"{each.row.stage.value}: {each.row.reason}"
    return Forebear(each.name, created_at(each.row.card), words, measures(each.row.card.get("metrics")))
