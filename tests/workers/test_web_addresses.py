import ipaddress
import socket
import threading
from typing import Any

import pytest

from schemas.errors import UrlRefused, UrlUnreachable
from schemas.settings import FetchSettings
from workers.web_addresses import AllowList, WebAddress, is_public

PUBLIC = "93.184.215.14"


def resolving(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    """Every name stands for these addresses."""
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, 443)) for each in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://Example.ORG/a%20b/é.jpg?q=1#top", ("https", "example.org", 443, "/a%20b/%C3%A9.jpg?q=1")),
        ("HTTP://example.org", ("http", "example.org", 80, "/")),
        ("https://example.org:8443?x", ("https", "example.org", 8443, "/?x")),
        ("https://[2606:2800:21F:CB07::1]/", ("https", "[2606:2800:21f:cb07::1]", 443, "/")),
        ("https://example.org/a/../../b", ("https", "example.org", 443, "/b")),
        ("https://%31%32%37.0.0.1/", ("https", "127.0.0.1", 443, "/")),
        ("https://example.org/x@y", ("https", "example.org", 443, "/x@y")),
    ],
)
def test_a_url_is_taken_apart(url: str, expected: tuple[str, str, int, str]) -> None:
    parsed = WebAddress.parse(url)
    assert (parsed.scheme, parsed.host, parsed.port, parsed.target) == expected


@pytest.mark.parametrize(
    "url",
    [
        "", "picture.jpg", "//example.org/a", "file:///etc/passwd", "ftp://example.org/", "gopher://example.org/", "data:,x",
        "https://", "https:///a", "https://user@example.org/", "https://user:word@example.org/", "https://a@b@example.org/",
        "https://good.org\\@evil.org/", "https://exa mple.org/", "https://example.org/\r\nHost: x", "https://example.org/\x00",
        "https://example.org:99999/", "https://example.org:x/", "https://[fe80::1%25eth0]/", "https://[::1", "https://example..org/",
        "https://example.org./", "https://ex*mple.org/", "https://example.org/" + "a" * 2048,
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    with pytest.raises(UrlRefused):
        WebAddress.parse(url)


def test_a_url_is_shown_without_its_query() -> None:
    assert str(WebAddress.parse("https://example.org:444/a.jpg?token=secret")) == "https://example.org:444/a.jpg"
    assert WebAddress.parse("https://example.org:443/").authority == "example.org"
    assert WebAddress.parse("https://[::1]:444/").name == "::1"


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("/b", "https://example.org:444/b"),
        ("c?x", "https://example.org:444/a/c"),
        ("//other.org/d", "https://other.org/d"),
        ("http://other.org/d", "http://other.org/d"),
    ],
)
def test_a_redirect_is_read_from_where_it_came(location: str, expected: str) -> None:
    assert str(WebAddress.parse("https://example.org:444/a/b").joined(location)) == expected


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "https://u@example.org/", "https://[::1", "\\\\evil.org\\x", "data:,x"]
)
def test_a_redirect_to_what_is_no_plain_url_is_refused(location: str) -> None:
    with pytest.raises(UrlRefused):
        WebAddress.parse("https://example.org/").joined(location)


@pytest.mark.parametrize(
    ("allowed", "url", "is_allowed"),
    [
        ("example.org", "https://example.org/", True),
        ("EXAMPLE.org", "https://example.ORG/", True),
        ("example.org", "https://www.example.org/", False),
        ("example.org", "https://example.org.evil.net/", False),
        ("example.org", "https://notexample.org/", False),
        ("example.org", "https://example.org:8443/", False),
        ("example.org:8443", "https://example.org:8443/", True),
        ("example.org:8443", "https://example.org/", False),
        ("*.example.org", "https://a.b.example.org/", True),
        ("*.example.org", "https://example.org/", False),
        ("*.example.org", "https://notexample.org/", False),
        ("*.example.org:8443", "https://a.example.org:8443/", True),
        ("a.org, b.org", "https://b.org/", True),
        ("[2606:2800::1]", "https://[2606:2800::1]/", True),
        ("[2606:2800::1]:8443", "https://[2606:2800::1]:8443/", True),
        ("", "https://example.org/", False),
    ],
)
def test_only_hosts_on_the_list_are_asked(allowed: str, url: str, is_allowed: bool) -> None:
    allow_list, address = AllowList.of(FetchSettings(allowed_hosts=allowed)), WebAddress.parse(url)
    if is_allowed:
        allow_list.check(address)
    else:
        with pytest.raises(UrlRefused, match="ALLOWED_HOSTS"):
            allow_list.check(address)


def test_plain_http_is_asked_only_where_a_setting_says_so() -> None:
    address = WebAddress.parse("http://example.org/")
    with pytest.raises(UrlRefused, match="PLAIN_HTTP"):
        AllowList(("example.org",)).check(address)
    AllowList(("example.org",), plain_http=True).check(address)


@pytest.mark.parametrize("address", ["1.1.1.1", PUBLIC, "2606:2800:21f:cb07::1", "2a00:1450:4001:800::200e"])
def test_public_addresses(address: str) -> None:
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1", "192.0.2.1",
        "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1", "239.255.255.250", "240.0.0.1",
        "192.0.0.8", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:8.8.8.8", "64:ff9b::7f00:1", "64:ff9b:1::1", "100::1", "2001::1",
        "2001:db8::1", "2002:7f00:1::1", "2002:808:808::1", "3fff::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fe80::1",
        "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "0", "169.254.169.254", "2852039166",
             "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:a9fe:a9fe]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[fd00::1]"]
)  # fmt: skip
def test_no_spelling_of_a_private_address_is_gone_to_even_if_it_is_on_the_list(host: str) -> None:
    allow_list, address = AllowList((host,)), WebAddress.parse(f"https://{host}/")
    allow_list.check(address)
    with pytest.raises(UrlRefused, match="not on the public internet"):
        allow_list.resolve(address, 5)


def test_a_network_that_is_named_may_be_gone_to() -> None:
    allow_list = AllowList.of(FetchSettings(allowed_hosts="127.0.0.1,127.0.0.2", allowed_networks="127.0.0.1/32, fd00::/8"))
    assert allow_list.resolve(WebAddress.parse("https://127.0.0.1/"), 5) == ["127.0.0.1"]
    with pytest.raises(UrlRefused):
        allow_list.resolve(WebAddress.parse("https://127.0.0.2/"), 5)


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_list, address = AllowList(("example.org",)), WebAddress.parse("https://example.org/")
    resolving(monkeypatch, PUBLIC, "1.1.1.1", PUBLIC)
    assert allow_list.resolve(address, 5) == [PUBLIC, "1.1.1.1"]
    resolving(monkeypatch, PUBLIC, "10.0.0.1")
    with pytest.raises(UrlRefused, match=r"10\.0\.0\.1"):
        allow_list.resolve(address, 5)
    resolving(monkeypatch, "fe80::1%eth0")
    with pytest.raises(UrlRefused, match="fe80::1"):
        allow_list.resolve(address, 5)


def test_an_unknown_name_may_be_known_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(UrlUnreachable, match="Name or service not known"):
        AllowList(()).resolve(WebAddress.parse("https://example.org/"), 5)


def test_a_name_that_no_resolver_can_ask_for_is_unreachable() -> None:
    with pytest.raises(UrlUnreachable):
        AllowList(()).resolve(WebAddress.parse(f"https://{'a' * 64}.org/"), 5)


def test_a_look_up_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    try:
        with pytest.raises(UrlUnreachable, match="looked up within"):
            AllowList(()).resolve(WebAddress.parse("https://example.org/"), 0.1)
    finally:
        release.set()
