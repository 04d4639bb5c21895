"""`tamperwatch models import`: take in a student that was trained elsewhere."""

from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.console import load_settings, plain, stderr, stdout
from cli.model_check import check_student
from cli.options import By, person
from cli.store import open_store
from model.card import Card
from schemas.errors import InvalidInput
from schemas.states import ModelAction
from schemas.tables import ModelVersion
from storage import registry
from storage.blobs import open_blob_store
from storage.database import Database
from storage.model_files import store_student


def import_student(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of a published student: card.json beside its weights.")],
    reason: Annotated[str, typer.Option(help="Why; kept with it.")] = "",
    by: By = None,
) -> None:
    """Take in a published student as a candidate, after a test run. It is not live before somebody promotes it.

    Its files are checked against the card, both engines (torch where it is installed) run on drawn pictures and must agree,
    and everything goes into the blob store, from where each worker fetches it once.

    \b
    Examples:
      tamperwatch models import runs/october/student --reason "trained on the October set"
      tamperwatch models import student-3/ --by anna
    """
    who, settings = person(by), load_settings()
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; name the one that holds card.json")
    with closing(open_store(settings.database_url)) as database:
        if _known(database, Card.load(folder)):
            return
        with stderr.status("testing the student"):
            checked = check_student(folder, settings.promotion.parity_limit)
        card = checked.card
        location = store_student(open_blob_store(settings.blobs), folder, card.version)
        why = reason or f"imported from {folder.resolve()}"
        figures = {} if checked.parity is None else {"parity": checked.parity}
        with database.write() as session:
            content = card.model_dump(mode="json")
            registry.register(session, card.version, content, location, who, why, figures=figures, action=ModelAction.IMPORT)
    parity = (
        "torch is not installed, so parity was not checked"
        if checked.parity is None
        else f"engines agree to {checked.parity:.1e}"
    )
    stdout.print(f"[bold]{plain(card.version)}[/] is a candidate now ({parity})", highlight=False, soft_wrap=True)
    stdout.print(f"next: tamperwatch models promote {plain(card.version)} --reason …", highlight=False, soft_wrap=True)


def _known(database: Database, card: Card) -> bool:
    """Whether this very student is there.

    Raises:
        InvalidInput: another one of that name is.
    """
    with database.read() as session:
        row = session.get(ModelVersion, card.version)
    if row is None:
        return False
    files = card.model_dump(mode="json")["files"]
    if row.card.get("files") != files:
        raise InvalidInput(
            f"another student is registered as {card.version}; publish this one under its own version, then import it"
        )
    stdout.print(f"{plain(card.version)} is known already ({row.stage.value})", highlight=False)
    return True
