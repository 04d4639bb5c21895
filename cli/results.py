"""`tamperwatch results`: read what was found, from a cursor on."""

from typing import Annotated

import typer

from cli.console import load_settings, stderr, stdout
from cli.records import record_of
from cli.store import open_store
from cli.table import results_table
from schemas.states import Verdict
from storage import queries
from storage.queries import AuditedJob


def results(
    since: Annotated[int, typer.Option(min=0, help="Cursor: show what came after it. 0 is the beginning.")] = 0,
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many.")] = 100,
    failed: Annotated[bool, typer.Option("--failed", help="The pictures that failed last, with the reason, instead.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print results in the order they were stored, and the cursor to go on from.

    \b
    Examples:
      tamperwatch results --verdict flag
      tamperwatch results --since 1200 --json
      tamperwatch results --failed
    """
    database = open_store(load_settings().database_url)
    with database.read() as session:
        if failed:
            audited = [AuditedJob(job, {}) for job in queries.failed_jobs(session, limit)]
        else:
            audited = queries.read_results(session, since, limit, verdict)
        records = [record_of(each) for each in audited]
        cursor = max([since, *(each.own.id or 0 for each in audited if each.own)])
    if as_json:
        for record in records:
            typer.echo(record.model_dump_json())
    else:
        stdout.print(results_table(records))
    if not failed:
        stderr.print(f"next cursor: {cursor}", highlight=False)
