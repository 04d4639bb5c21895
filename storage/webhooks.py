"""Addresses that results are pushed to, and every delivery to them. Callers bring the session.

A webhook follows the results as any reader does, by a cursor; each result behind it becomes one delivery, which is tried again
until it is taken or its attempts are spent.
"""

import base64
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from urllib.parse import urlsplit

from sqlalchemy import delete as delete_rows
from sqlmodel import Session, col, select

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.errors import NotFound
from schemas.states import DeliveryState, Verdict
from schemas.tables import now
from storage import audit_log, feed, queries

_SECRET_BYTES: Final = 32
_PAGE: Final = 100
_LONGEST_WORDS: Final = 500
# The schedule that the Standard Webhooks specification proposes, in seconds; the last one again and again.
_PAUSES_S: Final = (5, 60, 300, 1800, 7200, 18_000, 36_000)


@dataclass(frozen=True)
class Due:
    """A delivery to be tried now."""

    delivery: WebhookDelivery
    webhook: Webhook


@dataclass(frozen=True)
class Tried:
    """What one try came to.

    Attributes:
        http_status: of the answer; None where there was none.
        words: what went wrong; empty where the delivery was taken.
        gone: the address wants no more (410).
        final: another try cannot mend it.
    """

    http_status: int | None
    words: str = ""
    gone: bool = False
    final: bool = False


def create(session: Session, url: str, verdict: Verdict | None, who: str) -> Webhook:
    """Push results from now on. The caller has checked the address."""
    row = Webhook(
        id=secrets.token_hex(6),
        url=url,
        secret=f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}",
        verdict=verdict,
        cursor=feed.newest_result(session),
        who=who,
    )
    session.add(row)
    session.flush()
    # Not the whole address: its path and query may hold secrets of the other side.
    said = {"host": urlsplit(url).hostname, "verdict": None if verdict is None else verdict.value}
    audit_log.append(session, who, "webhook.create", f"webhook {row.id}", **said)
    return row


def webhooks(session: Session) -> list[Webhook]:
    """All of them, oldest first."""
    return list(session.exec(select(Webhook).order_by(col(Webhook.created_at))))


def get(session: Session, webhook_id: str) -> Webhook:
    """One by its id.

    Raises:
        NotFound
    """
    row = session.get(Webhook, webhook_id)
    if row is None:
        raise NotFound(f"no webhook {webhook_id}")
    return row


def delete(session: Session, webhook_id: str, who: str) -> None:
    """Push nothing more, and forget its deliveries.

    Raises:
        NotFound
    """
    session.delete(get(session, webhook_id))
    audit_log.append(session, who, "webhook.delete", f"webhook {webhook_id}")


def deliveries(
    session: Session, webhook_id: str, state: DeliveryState | None = None, before: int | None = None, limit: int = 100
) -> list[WebhookDelivery]:
    """The log of a webhook, newest first.

    Args:
        before: only those with a lower id, for the next page.
    """
    query = select(WebhookDelivery).where(WebhookDelivery.webhook_id == webhook_id)
    if state is not None:
        query = query.where(WebhookDelivery.state == state)
    if before is not None:
        query = query.where(col(WebhookDelivery.id) < before)
    return list(session.exec(query.order_by(col(WebhookDelivery.id).desc()).limit(limit)))


def try_again(session: Session, webhook_id: str, delivery_id: int) -> WebhookDelivery:
    """Let a delivery be tried anew, as if it never had been; a webhook that was stopped goes on.

    Raises:
        NotFound
    """
    webhook = get(session, webhook_id)
    row = session.get(WebhookDelivery, delivery_id)
    if row is None or row.webhook_id != webhook_id:
        raise NotFound(f"webhook {webhook_id} has no delivery {delivery_id}")
    webhook.stopped_at, webhook.stopped_why = None, ""
    row.state, row.attempts, row.next_at, row.ended_at = DeliveryState.WAITING, 0, now(), None
    session.add_all([webhook, row])
    session.flush()
    return row


def follow(session: Session, webhook_id: str) -> int:
    """Make deliveries of the next results behind a webhook's cursor, and return how many."""
    webhook = get(session, webhook_id)
    found = queries.read_results(session, webhook.cursor, _PAGE, webhook.verdict)
    numbers = [each.own.id for each in found if each.own is not None and each.own.id is not None]
    session.add_all(WebhookDelivery(webhook_id=webhook_id, result_id=number) for number in numbers)
    if numbers:
        webhook.cursor = numbers[-1]
        session.add(webhook)
    return len(numbers)


def due(session: Session, limit: int = 50) -> list[Due]:
    """The deliveries whose time has come, longest due first."""
    query = select(WebhookDelivery, Webhook).join(Webhook)
    query = query.where(
        WebhookDelivery.state == DeliveryState.WAITING,
        col(WebhookDelivery.next_at) <= now(),
        col(Webhook.stopped_at).is_(None),
    )
    rows = session.exec(query.order_by(col(WebhookDelivery.next_at), col(WebhookDelivery.id)).limit(limit)).all()
    found = [Due(delivery, webhook) for delivery, webhook in rows]
    session.expunge_all()
    return found


def note(session: Session, tried: Sequence[tuple[int, Tried]], most_attempts: int) -> None:
    """Store what tries came to, by the deliveries' ids. Deliveries that are gone by now are left out."""
    for delivery_id, outcome in tried:
        row = session.get(WebhookDelivery, delivery_id)
        if row is None:
            continue
        row.attempts += 1
        row.http_status, row.words = outcome.http_status, outcome.words.replace("\0", "")[:_LONGEST_WORDS]
        if not outcome.words:
            row.state, row.ended_at = DeliveryState.DELIVERED, now()
        elif outcome.final or outcome.gone or row.attempts >= most_attempts:
            row.state, row.ended_at = DeliveryState.FAILED, now()
        else:
            row.next_at = now() + timedelta(seconds=_PAUSES_S[min(row.attempts, len(_PAUSES_S)) - 1])
        session.add(row)
        if outcome.gone:
            webhook = get(session, row.webhook_id)
            webhook.stopped_at, webhook.stopped_why = now(), "its address answered 410 Gone"
            session.add(webhook)


def purge(session: Session, older_than: timedelta) -> int:
    """Forget deliveries that ended so long ago. Returns how many."""
    old = delete_rows(WebhookDelivery).where(col(WebhookDelivery.ended_at) < now() - older_than)
    return int(session.connection().execute(old).rowcount)
