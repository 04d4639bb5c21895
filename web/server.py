"""The web role: the API behind uvicorn, until it is told to stop."""

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from types import FrameType
from typing import Final

import uvicorn

from schemas.errors import EnvironmentMissing, TamperwatchError
from schemas.settings import Settings
from schemas.web_settings import WebSettings
from storage import audit_log, audit_requests, sessions, webhooks
from storage.blobs import open_blob_store
from storage.database import Database
from storage.telemetry_health import Health, store_checks
from storage.telemetry_server import serve_telemetry
from web.app import create_app
from web.context import Context
from web.rates import Rates
from web.webhooks import Pusher
from workers.app import make_app

log = logging.getLogger(__name__)

_PURGE_EVERY_S: Final = 3600.0
_BACKLOG: Final = 512


class _Stopping(Exception):
    """The process was told to stop; never leaves the checks."""


class Server(uvicorn.Server):
    """uvicorn, whose streams end when it is told to stop: it would wait for them otherwise."""

    def __init__(self, config: uvicorn.Config, closing: threading.Event, started: Callable[[str], None]) -> None:
        """Nothing listens yet.

        Args:
            started: called with the address once it does.
        """
        super().__init__(config)
        self._closing = closing
        self._tell = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            name = self.servers[0].sockets[0].getsockname()
            self._tell(f"http://{f'[{name[0]}]' if ':' in name[0] else name[0]}:{name[1]}")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002
        # Not uvicorn's own, which kills the process by the same signal once the requests have ended: webhooks in hand would
        # be cut off, and whoever watches would take a stop in good order for a crash.
        self._closing.set()
        self.force_exit = self.should_exit and sig == signal.SIGINT
        self.should_exit = True


def serve(settings: Settings, database: Database, started: Callable[[str], None]) -> None:
    """Serve until SIGTERM or Ctrl-C; requests in hand are finished.

    Args:
        settings: where to listen, and what a request may cost.
        database: of this release's schema.
        started: called with the address once it answers.

    Raises:
        EnvironmentMissing: the address can't be listened on.
    """
    closing = threading.Event()
    blobs, app = open_blob_store(settings.blobs), make_app(settings)

    def staying() -> str:
        if closing.is_set():
            raise _Stopping("told to stop")
        return "not asked for"

    health = Health("web", live={}, ready={**store_checks(database, blobs), "shutdown": staying})
    context = Context(settings, database, blobs, app, Rates(settings.broker_url), health, closing)
    purging = threading.Thread(target=_purge, args=(context,), name="purge", daemon=True)
    with _listening(settings.web) as listening, serve_telemetry(settings.telemetry, health):
        purging.start()
        pusher = Pusher(context, f"web {socket.gethostname()} {os.getpid()}")
        pusher.start()
        try:
            Server(_config(context), closing, started).run([listening])
        finally:
            closing.set()
            pusher.join()
            app.close()


def _listening(web: WebSettings) -> socket.socket:
    """A socket at the address; uvicorn's own way to say that it is taken is to leave the process."""
    try:
        family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
        return socket.create_server((web.host, web.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        where, why = f"{web.host}:{web.port}", error.strerror or str(error)
        settings = "TAMPERWATCH_WEB__HOST or TAMPERWATCH_WEB__PORT"
        raise EnvironmentMissing(f"cannot listen on {where}: {why}; choose another {settings}") from error


def _config(context: Context) -> uvicorn.Config:
    web = context.settings.web
    return uvicorn.Config(
        create_app(context),
        # Our own middleware writes the log of requests, without what may be secret.
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(web.trusted_proxies),
        forwarded_allow_ips=web.trusted_proxies or None,
        timeout_graceful_shutdown=math.ceil(web.shutdown_grace_s),
        ws="none",
    )


def _purge(context: Context) -> None:
    """Forget old audits, deliveries and sessions now and then, and let the log tell where the chain of decisions stands.

    The log goes elsewhere, and so may prove later what whoever owns the database has done to the chain.
    """
    kept = timedelta(days=context.settings.web.requests_kept_days)
    while not context.closing.wait(_PURGE_EVERY_S):
        try:
            with context.database.write() as session:
                audit_requests.purge(session, kept)
                webhooks.purge(session, kept)
                sessions.purge(session, kept)
            with context.database.read() as session:
                for entry in audit_log.newest(session, 1):
                    log.info("the log of decisions ends with %d:%s", entry.number, entry.hash)
        except TamperwatchError as error:
            log.warning("old audits, deliveries and sessions are not forgotten this time: %s", error.message)
