"""Web servers of a few lines that answer just as a test wants, on a free port of 127.0.0.1."""

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

Answer = Callable[[socket.socket], None]
"""Writes to a connection whose request has been read; may block until the other side goes away."""


@dataclass
class WebServer:
    """What a test sees of a server.

    Attributes:
        requests: the head of each request, as it came.
        names: what clients asked for in TLS.
        connections: how many were opened, also those that never asked for anything.
    """

    port: int
    requests: list[str] = field(default_factory=list)
    names: list[str | None] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/picture.jpg"


def response(body: bytes = b"", status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """A whole HTTP/1.1 response; `length` is what it says of its body's length, -1 for nothing."""
    said = [] if length == -1 else [f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, *said, "", ""]).encode("latin-1") + body


def sends(*parts: bytes) -> Answer:
    """An answer that writes these bytes and closes."""
    return lambda connection: connection.sendall(b"".join(parts))


def drips(start: bytes, part: bytes, every_s: float = 0.02) -> Answer:
    """An answer that goes on for ever, a little at a time."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while not threading.Event().wait(every_s):
            connection.sendall(part)

    return answer


def floods(start: bytes, part: bytes) -> Answer:
    """An answer that goes on for ever, as fast as it is read."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(part)

    return answer


@contextmanager
def web_server(*answers: Answer, tls: ssl.SSLContext | None = None, address: str = "127.0.0.1") -> Iterator[WebServer]:
    """A server that gives these answers, one a connection, the last one again and again."""
    with socket.create_server((address, 0)) as listening:
        server = WebServer(listening.getsockname()[1])
        if tls is not None:
            tls.sni_callback = lambda _, name, __: server.names.append(name)
        threads: list[threading.Thread] = []
        accepting = threading.Thread(target=_accept, args=(listening, server, answers, tls, threads))
        accepting.start()
        try:
            yield server
        finally:
            with suppress(OSError):
                listening.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for each in threads:
                each.join()


def _accept(
    listening: socket.socket,
    server: WebServer,
    answers: tuple[Answer, ...],
    tls: ssl.SSLContext | None,
    threads: list[threading.Thread],
) -> None:
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            answer = answers[min(server.connections, len(answers) - 1)]
            server.connections += 1
            threads.append(threading.Thread(target=_serve, args=(connection, server, answer, tls)))
            threads[-1].start()


def _serve(connection: socket.socket, server: WebServer, answer: Answer, tls: ssl.SSLContext | None) -> None:
    """One exchange. What the client does to the connection is its own affair."""
    with suppress(OSError), connection:
        spoken = connection if tls is None else tls.wrap_socket(connection, server_side=True)
        with spoken:
            head = b""
            while b"\r\n\r\n" not in head and (part := spoken.recv(4096)):
                head += part
            server.requests.append(head.decode("latin-1"))
            answer(spoken)
