"""`tamperwatch models report`: one version on one page, as a file."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlmodel import Session

from cli.console import load_settings, plain, progress_bar, stdout
from cli.model_boxes import boxes_of
from cli.model_figures import FigureRow, check_rows, figure_rows, held_out_rows
from cli.model_report import Forebear, ModelReport, write_model_report
from cli.model_report_pictures import ChangedPicture, Painter
from cli.model_run_files import held_out_changes, is_png, measured, run_curves
from cli.model_words import created_at, facts_of, measures
from cli.output import writing
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.settings import Settings
from schemas.states import ModelAction
from schemas.tables import ModelVersion, now
from storage import registry, shadow_scores
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.model_changes import Change, changes_between, largest_changes, masks_of
from storage.model_record import Ancestor, ModelRecord, model_record
from storage.pictures import names_of
from workers.runtime import live_version


def report(
    version: Annotated[str | None, typer.Argument(help="A version; the live one if left out.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; VERSION.html if left out.")] = None,
    against: Annotated[
        str | None, typer.Option(help="Version to hold it against; if left out, the one it was measured against.")
    ] = None,
    curves: Annotated[Path | None, typer.Option(help="curves.png of its training run, if the store has none.")] = None,
    pictures: Annotated[int, typer.Option(min=0, max=500, help="Most changed pictures to show.")] = 24,
) -> None:
    """Write one HTML file on a version: where it comes from, figures beside another version, decisions, changed pictures.

    Pictures come from jobs that both versions audited and from shadow mode. The file holds everything and loads nothing.

    \b
    Examples:
      tamperwatch models report
      tamperwatch models report student-4-1f0c9a77 --out student-4.html --against student-3-38496d2f
    """
    settings = load_settings()
    blobs = open_blob_store(settings.blobs)
    with closing(open_store(settings.database_url)) as database:
        chosen = version or live_version(database).version
        target = out or Path(f"{chosen}.html")
        made = _gathered(database, blobs, settings, chosen, against, curves, pictures)
    with writing(target):
        write_model_report(made, target)
    stdout.print(f"wrote {plain(str(target))}", highlight=False, soft_wrap=True)


def _gathered(
    database: Database,
    blobs: BlobStore,
    settings: Settings,
    chosen: str,
    against: str | None,
    curves: Path | None,
    limit: int,
) -> ModelReport:
    with database.read() as session:
        record = model_record(session, chosen)
        other = _other(session, record, against)
        shadow = shadow_scores.summarised(shadow_scores.shadow_scores(session, chosen))
        changes = _changes(session, record, other, blobs, limit)
        masks = masks_of(session, [each.result_id for change in changes for each in (change.old, change.new) if each.result_id])
        names = names_of(session, [change.sha256 for change in changes])
        session.expunge_all()
    painter = Painter(blobs, settings, masks, other or record.row, record.row)
    ours, theirs = _metrics(record.row), _metrics(other)
    return ModelReport(
        row=record.row,
        run=record.run,
        against=other,
        facts=facts_of(record, boxes_of(record.run, blobs)),
        line=_line(record),
        checks=check_rows(record.run.decision.get("checks") if record.run else None),
        held_out=_held_out(record, other),
        figures=figure_rows(theirs, ours),
        same_data=ours.get("dataset_sha256") == theirs.get("dataset_sha256") if theirs else None,
        curves_png=_curves(curves) if curves is not None else run_curves(record.run, blobs),
        decisions=record.decisions,
        shadow=shadow,
        pictures=_painted(painter, changes, names),
        created=now(),
    )


def _other(session: Session, record: ModelRecord, against: str | None) -> ModelVersion | None:
    """The version named; else the one its run compared it with; else the one it replaced, its parent, or the live one."""
    if against is not None:
        if against == record.row.version:
            raise InvalidInput(f"--against {against} is the version itself")
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
    """Root first."""
    own = Ancestor(record.row.version, record.row, record.run)
    return [_forebear(each) for each in reversed([own, *record.ancestors])]


def _forebear(each: Ancestor) -> Forebear:
    if each.row is None:
        return Forebear(each.name, "", "not registered here", "")
    words = f"{each.row.stage.value}: {each.row.reason}"
    return Forebear(each.name, created_at(each.row.card), words, measures(each.row.card.get("metrics")))


def _metrics(row: ModelVersion | None) -> dict[str, Any]:
    found = row.card.get("metrics") if row is not None else None
    return found if isinstance(found, dict) else {}


def _changes(session: Session, record: ModelRecord, other: ModelVersion | None, blobs: BlobStore, limit: int) -> list[Change]:
    """Of the pictures that were held out, and of live traffic."""
    if other is None:
        return []
    held_out = held_out_changes(record.run, other.version, blobs)
    return largest_changes([*held_out, *changes_between(session, other.version, record.row.version, limit)], limit)


def _held_out(record: ModelRecord, other: ModelVersion | None) -> list[FigureRow]:
    found = measured(record.run, other.version) if other is not None else None
    return held_out_rows(*found) if found else []


def _curves(given: Path) -> bytes:
    """Raises InvalidInput: the file named is no PNG."""
    try:
        data = given.read_bytes()
    except OSError as error:
        raise InvalidInput(f"--curves {given}: {error.strerror or error}") from error
    if not is_png(data):
        raise InvalidInput(f"--curves {given} is no PNG")
    return data


def _painted(painter: Painter, changes: Sequence[Change], names: dict[str, str]) -> list[ChangedPicture]:
    if not changes:
        return []
    with progress_bar() as bar:
        return [painter.painted(each, names.get(each.sha256, each.sha256)) for each in bar.track(changes, description="pictures")]
