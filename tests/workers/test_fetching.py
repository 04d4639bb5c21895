"""Fetching from real servers over real sockets: what is fetched, what is refused, and what no server can do to us."""

import gzip
import socket
import ssl
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

import pytest
import trustme

from schemas.errors import TamperwatchError
from schemas.settings import FetchSettings, LimitSettings, Settings, WorkerSettings
from tests.web_servers import Answer, WebServer, drips, floods, response, sends, web_server
from workers.fetching import UrlFetcher

BODY = bytes(range(256)) * 300
LOOPBACK = "127.0.0.0/8"
MAX_BYTES = 100_000
OK = "HTTP/1.1 200 OK\r\n"

Start = Callable[..., WebServer]
Names = dict[str, list[list[str]]]


def fetcher(*servers: WebServer, timeout_s: float = 10, **changes: Any) -> UrlFetcher:
    """Fetches from these servers under the address they listen on, by plain http."""
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    given = {"allowed_hosts": hosts, "allowed_networks": LOOPBACK, "plain_http": True, "timeout_s": timeout_s} | changes
    return UrlFetcher(Settings(fetch=FetchSettings.model_validate(given), limits=LimitSettings(max_bytes=MAX_BYTES)))


def code_of(fetch: Callable[[], object]) -> str:
    with pytest.raises(TamperwatchError) as raised:
        fetch()
    assert raised.value.message.isascii() and raised.value.message.isprintable()
    return raised.value.code


