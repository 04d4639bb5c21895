"""`tamperwatch keys`: who may call the HTTP API."""

from datetime import datetime
from typing import Annotated

import typer
from rich.table import Table

from cli.console import load_settings, plain, stderr, stdout
from cli.options import By, parse_age, person
from cli.store import open_store
from schemas.api_tables import ApiKey
from schemas.states import Scope
from schemas.tables import now
from storage import api_keys

app = typer.Typer(help="Keys to the HTTP API.", no_args_is_help=True)


@app.command("create")
def create(
    name: Annotated[str, typer.Argument(help="Who it is for; stands beside everything done with it.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; give it several times. admin may do everything.")],
    expires: Annotated[str | None, typer.Option(help="After this it opens nothing, e.g. 90d.")] = None,
    rate: Annotated[int | None, typer.Option(help="Requests a minute; 0: any number.", min=0)] = None,
    by: By = None,
) -> None:
    """Make a key and print it. It is shown once: only its hash is kept.

    \b
    Examples:
      tamperwatch keys create "shop backend" --scope submit --scope read
      tamperwatch keys create anna --scope read --scope review --expires 90d
      KEY=$(tamperwatch keys create ci --scope submit)
    """
    expires_at = None if expires is None else now() + parse_age(expires)
    database = open_store(load_settings().database_url)
    with database.write() as session:
        made = api_keys.create(session, name, scope, expires_at, rate, person(by))
    # Alone on standard output, so that a script can take it.
    stdout.print(made.token, markup=False, highlight=False, soft_wrap=True)
    stderr.print("keep it now: it cannot be shown again")
    database.close()


@app.command("list")
def list_keys() -> None:
    """List all keys with what they may do and when they were used; never the keys themselves.

    \b
    Example:
      tamperwatch keys list
    """
    database = open_store(load_settings().database_url)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("name", "id", "scopes", "made (UTC)", "expires", "last used", "state"):
        table.add_column(title, no_wrap=title == "id")
    with database.read() as session:
        for row in api_keys.keys(session):
            dates = (_shown(row.created_at), _shown(row.expires_at), _shown(row.last_used_at))
            table.add_row(plain(row.name), row.id, " ".join(row.scopes), *dates, _state(row))
    stdout.print(table)
    database.close()


@app.command("revoke")
def revoke(name: Annotated[str, typer.Argument(help="The key's name or id, from `keys list`.")], by: By = None) -> None:
    """Let a key open nothing from now on. What was done with it stays recorded under its name.

    \b
    Example:
      tamperwatch keys revoke "shop backend"
    """
    database = open_store(load_settings().database_url)
    with database.write() as session:
        row = api_keys.revoke(session, name, person(by))
        stdout.print(f"{plain(row.name)} ({row.id}) opens nothing any more", highlight=False)
    database.close()


def _shown(at: datetime | None) -> str:
    return "-" if at is None else at.strftime("%Y-%m-%d %H:%M")


def _state(row: ApiKey) -> str:
    if row.revoked_at is not None:
        return "revoked"
    return "expired" if row.expires_at is not None and row.expires_at <= now() else "in use"
