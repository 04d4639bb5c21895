"""Where a URL leads, and whether we go there: its form, its host, and the addresses that the host's name stands for."""

import ipaddress
import re
import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from urllib3.exceptions import LocationParseError
from urllib3.util import parse_url

from schemas.errors import UrlRefused, UrlUnreachable
from schemas.messages import MAX_URL
from schemas.settings import FetchSettings

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

PORTS: Final = {"https": 443, "http": 80}
# Parsers disagree about these, and disagreement is how a check is led around.
_DISPUTED: Final = re.compile(r"[\x00-\x20\x7f\\]")
_HOST: Final = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\]")
_GLOBAL_IPV6: Final = ipaddress.IPv6Network("2000::/3")
# Inside it, but for protocols (Teredo among them), documentation, or with an IPv4 address of any kind inside (6to4).
_NOT_PUBLIC_IPV6: Final = ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
_NOT_PUBLIC: Final = tuple(map(ipaddress.ip_network, (*_NOT_PUBLIC_IPV6, "192.0.0.0/24", "192.88.99.0/24")))


@dataclass(frozen=True)
class WebAddress:
    """A URL taken apart.

    Attributes:
        scheme: https or http.
        host: in small letters, an IPv6 address in its brackets.
        port: given or the scheme's own.
        target: path and query, percent-encoded.
    """

    scheme: str
    host: str
    port: int
    target: str

    @classmethod
    def parse(cls, url: str) -> "WebAddress":
        """Take a URL apart.

        Raises:
            UrlRefused: it is not one, of another scheme, or has a user name in it.
        """
        if len(url) > MAX_URL or _DISPUTED.search(url):
            raise UrlRefused(f"not a URL: more than {MAX_URL} characters, or a space, control character or backslash in it")
        try:
            parts = parse_url(url)
        except LocationParseError as error:
            raise UrlRefused("not a URL that can be read") from error
        if parts.scheme not in PORTS:
            raise UrlRefused("only https:// is fetched, and http:// where it is allowed")
        if parts.auth is not None:
            raise UrlRefused("a URL with a user name or password in it is not fetched")
        if parts.host is None or not _HOST.fullmatch(parts.host):
            raise UrlRefused(f"not a host name or address: {parts.host!r}")
        return cls(parts.scheme, parts.host, PORTS[parts.scheme] if parts.port is None else parts.port, parts.request_uri)

    @property
    def authority(self) -> str:
        """Host and port, as in the Host header: without the port where it is the scheme's own."""
        return self.host if self.port == PORTS[self.scheme] else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The host without brackets, as it is looked up and as certificates have it."""
        return self.host.strip("[]")

    def __str__(self) -> str:
        """Without the query, which may hold secrets: this ends up in logs and on screens."""
        return f"{self.scheme}://{self.authority}{self.target.partition('?')[0]}"

    def joined(self, location: str) -> "WebAddress":
        """Where a redirect leads.

        Raises:
            UrlRefused
        """
        try:
            return WebAddress.parse(urljoin(f"{self.scheme}://{self.authority}{self.target}", location))
        except ValueError as error:
            raise UrlRefused(f"{self} redirects to what is no URL") from error


@dataclass(frozen=True)
class AllowList:
    """Which hosts are fetched from, and where they may be."""

    hosts: tuple[str, ...]
    networks: tuple[IpNetwork, ...] = ()
    plain_http: bool = False
    variables: str = "TAMPERWATCH_FETCH"

    @classmethod
    def of(cls, settings: FetchSettings, variables: str = "TAMPERWATCH_FETCH") -> "AllowList":
        """What settings allow; `variables` is how their names begin, for messages."""
        return cls(settings.hosts, settings.networks, settings.plain_http, variables)

    def check(self, address: WebAddress) -> None:
        """Whether this host may be asked at all; nothing is looked up.

        Raises:
            UrlRefused
        """
        if address.scheme == "http" and not self.plain_http:
            raise UrlRefused(f"http:// is not used here ({self.variables}__PLAIN_HTTP)")
        if not any(_matches(address, allowed) for allowed in self.hosts):
            raise UrlRefused(f"{address.authority} is not one of the hosts that are allowed ({self.variables}__ALLOWED_HOSTS)")

    def resolve(self, address: WebAddress, timeout_s: float) -> list[str]:
        """The addresses a host's name stands for now, all of them checked. Connect to these, and look up nothing again.

        Raises:
            UrlRefused: one of them is neither public nor in a network that is allowed.
            UrlUnreachable: the name is not known, or was not looked up in time.
        """
        found = _looked_up(address, timeout_s)
        for each in found:
            ip = ipaddress.ip_address(each.partition("%")[0])
            if not is_public(ip) and not any(ip in network for network in self.networks):
                setting = f"{self.variables}__ALLOWED_NETWORKS"
                raise UrlRefused(f"{address.host} is at {ip}, which is not on the public internet ({setting})")
        return found


def is_public(ip: IpAddress) -> bool:
    """Whether an address is global unicast, and none that wraps or stands for another.

    Source: IANA's special-purpose address registries (RFC 6890) through `ipaddress`, whose older releases lack entries, and
    which counts as global what only a relay or translator (6to4, NAT64) makes something of.
    """
    if isinstance(ip, ipaddress.IPv6Address) and ip not in _GLOBAL_IPV6:
        return False
    unusable = ip.is_multicast or ip.is_reserved or ip.is_unspecified
    return ip.is_global and not unusable and not any(ip in network for network in _NOT_PUBLIC)


def _matches(address: WebAddress, allowed: str) -> bool:
    host, colon, port = allowed.rpartition(":")
    if not colon or allowed.endswith("]"):
        host, port = allowed, str(PORTS[address.scheme])
    if str(address.port) != port:
        return False
    return address.host == host or (host.startswith("*.") and address.host.endswith(host[1:]))


def _looked_up(address: WebAddress, timeout_s: float) -> list[str]:
    """All addresses of a host, once each. The system's look-up knows no time limit, so it is waited for, not called."""
    answer: Future[list[str]] = Future()
    threading.Thread(target=_look_up, args=(address, answer), name="look-up", daemon=True).start()
    try:
        return answer.result(timeout_s)
    except FutureTimeout as error:
        raise UrlUnreachable(f"{address.host} was not looked up within {timeout_s:.1f} s") from error
    except (OSError, UnicodeError) as error:
        raise UrlUnreachable(f"{address.host} is not known: {error}") from error


def _look_up(address: WebAddress, answer: Future[Sequence[str]]) -> None:
    try:
        infos = socket.getaddrinfo(address.name, address.port, type=socket.SOCK_STREAM)
        answer.set_result(list(dict.fromkeys(str(info[4][0]) for info in infos)))
    except Exception as error:
        answer.set_exception(error)