@pytest.fixture
def start() -> Any:
    """Starts servers that end with the test."""
    with ExitStack() as stack:
        yield lambda *answers, **options: stack.enter_context(web_server(*answers, **options))


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Names:
    """Names this process knows beside its own, each with what one look-up after the other says; the last is repeated."""
    known: Names = {}
    really = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host not in known:
            return really(host, port, *arguments, **options)
        addresses = known[host].pop(0) if len(known[host]) > 1 else known[host][0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return known


def test_a_picture_is_fetched(start: Start) -> None:
    server = start(sends(response(BODY)))
    assert fetcher(server).fetch(f"{server.url}?size=large") == BODY
    lines = server.requests[0].splitlines()
    assert lines[0] == "GET /picture.jpg?size=large HTTP/1.1"
    assert f"Host: 127.0.0.1:{server.port}" in lines and "Accept-Encoding: identity" in lines
    assert [line for line in lines if line.startswith("Host:")] == [f"Host: 127.0.0.1:{server.port}"]


@pytest.mark.parametrize(
    "answer",
    [
        response(BODY, "200 OK", length=-1),
        OK.encode() + b"Transfer-Encoding: chunked\r\n\r\n100\r\n" + BODY[:256]
        + b"\r\n%x;a=b\r\n" % (len(BODY) - 256) + BODY[256:] + b"\r\n0\r\nX-Trailer: 1\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" + response(BODY),
        response(gzip.compress(BODY), "200 OK", "Content-Encoding: gzip"),
        response(zlib.compress(BODY), "200 OK", "Content-Encoding: Deflate"),
        response(BODY + b"more than it said", length=len(BODY)),
    ],
    ids=["until closed", "chunked", "100", "gzip", "deflate", "more than said"],
)  # fmt: skip
def test_every_way_to_send_it_is_read(start: Start, answer: bytes) -> None:
    server = start(sends(answer))
    assert fetcher(server).fetch(server.url) == BODY


def test_nothing_is_fetched_unless_a_host_is_named(start: Start) -> None:
    server = start(sends(response(BODY)))
    default = UrlFetcher(Settings())
    assert code_of(lambda: default.fetch(server.url)) == "url_refused"
    assert code_of(lambda: fetcher(server, allowed_hosts="").fetch(server.url)) == "url_refused"
    assert code_of(lambda: fetcher(server, allowed_hosts="127.0.0.1").fetch(server.url)) == "url_refused"
    assert code_of(lambda: fetcher(server, plain_http=False).fetch(server.url)) == "url_refused"
    assert server.connections == 0


def test_a_private_address_is_not_connected_to_unless_its_network_is_named(start: Start, names: Names) -> None:
    server = start(sends(response(BODY)))
    names["pictures.test"] = [["127.0.0.1"]]
    url = f"http://pictures.test:{server.port}/"
    hosts = f"pictures.test:{server.port}"
    assert code_of(lambda: fetcher(allowed_hosts=hosts, allowed_networks="").fetch(url)) == "url_refused"
    assert server.connections == 0
    assert fetcher(allowed_hosts=hosts).fetch(url) == BODY


def test_a_name_is_looked_up_once_and_the_checked_address_is_used(start: Start, names: Names) -> None:
    checked, other = start(sends(response(BODY)), address="127.0.0.1"), start(sends(response(b"secret")), address="127.0.0.2")
    names["pictures.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    hosts = f"pictures.test:{checked.port},pictures.test:{other.port}"
    only_first = fetcher(allowed_hosts=hosts, allowed_networks="127.0.0.1/32")
    assert only_first.fetch(f"http://pictures.test:{checked.port}/") == BODY
    assert names["pictures.test"] == [["127.0.0.2"]]  # one look-up used one answer
    assert f"Host: pictures.test:{checked.port}" in checked.requests[0]
    assert code_of(lambda: only_first.fetch(f"http://pictures.test:{other.port}/")) == "url_refused"
    assert (checked.connections, other.connections) == (1, 0)


def test_the_next_address_is_tried_where_one_does_not_answer(start: Start, names: Names) -> None:
    server = start(sends(response(BODY)))
    names["pictures.test"] = [["127.0.0.9", "127.0.0.1"]]
    assert fetcher(allowed_hosts=f"pictures.test:{server.port}").fetch(f"http://pictures.test:{server.port}/") == BODY


def test_proxies_of_the_environment_are_not_used(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    server, proxy = start(sends(response(BODY))), start(sends(response(b"changed")))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
    assert fetcher(server).fetch(server.url) == BODY
    assert proxy.connections == 0


def redirect(to: str, status: str = "302 Found") -> Answer:
    return sends(response(b"go there", status, f"Location: {to}"))


@pytest.mark.parametrize("status", ["301 M", "302 F", "303 S", "307 T", "308 P"])
def test_a_redirect_within_the_list_is_followed(start: Start, status: str) -> None:
    there = start(sends(response(BODY)))
    server = start(redirect("/next", status), redirect(there.url, status))
    assert fetcher(server, there).fetch(server.url) == BODY
    assert [each.split()[1] for each in server.requests] == ["/picture.jpg", "/next"]


def test_a_redirect_off_the_list_is_not_followed(start: Start, names: Names) -> None:
    inside = start(sends(response(b"secret")))
    names["inside.test"] = [["127.0.0.1"]]
    for to in (
        inside.url,
        f"http://localhost:{inside.port}/",
        f"http://inside.test:{inside.port}/",
        f"//2130706433:{inside.port}/",
        f"http://[::ffff:127.0.0.1]:{inside.port}/",
        "http://169.254.169.254/latest/meta-data/",
        "file:///etc/passwd",
        "gopher://127.0.0.1:6379/_FLUSHALL",
    ):
        server = start(redirect(to))
        assert code_of(lambda server=server: fetcher(server).fetch(server.url)) == "url_refused", to
    assert inside.connections == 0


def test_a_redirect_to_an_allowed_host_at_a_private_address_is_not_followed(start: Start, names: Names) -> None:
    inside = start(sends(response(b"secret")), address="127.0.0.2")
    server = start(redirect(f"http://pictures.test:{inside.port}/"))
    names["pictures.test"] = [["127.0.0.2"]]
    allowed = f"127.0.0.1:{server.port},pictures.test:{inside.port}"
    one = fetcher(allowed_hosts=allowed, allowed_networks="127.0.0.1/32")
    assert code_of(lambda: one.fetch(server.url)) == "url_refused"
    assert inside.connections == 0


def test_redirects_end(start: Start) -> None:
    server = start(redirect("/again"))
    assert code_of(lambda: fetcher(server).fetch(server.url)) == "url_gone"
    assert server.connections == 4


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (response(b"", "404 Not Found"), "url_gone"),
        (response(b"", "410 Gone"), "url_gone"),
        (response(b"", "403 Forbidden"), "url_gone"),
        (response(b"", "302 Found"), "url_gone"),
        (response(b"", "206 Partial"), "url_gone"),
        (response(b"", "204 Empty"), "url_gone"),
        (response(b"", "408 Slow"), "url_unreachable"),
        (response(b"", "429 Busy"), "url_unreachable"),
        (response(b"", "500 Oops"), "url_unreachable"),
        (response(b"", "503 Later"), "url_unreachable"),
        (b"", "url_unreachable"),
        (b"\xff\x00\x1b[31mSSH-2.0-OpenSSH\r\n", "url_unreachable"),
        (response(BODY[:100], length=200), "url_unreachable"),
        (response(BODY, "200 OK", "Content-Length: 7"), "url_unreachable"),
        (OK.encode() + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", "url_unreachable"),
        (OK.encode() + b"Transfer-Encoding: chunked\r\n\r\n10\r\nshort", "url_unreachable"),
        (response(b"no gzip", "200 OK", "Content-Encoding: gzip"), "url_unreachable"),
        (response(BODY, "200 OK", "Content-Encoding: br"), "url_gone"),
        (response(gzip.compress(BODY), "200 OK", "Content-Encoding: gzip, gzip"), "url_gone"),
        (response(BODY, "200 OK", "Content-Encoding: \xfc\x1b"), "url_gone"),
        (response(b"", length=MAX_BYTES + 1), "too_large"),
        (response(bytes(MAX_BYTES + 1), length=-1), "too_large"),
        (response(gzip.compress(bytes(MAX_BYTES + 1)), "200 OK", "Content-Encoding: gzip"), "too_large"),
    ],
)
def test_what_is_no_picture_has_a_name(start: Start, answer: bytes, code: str) -> None:
    server = start(sends(answer))
    assert code_of(lambda: fetcher(server).fetch(server.url)) == code


def test_exactly_the_limit_is_not_too_large(start: Start) -> None:
    server = start(sends(response(bytes(MAX_BYTES))))
    assert len(fetcher(server).fetch(server.url)) == MAX_BYTES


def test_a_length_with_thousands_of_digits_is_no_defect(start: Start) -> None:
    server = start(sends(response(BODY, "200 OK", f"Content-Length: {'9' * 5000}", length=-1)))
    assert fetcher(server).fetch(server.url) == BODY


@pytest.mark.parametrize(
    ("start_bytes", "part"),
    [
        ("", b"H"),
        (OK, b"X-Slow: 1\r\n"),
        (OK + "X-Slow: ", b"x"),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (OK + "Content-Length: 100000\r\n\r\n", b"x"),
        (OK + "\r\n", b"x"),
        (OK + "Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (OK + "Transfer-Encoding: chunked\r\n\r\n1", b"0"),
        (OK + "Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: 1\r\n"),
    ],
    ids=["status", "headers", "one header", "100", "length", "no length", "chunks", "chunk size", "trailers"],
)
def test_a_slow_drip_holds_no_thread(start: Start, start_bytes: str, part: bytes) -> None:
    server = start(drips(start_bytes.encode(), part))
    slow, began = fetcher(server, timeout_s=0.3), time.monotonic()
    assert code_of(lambda: slow.fetch(server.url)) == "url_unreachable"
    assert 0.3 <= time.monotonic() - began < 10


def test_redirects_share_one_time_limit(start: Start) -> None:
    def slowly(connection: socket.socket) -> None:
        threading.Event().wait(0.15)
        redirect("/again")(connection)

    server = start(slowly)
    assert code_of(lambda: fetcher(server, timeout_s=0.4).fetch(server.url)) == "url_unreachable"


def test_a_server_that_says_nothing_in_tls_holds_no_thread(start: Start) -> None:
    silent = start(sends())  # what it reads is no HTTP, so it waits for more
    began = time.monotonic()
    one = fetcher(silent, timeout_s=0.3)
    assert code_of(lambda: one.fetch(silent.url.replace("http:", "https:"))) == "url_unreachable"
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("start_bytes", "part", "code"),
    [
        ("HTTP/1.1 200 ", b"x" * 4096, "url_gone"),
        (OK, b"X-More: 1\r\n" * 400, "url_unreachable"),  # http.client's own limit of a hundred comes first
        (OK + "X-Long: ", b"x" * 4096, "url_gone"),
        ("", b"HTTP/1.1 100 Continue\r\n\r\n" * 100, "url_gone"),
        (OK + "\r\n", b"x" * 4096, "too_large"),
        (OK + "Transfer-Encoding: chunked\r\n\r\n", b"1000\r\n" + b"x" * 4096 + b"\r\n", "too_large"),
        (OK + "Transfer-Encoding: chunked\r\n\r\n0\r\n", b"X-Trailer: 1\r\n" * 300, "too_large"),
        (OK + "Content-Encoding: gzip\r\n\r\n", b"", "too_large"),
    ],
    ids=["status", "many headers", "long header", "100", "body", "chunks", "trailers", "gzip bomb"],
)
def test_an_endless_answer_costs_little(start: Start, start_bytes: str, part: bytes, code: str) -> None:
    bomb = gzip.compress(bytes(30_000_000))
    server = start(sends(start_bytes.encode(), bomb) if not part else floods(start_bytes.encode(), part))
    one = fetcher(server)
    tracemalloc.start()
    try:
        assert code_of(lambda: one.fetch(server.url)) == code
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 3_000_000


@pytest.fixture
def authority(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> trustme.CA:
    """A certificate authority that this process trusts."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    return made


def serving(authority: trustme.CA, *hosts: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*hosts).configure_cert(context)
    return context


def test_https_asks_for_the_name_at_the_checked_address(start: Start, names: Names, authority: trustme.CA) -> None:
    server = start(sends(response(BODY)), tls=serving(authority, "pictures.test"))
    names["pictures.test"] = [["127.0.0.1"], ["127.0.0.2"]]
    hosts = f"*.test:{server.port}"
    assert fetcher(allowed_hosts=hosts, plain_http=False).fetch(f"https://pictures.test:{server.port}/a") == BODY
    assert server.names == ["pictures.test"]
    assert f"Host: pictures.test:{server.port}" in server.requests[0]


def test_a_certificate_for_another_name_or_from_a_stranger_is_not_taken(
    start: Start, names: Names, authority: trustme.CA
) -> None:
    names["pictures.test"] = [["127.0.0.1"]]
    for context in (serving(authority, "other.test", "127.0.0.1"), serving(trustme.CA(), "pictures.test")):
        server = start(sends(response(BODY)), tls=context)
        one = fetcher(allowed_hosts=f"pictures.test:{server.port}")
        with pytest.raises(TamperwatchError, match="certificate verify failed") as raised:
            one.fetch(f"https://pictures.test:{server.port}/")
        assert (raised.value.code, server.requests) == ("url_unreachable", [])


def test_https_at_an_address_checks_the_address(start: Start, authority: trustme.CA) -> None:
    server = start(sends(response(BODY)), tls=serving(authority, "127.0.0.1"))
    assert fetcher(server).fetch(server.url.replace("http:", "https:")) == BODY


def test_https_does_not_lead_to_http_unless_that_is_allowed(start: Start, authority: trustme.CA) -> None:
    plain = start(sends(response(BODY)))
    server = start(redirect(plain.url), tls=serving(authority, "127.0.0.1"))
    url = server.url.replace("http:", "https:")
    assert code_of(lambda: fetcher(server, plain, plain_http=False).fetch(url)) == "url_refused"
    assert plain.connections == 0
    assert fetcher(server, plain).fetch(url) == BODY


def test_a_picture_takes_no_more_than_half_the_visibility_timeout(start: Start) -> None:
    server = start(drips(b"", b"H"))
    fetch = FetchSettings(allowed_hosts=f"127.0.0.1:{server.port}", allowed_networks=LOOPBACK, plain_http=True, timeout_s=600)
    worker = WorkerSettings.model_construct(visibility_timeout_s=1)
    with pytest.raises(TamperwatchError, match=r"0\.5 s"):
        UrlFetcher(Settings(fetch=fetch).model_copy(update={"worker": worker})).fetch(server.url)
