"""`tamperwatch retry`: send jobs round again that failed for reasons which have passed."""

from typing import Annotated

import typer

from cli.console import load_settings, plain, progress_bar, stdout
from cli.options import parse_age
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.tables import now
from storage import recovery
from storage.recovery import FailedJobs
from workers.app import make_app
from workers.sweeper import retry_failed


def retry(
    code: Annotated[list[str] | None, typer.Option(help="Only this error code; may be given several times.")] = None,
    submission: Annotated[str | None, typer.Option(help="Only jobs of this submission.")] = None,
    since: Annotated[str | None, typer.Option(metavar="AGE", help="Only what failed in the last 30m, 12h, 7d …")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All failed jobs that another try may mend.")] = False,
    permanent: Annotated[bool, typer.Option(help="Also errors of the picture itself, which mostly repeat themselves.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
) -> None:
    """Put failed jobs back on their queues, with all their attempts before them.

    Without --permanent only jobs whose error may pass: a service that was away, a device that hung, a worker that
    died, a defect that a new release mends. A picture that was refused before it was stored has to be submitted again.

    \b
    Examples:
      tamperwatch retry --all
      tamperwatch retry --code blob_store_unavailable --since 2h
      tamperwatch retry --code blob_missing --permanent --dry-run
    """
    if not (code or submission or since or everything):
        raise InvalidInput("say which failed jobs: --code, --submission, --since, or --all")
    settings = load_settings()
    database = open_store(settings.database_url)
    failed_since = now() - parse_age(since) if since else None
    wanted = FailedJobs(tuple(code or ()), submission, failed_since, permanent)
    with database.read() as session:
        counts = recovery.count_failed(session, wanted)
    listed = ", ".join(f"{count} {plain(name)}" for name, count in counts.items())
    if dry_run or not counts:
        stdout.print(f"{sum(counts.values())} failed jobs would be sent again" + (f": {listed}" if listed else ""))
        return
    sent = 0
    with progress_bar() as bar:
        task = bar.add_task("sending again", total=sum(counts.values()))
        for number in retry_failed(database, make_app(settings), wanted):
            sent += number
            bar.advance(task, number)
    stdout.print(f"{sent} failed jobs sent again: {listed}")
