"""What happens around every request: a number and a log line, headers that keep browsers safe, and an end to slow bodies."""

import asyncio
import logging
import time
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from schemas.errors import InternalError
from storage.telemetry import REQUESTS
from storage.telemetry_log import log_fields
from web.problems import problem_of

log = logging.getLogger("tamperwatch.access")

# Nothing that is served may load, frame or run anything. Pages that need more say so themselves.
_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_METHODS: Final = ("GET", "POST", "DELETE")
_HSTS: Final = "max-age=31536000"


class RequestLog:
    """One line a request, and one answer where a defect gave none. Neither queries nor headers are logged: secrets live there."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, status, sent_bytes, began_s = uuid.uuid4().hex[:16], 0, 0, time.perf_counter()
        scope.setdefault("state", {})

        async def noted(message: Message) -> None:
            nonlocal status, sent_bytes
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = request_id
            elif message["type"] == "http.response.body":
                sent_bytes += len(message.get("body", b""))
            await send(message)

        with log_fields(request_id=request_id):
            try:
                await self._app(scope, receive, noted)
            except ClientDisconnect:
                pass  # nobody is left to answer
            except Exception:
                log.exception("defect")
                if status:
                    raise  # too late for an answer: the connection is cut, which the client sees
                await problem_of(InternalError(f"a defect of ours; the log tells of request {request_id}"))(scope, receive, noted)
            finally:
                _count(scope, status, time.perf_counter() - began_s)
                fields = {
                    "method": scope["method"],
                    "path": quote(scope["path"]),
                    "status": status,
                    "duration_ms": round(1000 * (time.perf_counter() - began_s), 1),
                    "sent_bytes": sent_bytes,
                    "client": (scope.get("client") or ("-",))[0],
                    "who": scope["state"].get("who", "-"),
                }
                log.info("%(method)s %(path)s %(status)s %(duration_ms)s ms %(who)s", fields, extra=fields)


def _count(scope: Scope, status: int, duration_s: float) -> None:
    """By the route, not the path: callers must not be able to make series."""
    route = getattr(scope.get("route"), "path_format", "none")
    method = scope["method"] if scope["method"] in _METHODS else "other"
    REQUESTS.labels(method, route, str(status)).observe(duration_s)


class SafeHeaders:
    """Headers on every answer that does not set them itself."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def safe(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                if scope.get("scheme") == "https":
                    headers.setdefault("Strict-Transport-Security", _HSTS)
            await send(message)

        await self._app(scope, receive, safe)


class BodyLimits:
    """A body that is too large, or does not arrive in time, ends its request before it costs much."""

    def __init__(self, app: ASGIApp, timeout_s: float, most_bytes: int, larger_bytes: Mapping[str, int]) -> None:
        """Wrap an app.

        Args:
            timeout_s: for the whole body.
            most_bytes: of a body.
            larger_bytes: the same for paths that take more.
        """
        self._app = app
        self._timeout_s = timeout_s
        self._most_bytes = most_bytes
        self._larger_bytes = larger_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = _Body(receive, Headers(scope=scope), self._timeout_s, self._larger_bytes.get(scope["path"], self._most_bytes))
        await self._app(scope, body.receive, send)


class _Body:
    """One request's body. The framework lets its own errors through while it reads, and makes 400 of all others."""

    def __init__(self, receive: Receive, headers: Headers, timeout_s: float, most_bytes: int) -> None:
        self._receive = receive
        self._timeout_s = timeout_s
        self._ends_s = asyncio.get_running_loop().time() + timeout_s
        self._most_bytes = most_bytes
        said = headers.get("content-length", "")
        self._said_bytes = int(said) if said.isdecimal() else 0
        self._read_bytes = 0
        self._complete = False

    async def receive(self) -> Message:
        if self._complete:
            return await self._receive()
        self._check(self._said_bytes)
        try:
            async with asyncio.timeout_at(self._ends_s):
                message = await self._receive()
        except TimeoutError as error:
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, f"the body did not arrive within {self._timeout_s:g} s") from error
        self._read_bytes += len(message.get("body", b""))
        self._check(self._read_bytes)
        self._complete = message["type"] == "http.disconnect" or not message.get("more_body", False)
        return message

    def _check(self, size_bytes: int) -> None:
        if size_bytes > self._most_bytes:
            words = f"a body of {size_bytes:,} bytes or more; this address takes {self._most_bytes:,}"
            raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, words)
