"""Pictures fetched by their URL, from hosts that the settings name and from nowhere else."""

import functools
import http.client
import ssl
from contextlib import closing
from typing import Final

import urllib3

from schemas.errors import TooLarge, UrlGone, UrlUnreachable
from schemas.settings import Settings
from workers.web_addresses import AllowList, WebAddress
from workers.web_connection import Allowance, connect, read_body, request

_MOST_REDIRECTS: Final = 3
_REDIRECTS: Final = (301, 302, 303, 307, 308)
_COME_AGAIN: Final = (408, 425, 429)
# Identity is asked for; some servers pack what they have all the same. Whatever else they do is not unpacked.
_ENCODINGS: Final = ("", "identity", "gzip", "x-gzip", "deflate")
_HEADERS: Final = {"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "tamperwatch", "Connection": "close"}


class UrlFetcher:
    """Fetches pictures for all threads of a worker. Keeps no connection, no cookie, and knows no proxy."""

    def __init__(self, settings: Settings) -> None:
        """Nothing is connected, and without allowed hosts nothing ever is."""
        self._allowed = AllowList.of(settings.fetch)
        self._timeout_s = min(settings.fetch.timeout_s, settings.worker.visibility_timeout_s / 2)
        self._max_bytes = settings.limits.max_bytes

    def fetch(self, url: str) -> bytes:
        """The bytes at a URL.

        Raises:
            UrlRefused: it leads, or redirects, where nothing may be fetched from.
            UrlGone: the server has no such picture, or sends it in a way that is not read.
            TooLarge: more bytes than a picture may have.
            UrlUnreachable: no complete answer in time; another try may have one.
        """
        allowance = Allowance(self._timeout_s)
        address = WebAddress.parse(url)
        for _ in range(_MOST_REDIRECTS + 1):
            answer = self._ask(address, allowance)
            if isinstance(answer, bytes):
                return answer
            address = answer
        raise UrlGone(f"more than {_MOST_REDIRECTS} redirects, the last to {address}")

    def _ask(self, address: WebAddress, allowance: Allowance) -> bytes | WebAddress:
        """The picture at an address, or the address that it redirects to."""
        self._allowed.check(address)
        ips = self._allowed.resolve(address, allowance.left_s())
        tls = self._tls if address.scheme == "https" else None
        try:
            with (
                closing(connect(address, ips, allowance, tls)) as connection,
                closing(request(connection, address, _HEADERS, allowance)) as response,
            ):
                return self._answer(address, response, allowance)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            allowance.left_s()  # where time ran out, that is the truer word
            cause = error.__cause__ or error
            # What a server sent may be in there, whatever it is.
            raise UrlUnreachable(f"{address}: {type(cause).__name__}: {ascii(str(cause))[:200]}") from error

    def _answer(self, address: WebAddress, response: urllib3.HTTPResponse, allowance: Allowance) -> bytes | WebAddress:
        status, headers = response.status, response.headers
        if status in _REDIRECTS and "location" in headers:
            return address.joined(headers["location"])
        if status in _COME_AGAIN or status >= 500:
            raise UrlUnreachable(f"{address} answered {status}")
        if status != 200:
            raise UrlGone(f"{address} answered {status}")
        encoding = headers.get("content-encoding", "").strip().lower()
        if encoding not in _ENCODINGS:
            raise UrlGone(f"{address} sends its bytes packed in a way that is not read here: {encoding[:80]!a}")
        too_large = TooLarge(f"more than {self._max_bytes:,} bytes at {address} (TAMPERWATCH_LIMITS__MAX_BYTES)")
        if (response.length_remaining or 0) > self._max_bytes:
            raise too_large
        return read_body(response, self._max_bytes, allowance, too_large)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        # Reading the system's certificates takes longer than a fetch, and only https needs them.
        return ssl.create_default_context()
