"""`tamperwatch models`: which student versions there are, and what is known of each."""

from typing import Annotated, Any

import typer
from rich.table import Table

from cli.console import load_settings, plain, stdout
from cli.store import open_store
from storage import registry
from workers.runtime import live_version

app = typer.Typer(help="The student versions of this installation.", no_args_is_help=True)


@app.command("list")
def list_versions() -> None:
    """List all versions, newest first.

    \b
    Example:
      tamperwatch models list
    """
    database = open_store(load_settings().database_url)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("version", "stage", "since (UTC)", "why"):
        table.add_column(title)
    with database.read() as session:
        for row in registry.versions(session):
            style = "bold green" if row.stage.value == "live" else ""
            since = row.stage_changed_at.strftime("%Y-%m-%d %H:%M")
            table.add_row(row.version, row.stage.value, since, plain(row.reason), style=style)
    stdout.print(table)


@app.command("show")
def show_version(
    version: Annotated[str | None, typer.Argument(help="A version; the live one if left out.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole card as JSON.")] = False,
) -> None:
    """Show one version's card: what it is, what it was trained on, how it measures.

    \b
    Examples:
      tamperwatch models show
      tamperwatch models show --json
    """
    database = open_store(load_settings().database_url)
    chosen = version or live_version(database).version
    with database.read() as session:
        row = registry.get(session, chosen)
    if as_json:
        stdout.print_json(data=row.card)
        return
    stdout.print(f"[bold]{row.version}[/]  {row.stage.value}: {plain(row.reason)}")
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    for name, value in row.card.items():
        for key, leaf in _leaves(name, value):
            table.add_row(key, plain(str(leaf)))
    stdout.print(table)


def _leaves(name: str, value: Any) -> list[tuple[str, Any]]:
    """A nested card as dotted names; numbers are rounded for reading."""
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in _leaves(f"{name}.{key}", inner)]
    return [(name, round(value, 4) if isinstance(value, float) else value)]
