"""`tamperwatch results`: read what was found, from a cursor on."""

from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from typing import Annotated

import typer

from cli import remote
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
    api: Annotated[
        str | None, typer.Option(help="Address of an installation: read there over HTTP; the key: TAMPERWATCH_API_KEY.")
    ] = None,
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
      tamperwatch results --api https://audit.example.com --verdict flag
    """
    if following and failed:
        raise InvalidInput("--follow shows results; failures have none. Use one of --follow and --failed")
    wanted = Wanted(verdict, source_profile)
    if api is not None:
        if failed:
            raise InvalidInput("--failed reads the store itself; over --api, each audit names its failures")
        cursor = _read_over(api, since, wanted, limit, following, as_json)
        stderr.print(f"next cursor: {cursor}", highlight=False)
        return
    with closing(open_store(load_settings().database_url)) as database:
        if following:
            cursor = _follow(database, since, wanted, as_json)
        else:
            cursor = _show_page(database, since or 0, wanted, limit, failed, as_json)
    if not failed:
        stderr.print(f"next cursor: {cursor}", highlight=False)


def _read_over(api: str, since: int | None, wanted: Wanted, limit: int, following: bool, as_json: bool) -> int:
    """Print results of another installation, and return the cursor to go on from."""
    with remote.connected(api) as client:
        if not following:
            records, cursor = remote.page(client, since or 0, wanted.verdict, wanted.source_profile, limit)
            _print(records, as_json)
            return cursor
        cursor = client.newest() if since is None else since
        show = _line_printer(as_json)
        # Ctrl-C is how a person ends it.
        with suppress(KeyboardInterrupt):
            for result in client.follow(cursor, wanted.verdict, wanted.source_profile):
                show(result)
                cursor = result.id
        return cursor


def _line_printer(as_json: bool) -> Callable[[AuditRecord], None]:
    """What prints one result of a table that never ends; its heading stands there already."""
    if not as_json:
        stdout.print(HEADING)

    def show(record: AuditRecord) -> None:
        if as_json:
            typer.echo(record.model_dump_json())
        else:
            stdout.print(line_of(record), soft_wrap=True)

    return show


def _print(records: Sequence[AuditRecord], as_json: bool) -> None:
    if as_json:
        for record in records:
            typer.echo(record.model_dump_json())
    else:
        stdout.print(results_table(records))


def _follow(database: Database, since: int | None, wanted: Wanted, as_json: bool) -> int:
    show = _line_printer(as_json)
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
    _print(records, as_json)
    return cursor
