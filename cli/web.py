"""`tamperwatch web`: the HTTP API and the page, until told to stop."""

import logging
from typing import Annotated

import typer

from cli.console import load_settings, stderr
from cli.packages import need_web_packages
from cli.store import open_store
from schemas.errors import EnvironmentMissing
from storage.telemetry_log import log_to_stderr


def web(
    host: Annotated[str | None, typer.Option(help="Address to listen on; TAMPERWATCH_WEB__HOST, 127.0.0.1.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on; 0: any. TAMPERWATCH_WEB__PORT, 8080.", min=0, max=65535)
    ] = None,
) -> None:
    """Serve the HTTP API until SIGTERM. Its description is at /docs.

    Every request needs an API key (`tamperwatch keys create`). TLS is for a proxy in front: name it in
    TAMPERWATCH_WEB__TRUSTED_PROXIES.

    \b
    Examples:
      tamperwatch web
      tamperwatch web --host 0.0.0.0 --port 8000
    """
    need_web_packages()
    from web.pages import assets
    from web.server import serve

    try:
        assets.load()
    except EnvironmentMissing as error:
        stderr.print(error.message, style="yellow", markup=False)
    settings = load_settings()
    log_to_stderr(logging.INFO, settings.telemetry.log_format)
    given = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    settings = settings.model_copy(update={"web": settings.web.model_copy(update=given)})
    database = open_store(settings.database_url)
    try:
        serve(settings, database, lambda address: stderr.print(f"the API answers at {address}, described at {address}/docs"))
    finally:
        database.close()
