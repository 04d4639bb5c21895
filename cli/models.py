"""`tamperwatch models`: which student versions there are, what is known of each, and who decides which one is live."""

from contextlib import closing
from typing import Annotated

import typer
from rich.table import Table

from cli.console import load_settings, plain, stdout
from cli.models_decide import promote, reject, rollback
from cli.models_import import import_student
from cli.models_report import report
from cli.models_shadow import shadow
from cli.models_show import show_version
from cli.store import open_store
from schemas.states import ModelStage
from storage import registry
from web.learning.words import when

app = typer.Typer(help="The student versions of this installation.", no_args_is_help=True)

STAGE_STYLE = {ModelStage.LIVE: "bold green", ModelStage.CANDIDATE: "cyan", ModelStage.RETIRED: "dim"}


@app.command("list")
def list_versions(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
) -> None:
    """List all versions, newest first.

    \b
    Examples:
      tamperwatch models list
      tamperwatch models list --json
    """
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        rows = registry.versions(session)
    if as_json:
        stdout.print_json(data=[row.model_dump(mode="json", exclude={"card"}) for row in rows])
        return
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("version", "stage", "since (UTC)"):
        table.add_column(title, no_wrap=True)
    table.add_column("why", overflow="fold")
    for row in rows:
        style = STAGE_STYLE[row.stage]
        table.add_row(plain(row.version), row.stage.value, when(row.stage_changed_at), plain(row.reason), style=style)
    stdout.print(table)


app.command("show")(show_version)
app.command("promote")(promote)
app.command("reject")(reject)
app.command("rollback")(rollback)
app.command("import")(import_student)
app.command("report")(report)
app.command("shadow")(shadow)
