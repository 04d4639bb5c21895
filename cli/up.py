"""`tamperwatch up`: everything on this machine, with nothing to install, until Ctrl-C."""

from pathlib import Path
from typing import Annotated, Final

import typer

from cli.console import load_settings, stdout
from cli.embedded_page import Listening, first_key, login_address, place_to_listen, show, start_page, stay
from cli.packages import can_train, need_web_packages
from cli.stack import EmbeddedStack, Place

_BEAT_GRACE_S: Final = 5.0
# A run under way is saved first.
_TRAINER_GRACE_S: Final = 60.0


def up(
    folder: Annotated[Path, typer.Argument(help="Keeps pictures, results, boxes and logs from one run to the next.")] = Path(
        "tamperwatch-data"
    ),
    host: Annotated[str | None, typer.Option(help="Address to listen on; TAMPERWATCH_WEB__HOST, 127.0.0.1.")] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on; if left out, TAMPERWATCH_WEB__PORT (8080) or the next free one.", min=0, max=65535),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    browser: Annotated[bool, typer.Option("--open/--no-browser", help="Open the page, logged in.")] = False,
) -> None:
    """Start everything: a private Redis, workers, the timetable, a trainer if its packages are there, the API and the page.

    Prints the page's address, an address that logs you in as admin (once, within ten minutes), and on the first start a key
    to the API. What is in the folder stays; the same command goes on from it.

    \b
    Examples:
      tamperwatch up
      tamperwatch up /srv/tamperwatch --workers 4 --port 9000
      tamperwatch up --open
    """
    need_web_packages()
    settings = load_settings()
    wanted = settings.web.port if port is None else port
    with EmbeddedStack(folder, settings, workers, Place(folder, "up", "folder")) as stack:
        listening = place_to_listen(host or settings.web.host, wanted, may_differ=port is None)
        start_page(stack, listening)
        stack.add_role("beat", "beat", grace_s=_BEAT_GRACE_S, TELEMETRY__PORT="0")
        trains = can_train()
        if trains:
            stack.add_role("trainer", "trainer", grace_s=_TRAINER_GRACE_S, TELEMETRY__PORT="0")
        login = login_address(stack.database, listening)
        _show(stack, listening, login, trains)
        stay(stack, login if browser else None)


def _show(stack: EmbeddedStack, listening: Listening, login: str, trains: bool) -> None:
    stdout.print(f"[bold green]Tamperwatch is up[/]: {listening.address}", highlight=False, soft_wrap=True)
    show("log in as admin, once, within 10 min", login)
    key = first_key(stack.database)
    show("API key, shown only now", key) if key else show("API keys", "those made before; the Access page makes more")
    show("pictures, results, boxes, logs", str(stack.folder))
    if not trains:
        show("no trainer", "boxes are kept until there is one: pip install 'tamperwatch[train]'")
    if not listening.is_local:
        show("careful", "people log in over https only: put a proxy with TLS in front of this address")
