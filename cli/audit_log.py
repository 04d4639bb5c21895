"""`tamperwatch audit-log`: who decided what, and whether anybody changed that afterwards."""

import json
import re
from contextlib import closing
from datetime import datetime
from typing import Annotated, Any, Final

import typer

from cli.console import load_settings, plain, stdout
from cli.store import open_store
from schemas.errors import InvalidInput
from storage import audit_log
from storage.audit_log import Head

app = typer.Typer(help="The log of every decision.", no_args_is_help=True)

_HEAD: Final = re.compile(r"([1-9][0-9]{0,17}):([0-9a-f]{64})")
_WIDEST: Final = 160
_FIELDS: Final = ("number", "at", "who", "action", "subject", "details", "previous_hash", "hash")
_NUMBERS: Final = frozenset({"row", "id"})


@app.command("verify")
def verify(
    noted: Annotated[str | None, typer.Option(help="NUMBER:HASH, as an earlier `verify` printed it.")] = None,
) -> None:
    """Compute every entry's hash anew, and say whether the chain is whole: nothing changed, moved, put in or taken out.

    Entries cut off at the end, or a chain that was computed anew, are seen only against a hash that was kept elsewhere. So the
    last line is one to keep: in a ticket, a mail, another system. Exit status 1 tells that something does not fit.

    \b
    Examples:
      tamperwatch audit-log verify
      tamperwatch audit-log verify --noted 1204:3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed
    """
    known = _head(noted)
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        found = audit_log.verify(session, known)
    if found.problem is not None:
        stdout.print(
            f"[bold red]broken[/] after {found.entries:,} entries: {plain(found.problem)}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(1)
    if found.head is None:
        stdout.print("the log is empty")
        return
    stdout.print(f"[bold green]whole[/]: {found.entries:,} entries, each follows the one before", highlight=False)
    stdout.print(f"keep this elsewhere: {found.head.number}:{found.head.hash}", highlight=False, soft_wrap=True)


@app.command("list")
def list_entries(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most, newest first.")] = 50,
    subject: Annotated[str | None, typer.Option(help="Only of this, e.g. `person anna`; all of it, oldest first.")] = None,
) -> None:
    """Show who decided what.

    \b
    Examples:
      tamperwatch audit-log list --limit 20
      tamperwatch audit-log list --subject "model student-3"
    """
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        for entry in audit_log.newest(session, limit) if subject is None else audit_log.entries(session, subject=subject):
            what = f"{plain(entry.who)}: [bold]{plain(entry.action)}[/] {plain(entry.subject)}"
            line = f"{entry.number:>6}  {entry.at:%Y-%m-%d %H:%M:%S}  {what}  [dim]{plain(_brief(entry.details))}[/]"
            stdout.print(line, highlight=False, soft_wrap=True)


@app.command("export")
def export(since: Annotated[int, typer.Option(min=0, help="Only entries behind this number.")] = 0) -> None:
    """Write the log as JSON Lines, oldest first, with the hashes that chain it.

    \b
    Examples:
      tamperwatch audit-log export > decisions.jsonl
      tamperwatch audit-log export --since 1204 >> decisions.jsonl
    """
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        for entry in audit_log.entries(session, since):
            typer.echo(json.dumps({name: _plain(getattr(entry, name)) for name in _FIELDS}))


def _head(noted: str | None) -> Head | None:
    if noted is None:
        return None
    parts = _HEAD.fullmatch(noted.strip().lower())
    if parts is None:
        raise InvalidInput("--noted takes NUMBER:HASH, the hash with 64 characters of 0-9 and a-f")
    return Head(int(parts[1]), parts[2])


def _plain(value: Any) -> Any:
    return value.isoformat(timespec="microseconds") if isinstance(value, datetime) else value


def _brief(details: dict[str, Any]) -> str:
    """What people look for; `export` has all of it."""
    shown = {name: value for name, value in details.items() if name not in _NUMBERS and not name.endswith("_sha256")}
    said = ", ".join(f"{name} {value}" for name, value in shown.items() if value not in (None, "", [], False))
    return said if len(said) <= _WIDEST else f"{said[: _WIDEST - 1]}…"
