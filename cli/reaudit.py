"""`tamperwatch reaudit`: let the live version look again at pictures that an earlier one was unsure of."""

from contextlib import closing
from datetime import datetime
from typing import Annotated

import typer
from pydantic import ValidationError
from sqlmodel import Session

from cli.console import load_settings, plain, progress_bar, stdout
from cli.options import parse_age
from cli.store import open_store
from model.card import Card
from model.stability import near_bands
from schemas.errors import InvalidInput
from schemas.states import Verdict
from schemas.tables import ModelVersion, now
from storage import reaudit as finished
from storage.reaudit import Band, Reaudit
from workers.app import make_app
from workers.runtime import live_version
from workers.sweeper import send_again


def reaudit(
    verdict: Annotated[list[Verdict] | None, typer.Option(help="Pictures with this verdict; may be given several times.")] = None,
    near_threshold: Annotated[bool, typer.Option("--near-threshold", help="Pictures whose score lies near a threshold.")] = False,
    band: Annotated[float, typer.Option(min=0.01, max=10, help="How near, in log-odds.")] = 0.5,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only what ended in the last 30m, 12h, 7d …")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1_000_000, help="The newest so many.")] = 1000,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> None:
    """Audit finished pictures once more with the version that is live now, on the queue for bulk.

    Only pictures that the live version has not audited, whose bytes are kept. Their results stay, and the new one is added.
    Running it twice sends nothing twice.

    \b
    Examples:
      tamperwatch reaudit --verdict review --since 7d
      tamperwatch reaudit --near-threshold --limit 5000 --dry-run
    """
    if not verdict and not near_threshold:
        raise InvalidInput("say which pictures: --verdict review, --near-threshold, or both")
    settings = load_settings()
    after = now() - parse_age(since) if since else None
    with closing(open_store(settings.database_url)) as database:
        live = live_version(database).version
        with database.read() as session:
            bands = _bands(session, band, after) if near_threshold else {}
            wanted = Reaudit(live, tuple(verdict or ()), bands, after, limit)
            count = finished.count_to_reaudit(session, wanted)
        if dry_run or not count:
            stdout.print(f"{count} pictures would be audited again with {plain(live)}", highlight=False)
            return
        sent = 0
        with progress_bar() as bar:
            task = bar.add_task("sending again", total=count)
            for number in send_again(make_app(settings), finished.requeue_finished(database, wanted)):
                sent += number
                bar.advance(task, number)
    stdout.print(f"{sent} pictures sent again, for {plain(live)}", highlight=False)


def _bands(session: Session, band: float, after: datetime | None) -> dict[str, list[Band]]:
    """By version, from its own card: a score means something only beside the thresholds it was judged by."""
    bands = {}
    for version in finished.versions_of_results(session, after):
        row = session.get(ModelVersion, version)
        try:
            bands[version] = near_bands(Card.model_validate(row.card).calibration, band) if row is not None else []
        except ValidationError:
            bands[version] = []
    return {version: found for version, found in bands.items() if found}
