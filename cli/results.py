"""`tamperwatch results`: read what was found, from a cursor on."""

from contextlib import closing
from typing import Annotated

import typer

from cli.console import load_settings, stderr, stdout
from cli.follow import HEADING, Wanted, follow, line_of
from cli.interruption import Interruption
from cli.store import open_store
from cli.table import results_table
from schemas.errors import InvalidInput
from schemas.records import AuditRecord
from schemas.states import Verdict
from storage import queries
from storage.audit_records import record_of
from storage.database import Database
from storage.queries import AuditedJob


def results(
    since: Annotated[
        int | None,
        typer.Option(min=0, help="Cursor: show what came after it. 0 is the beginning; so is nothing, unless --follow."),
    ] = None,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    source_profile: Annotated[str | None, typer.Option(help="Only pictures taken from this network.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many; not with --follow.")] = 100,
    failed: Annotated[bool, typer.Option("--failed", help="The pictures that failed last, with the reason, instead.")] = False,
    following: Annotated[
        bool, typer.Option("--follow", help="Stay, and print results as they come in (from now on, or from --since on).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print results in the order they were stored, and the cursor to go on from.

    Going on from the printed cursor meets every result exactly once, whatever is written meanwhile. With --follow,
    a database that goes away is waited for, and Ctrl-C ends it.

    \b
    Examples:
      tamperwatch results --verdict flag
      tamperwatch results --since 1200 --json
      tamperwatch results --source-profile wechat
      tamperwatch results --follow --verdict flag --json | jq .image
      tamperwatch results --failed
    """
    if following and failed:
        raise InvalidInput("--follow shows results; failures have none. Use one of --follow and --failed")
    wanted = Wanted(verdict, source_profile)
    with closing(open_store(load_settings().database_url)) as database:
        if following:
            cursor = _follow(database, since, wanted, as_json)
        else:
            cursor = _show_page(database, since or 0, wanted, limit, failed, as_json)
    if not failed:
        stderr.print(f"next cursor: {cursor}", highlight=False)


def _follow(database: Database, since: int | None, wanted: Wanted, as_json: bool) -> int:
    if not as_json:
        stdout.print(HEADING)

    def show(record: AuditRecord) -> None:
        if as_json:
            typer.echo(record.model_dump_json())
        else:
            stdout.print(line_of(record), soft_wrap=True)

    # Ctrl-C is how a person ends it, so it is a good end; what is in hand is printed first.
    with Interruption() as wish:
        return follow(database, since, wanted, show, lambda: wish.received is not None)


def _show_page(database: Database, since: int, wanted: Wanted, limit: int, failed: bool, as_json: bool) -> int:
    with database.read() as session:
        if failed:
            audited = [AuditedJob(job, {}) for job in queries.failed_jobs(session, limit, wanted.source_profile)]
        else:
            audited = queries.read_results(session, since, limit, wanted.verdict, source_profile=wanted.source_profile)
        records = [record_of(each) for each in audited]
        cursor = max([since, *(each.own.id or 0 for each in audited if each.own)])
    if as_json:
        for record in records:
            typer.echo(record.model_dump_json())
    else:
        stdout.print(results_table(records))
    return cursor
