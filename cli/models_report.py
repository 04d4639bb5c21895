"""`tamperwatch models report`: one version on one page, as a file."""

from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.console import load_settings, plain, progress_bar, stdout
from cli.model_report import ModelReport, write_model_report
from cli.model_report_pictures import ChangedPicture, Painter
from cli.output import writing
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.settings import Settings
from schemas.tables import now
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.model_changes import Change, masks_of
from storage.pictures import names_of
from storage.run_files import is_png, run_curves
from web.learning.account import account_of, changes_of
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
    account = account_of(database, blobs, chosen, against)
    changes = changes_of(database, blobs, account, limit)
    with database.read() as session:
        masks = masks_of(session, [each.result_id for change in changes for each in (change.old, change.new) if each.result_id])
        names = names_of(session, [change.sha256 for change in changes])
    painter = Painter(blobs, settings, masks, account.against or account.row, account.row)
    return ModelReport(
        account=account,
        curves_png=_curves(curves) if curves is not None else run_curves(account.run, blobs),
        pictures=_painted(painter, changes, names),
        created=now(),
    )


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
