"""A lean HTTP/1.1 client for load: ready-made requests over connections that stay open, one thread each.

A general client spends more CPU on a small request than the server does, on the same cores; this one hardly any.
"""

import socket
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True)
class Answer:
    """A whole answer."""

    status: int
    body: bytes


class Connection:
    """One connection to a server of this machine, kept open."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""

    def ask(self, request: bytes) -> Answer:
        """Send a whole request and read the answer, which says its length."""
        self._socket.sendall(request)
        while b"\r\n\r\n" not in self._read:
            self._more()
        head, _, body = self._read.partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        lengths = [int(line.partition(b":")[2]) for line in lines[1:] if line.lower().startswith(b"content-length:")]
        parts, missing = [body], lengths[0] - len(body)
        while missing > 0:
            self._read = b""
            self._more()
            parts.append(self._read)
            missing -= len(self._read)
        whole = b"".join(parts)
        self._read = whole[lengths[0] :]
        return Answer(int(lines[0].split()[1]), whole[: lengths[0]])

    def _more(self) -> None:
        piece = self._socket.recv(_PIECE_BYTES)
        if not piece:
            raise ConnectionError("the server closed the connection")
        self._read += piece

    def close(self) -> None:
        self._socket.close()


def get(path: str, token: str) -> bytes:
    """A GET request with an API key."""
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {token}\r\n\r\n".encode()


def upload(path: str, token: str, pictures: list[bytes]) -> bytes:
    """A POST request with these pictures as a form."""
    head = b'--tw\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    body = b"".join(head + picture + b"\r\n" for picture in pictures) + b"--tw--\r\n"
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: bench",
        f"Authorization: Bearer {token}",
        "Content-Type: multipart/form-data; boundary=tw",
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def drain(ports: Sequence[int], requests: Iterable[bytes], connections: int, expected: int) -> float:
    """Send all requests over so many connections, to these servers in turn; returns the seconds that took.

    Raises:
        RuntimeError: an answer has another status than `expected`.
    """
    left = iter(list(requests))  # a list's iterator may be shared by threads

    def some(port: int) -> None:
        connection = Connection(port)
        try:
            for request in left:
                answer = connection.ask(request)
                if answer.status != expected:
                    raise RuntimeError(f"answered {answer.status}: {answer.body[:500]!r}")
        finally:
            connection.close()

    began_s = time.perf_counter()
    with ThreadPoolExecutor(connections) as pool:
        for done in [pool.submit(some, ports[number % len(ports)]) for number in range(connections)]:
            done.result()
    return time.perf_counter() - began_s
