"""One HTTP exchange with an address that was checked, of which no part can take longer or cost more than it may."""

import functools
import http.client
import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from urllib3 import HTTPResponse
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

from schemas.errors import TamperwatchError, UrlGone, UrlUnreachable
from workers.web_addresses import WebAddress

_CONNECT_S = 5.0
_HEADERS_BYTES = 1 << 16
_PART_BYTES = 1 << 16


class Allowance:
    """What one fetch may still take: time, and bytes on the wire. Looked at before every read from a socket."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._ends = time.monotonic() + timeout_s
        self._left_bytes = 0
        self._excess: TamperwatchError = UrlUnreachable("")

    def left_s(self) -> float:
        """Seconds left.

        Raises:
            UrlUnreachable: none.
        """
        left_s = self._ends - time.monotonic()
        if left_s <= 0:
            raise UrlUnreachable(f"not complete after {self._timeout_s:g} s (TAMPERWATCH_FETCH__TIMEOUT_S)")
        return left_s

    def allow(self, wire_bytes: int, excess: TamperwatchError) -> None:
        """From now on this many bytes may be read; `excess` is raised by the first that is too many."""
        self._left_bytes, self._excess = wire_bytes, excess

    def take(self, wire_bytes: int) -> None:
        """Count bytes that were read."""
        self._left_bytes -= wire_bytes
        if self._left_bytes < 0:
            raise self._excess


def connect(address: WebAddress, ips: Sequence[str], allowance: Allowance, tls: ssl.SSLContext | None) -> HTTPConnection:
    """Connect to the first of a host's addresses that answers; nothing is looked up. The caller closes the connection.

    Args:
        address: what will be asked for; its host is what TLS is asked for, and what the certificate must name.
        ips: the addresses, checked before.
        allowance: the time that may be taken.
        tls: checks the certificate; needed for https.

    Raises:
        UrlUnreachable: out of time.
        urllib3.exceptions.HTTPError, OSError: why the last address was not connected to.
    """
    for ip in ips[:-1]:
        with suppress(ConnectTimeoutError, NewConnectionError):
            return _connected(address, ip, allowance, tls)
    return _connected(address, ips[-1], allowance, tls)


def _connected(address: WebAddress, ip: str, allowance: Allowance, tls: ssl.SSLContext | None) -> HTTPConnection:
    timeout_s = min(_CONNECT_S, allowance.left_s())
    if address.scheme == "http":
        connection = HTTPConnection(ip, address.port, timeout=timeout_s)
    else:
        connection = HTTPSConnection(ip, address.port, timeout=timeout_s, ssl_context=tls, server_hostname=address.name)
    # urllib3 hands out no socket, and http.client's own readers know neither a total time nor a total of bytes.
    connection.response_class = functools.partial(_GuardedResponse, allowance=allowance)  # type: ignore[assignment]
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    return connection


def request(
    connection: HTTPConnection,
    address: WebAddress,
    headers: Mapping[str, str],
    allowance: Allowance,
    body: bytes | None = None,
) -> HTTPResponse:
    """Ask for a picture, or post a body, and return the response when its headers are there.

    Raises:
        UrlUnreachable: out of time.
        UrlGone: the headers are longer than any that are read.
        urllib3.exceptions.HTTPError, OSError, http.client.HTTPException: as the connection broke.
    """
    allowance.allow(_HEADERS_BYTES, UrlGone(f"{address} answered with more than {_HEADERS_BYTES:,} bytes of headers"))
    method = "GET" if body is None else "POST"
    connection.request(method, address.target, body=body, headers={"Host": address.authority, **headers}, preload_content=False)
    return connection.getresponse()


def read_body(response: HTTPResponse, most_bytes: int, allowance: Allowance, too_large: TamperwatchError) -> bytes:
    """All bytes of a response, unpacked, refused as soon as they are more than `most_bytes`.

    Raises:
        TamperwatchError: `too_large`, or out of time.
        urllib3.exceptions.HTTPError, OSError, http.client.HTTPException: as the connection broke.
    """
    # Twice: what frames the chunks of a chunked body counts too, and a line of it could otherwise go on for ever.
    allowance.allow(2 * most_bytes + _HEADERS_BYTES, too_large)
    body = io.BytesIO()
    while part := response.read(_PART_BYTES, decode_content=True):
        body.write(part)
        if body.tell() > most_bytes:
            raise too_large
    return body.getvalue()


class _GuardedResponse(http.client.HTTPResponse):
    """A response whose bytes all come through an allowance, headers included."""

    def __init__(self, sock: socket.socket, *args: Any, allowance: Allowance, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_GuardedReader(self.fp.detach(), sock, allowance))


class _GuardedReader(io.RawIOBase):
    def __init__(self, raw: io.RawIOBase, sock: socket.socket, allowance: Allowance) -> None:
        self._raw, self._sock, self._allowance = raw, sock, allowance

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(self._allowance.left_s())
        count = self._raw.readinto(buffer)
        self._allowance.take(count or 0)
        return count

    def close(self) -> None:
        self._raw.close()
        super().close()
