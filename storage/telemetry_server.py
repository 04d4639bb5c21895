"""/metrics, /healthz and /readyz over HTTP, for any role: plain, read-only, and off unless a port is set."""

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app
from prometheus_client.registry import Collector

from schemas.errors import EnvironmentMissing
from schemas.settings import TelemetrySettings
from storage.telemetry import REGISTRY
from storage.telemetry_health import Health

log = logging.getLogger(__name__)

StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@contextmanager
def serve_telemetry(settings: TelemetrySettings, health: Health, collectors: Iterable[Collector] = ()) -> Iterator[int]:
    """Serve for as long as the block lasts; yields the port, 0 where the settings ask for none.

    Args:
        settings: port and address.
        health: what /healthz and /readyz answer from.
        collectors: asked at each scrape, beside the metrics of `storage.telemetry`.

    Raises:
        EnvironmentMissing: the port can't be opened.
    """
    if settings.port == 0:
        yield 0
        return
    with ExitStack() as stack:
        for collector in collectors:
            REGISTRY.register(collector)
            stack.callback(REGISTRY.unregister, collector)
        server = _open(settings, _application(health))
        stack.callback(server.server_close)
        thread = threading.Thread(target=server.serve_forever, name="telemetry", daemon=True)
        thread.start()
        stack.callback(server.shutdown)
        log.info("telemetry at http://%s:%d/metrics", settings.address, settings.port)
        yield settings.port


class _Server(ThreadingMixIn, WSGIServer):
    """A slow reader holds one thread, not the others' answers."""

    daemon_threads = True


class _Server6(_Server):
    """The same on IPv6."""

    address_family = socket.AF_INET6


class _Handler(WSGIRequestHandler):
    """Silent: a scrape every few seconds is no news."""

    timeout = 10.0

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _open(settings: TelemetrySettings, application: Any) -> WSGIServer:
    try:
        kind = _Server6 if ":" in settings.address else _Server
        return make_server(settings.address, settings.port, application, server_class=kind, handler_class=_Handler)
    except OSError as error:
        where = f"{settings.address}:{settings.port}"
        why = error.strerror or str(error)
        raise EnvironmentMissing(
            f"telemetry cannot be served at {where}: {why}; set TAMPERWATCH_TELEMETRY__PORT to a free port, one for each process"
        ) from error


def _application(health: Health) -> Any:
    metrics: Callable[[dict[str, Any], StartResponse], Iterable[bytes]] = make_wsgi_app(REGISTRY)
    reports = {"/healthz": health.live, "/readyz": health.ready}

    def answer(environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if path == "/metrics":
            return metrics(environ, start_response)
        if path not in reports:
            start_response("404 Not Found", [("Content-Type", "text/plain; charset=utf-8")])
            return [b"/metrics, /healthz, /readyz\n"]
        ok, report = reports[path]()
        start_response("200 OK" if ok else "503 Service Unavailable", [("Content-Type", "application/json")])
        return [json.dumps(report).encode() + b"\n"]

    return answer
