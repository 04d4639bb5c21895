"""Results pushed to other people's servers: signed, guarded, and tried again.

The id stays the same for every try of a delivery, so that a receiver can drop what it has.
"""

import functools
import http.client
import json
import logging
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Final

import urllib3

from schemas.errors import TamperwatchError
from schemas.tables import now
from storage import leases, queries, webhooks
from storage.webhooks import Due, Tried
from web.context import Context
from web.signatures import signature
from web.views import result_view
from workers.web_addresses import AllowList, WebAddress
from workers.web_connection import Allowance, connect, request

log = logging.getLogger(__name__)

EVENT: Final = "result.created"
VARIABLES: Final = "TAMPERWATCH_WEBHOOKS"
_LEASE: Final = "webhooks"
_LEASE_S: Final = 60.0
_AT_ONCE: Final = 8
_GONE: Final = 410


def check_address(context: Context, url: str) -> None:
    """Whether webhooks may lead there.

    Raises:
        UrlRefused
    """
    AllowList.of(context.settings.webhooks, VARIABLES).check(WebAddress.parse(url))


class Pusher:
    """Pushes results for as long as the process runs. Several may run: one of them at a time does the work."""

    def __init__(self, context: Context, holder: str) -> None:
        """Nothing runs before `start`.

        Args:
            holder: how this process calls itself; no two are called the same.
        """
        self._context = context
        self._holder = holder
        self._allowed = AllowList.of(context.settings.webhooks, VARIABLES)
        self._thread = threading.Thread(target=self._loop, name="webhooks", daemon=True)

    def start(self) -> None:
        """Begin. It ends when the context is closing."""
        self._thread.start()

    def join(self) -> None:
        """Wait for the deliveries in hand."""
        self._thread.join()

    def round(self) -> int:
        """Make deliveries of new results, try those that are due, and return how many were tried.

        Raises:
            StoreUnavailable
        """
        database, settings = self._context.database, self._context.settings.webhooks
        for webhook_id in self._active():
            with database.write() as session:
                webhooks.follow(session, webhook_id)
        with database.read() as session:
            due = webhooks.due(session)
        if not due:
            return 0
        with ThreadPoolExecutor(_AT_ONCE, "webhook") as pool:
            tried = list(pool.map(self._tried, due))
        with database.write() as session:
            numbers = [each.delivery.id or 0 for each in due]
            webhooks.note(session, list(zip(numbers, tried, strict=True)), settings.most_attempts)
        return len(due)

    def _loop(self) -> None:
        context = self._context
        while not context.closing.wait(context.settings.webhooks.poll_s):
            try:
                if not self._active():
                    continue
                with context.database.write() as session:
                    held = leases.acquire(session, _LEASE, self._holder, _LEASE_S)
                if held is not None:
                    with leases.Kept(context.database, held, _LEASE_S) as kept:
                        while not kept.lost.is_set() and not context.closing.is_set() and self.round():
                            pass
            except TamperwatchError as error:
                log.warning("no webhooks this time: %s", error.message)
            except Exception:
                # A thread that ended here would be missed only when deliveries are.
                log.exception("no webhooks this time: defect")

    def _active(self) -> list[str]:
        with self._context.database.read() as session:
            return [row.id for row in webhooks.webhooks(session) if row.stopped_at is None]

    def _tried(self, due: Due) -> Tried:
        with self._context.database.read() as session:
            found = queries.result_numbered(session, due.delivery.result_id)
        if found is None or found.own is None:
            return Tried(None, "the result was purged before it could be sent", final=True)
        data = result_view(found, found.own).model_dump(mode="json")
        body = json.dumps({"type": EVENT, "timestamp": now().isoformat(), "data": data}, ensure_ascii=False).encode()
        try:
            return self._posted(due, body)
        except TamperwatchError as error:
            return Tried(None, error.message)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError) as error:
            cause = error.__cause__ or error
            return Tried(None, f"{type(cause).__name__}: {str(cause)!a}")

    def _posted(self, due: Due, body: bytes) -> Tried:
        """One exchange with the address. Redirects are not followed: nobody allowed where they lead."""
        address = WebAddress.parse(due.webhook.url)
        allowance = Allowance(self._context.settings.webhooks.timeout_s)
        self._allowed.check(address)
        ips = self._allowed.resolve(address, allowance.left_s())
        message_id, timestamp_s = f"{due.webhook.id}_{due.delivery.result_id}", int(time.time())
        headers = {
            "Content-Type": "application/json",
            "User-Agent": "tamperwatch",
            "Connection": "close",
            "webhook-id": message_id,
            "webhook-timestamp": str(timestamp_s),
            "webhook-signature": signature(due.webhook.secret, message_id, timestamp_s, body),
        }
        tls = self._tls if address.scheme == "https" else None
        with (
            closing(connect(address, ips, allowance, tls)) as connection,
            closing(request(connection, address, headers, allowance, body)) as answer,
        ):
            status = answer.status
        return Tried(status, "" if 200 <= status < 300 else f"answered {status}", gone=status == _GONE)

    @functools.cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context()
