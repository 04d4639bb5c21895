"""`tamperwatch webhooks`: where results are pushed to, and what became of each delivery."""

from typing import Annotated

import typer
from rich.table import Table

from cli.console import load_settings, plain, stdout
from cli.store import open_store
from schemas.errors import InvalidInput, NotFound
from schemas.states import DeliveryState
from storage import webhooks

app = typer.Typer(help="Where results are pushed to. Webhooks are made over the API.", no_args_is_help=True)


@app.command("list")
def list_webhooks() -> None:
    """List all webhooks.

    \b
    Example:
      tamperwatch webhooks list
    """
    database = open_store(load_settings().database_url)
    table = _table("id", "address", "verdict", "by", "state")
    with database.read() as session:
        for row in webhooks.webhooks(session):
            state = f"stopped: {row.stopped_why}" if row.stopped_at is not None else "follows"
            table.add_row(row.id, plain(row.url), row.verdict or "all", plain(row.who), plain(state))
    stdout.print(table)
    database.close()


@app.command("deliveries")
def deliveries(
    webhook_id: Annotated[str, typer.Argument(metavar="ID", help="From `webhooks list`.")],
    state: Annotated[DeliveryState | None, typer.Option(help="Only these.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many at most, newest first.")] = 50,
) -> None:
    """Show what was sent to a webhook, and why a try went wrong.

    \b
    Examples:
      tamperwatch webhooks deliveries 0af9f2e378c9
      tamperwatch webhooks deliveries 0af9f2e378c9 --state failed
    """
    database = open_store(load_settings().database_url)
    table = _table("id", "result", "state", "tries", "next try (UTC)", "status", "what went wrong")
    try:
        with database.read() as session:
            webhooks.get(session, webhook_id)
            for row in webhooks.deliveries(session, webhook_id, state, limit=limit):
                again = row.next_at.strftime("%m-%d %H:%M:%S") if row.state is DeliveryState.WAITING else "-"
                status = "-" if row.http_status is None else str(row.http_status)
                table.add_row(str(row.id), str(row.result_id), row.state, str(row.attempts), again, status, plain(row.words))
    except NotFound as error:
        raise InvalidInput(f"{error.message}; `tamperwatch webhooks list` shows them") from error
    stdout.print(table)
    database.close()


def _table(*titles: str) -> Table:
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in titles:
        table.add_column(title, no_wrap=title == "id")
    return table
