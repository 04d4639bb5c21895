"""Who may call the HTTP API. A key is shown once, when it is made; callers bring the session.

A key reads `tw_<id>_<secret>`: the id finds the row, and the secret is 256 random bits. Of these the row keeps the sha256: a slow
hash would protect what people choose, and costs each request; nobody guesses this (NIST SP 800-63B, 5.1.1.2, on such secrets).
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import or_, update
from sqlmodel import Session, col, select

from schemas.api_tables import ApiKey
from schemas.errors import InvalidInput, Unauthenticated
from schemas.states import Scope
from schemas.tables import now
from storage import audit_log, people
from storage.turns import take_turns

_TOKEN: Final = re.compile(r"tw_([0-9a-f]{12})_([0-9a-f]{64})")
# Names go into "key/person" and into logs.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._@-]{0,63}")
_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class NewKey:
    """A key as its owner gets to see it.

    Attributes:
        token: to send as `Authorization: Bearer TOKEN`; nobody can show it again.
    """

    row: ApiKey
    token: str


def create(
    session: Session,
    name: str,
    scopes: Collection[Scope],
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    by: str = audit_log.OURSELVES,
) -> NewKey:
    """Make a key.

    Args:
        name: of the person or program it is for; it stands beside everything that is done with the key.
        scopes: what it may do.
        expires_at: None for never.
        requests_per_minute: None for what the settings say; 0 for any number.
        by: who makes it.

    Raises:
        InvalidInput: no scope, a name that is taken or cannot be one, or a time that has passed.
    """
    if not _NAME.fullmatch(name):
        raise InvalidInput("a key's name has 1 to 64 letters, digits, spaces and . _ @ -, and begins with a letter or digit")
    if not scopes:
        raise InvalidInput(f"a key needs a scope: {', '.join(Scope)}")
    if expires_at is not None and expires_at <= now():
        raise InvalidInput("a key cannot have expired before it is made")
    take_turns(session, [people.NAMES])
    if session.exec(select(ApiKey.id).where(ApiKey.name == name)).first() is not None:
        raise InvalidInput(f"there is, or was, a key named {name!r}; names stay taken, because the records name them")
    if people.find(session, name) is not None:
        raise InvalidInput(f"there is, or was, a person named {name!r} on the pages; the records could not tell the two apart")
    key_id, secret = secrets.token_hex(6), secrets.token_hex(32)
    row = ApiKey(
        id=key_id,
        name=name,
        secret_sha256=_digest(secret),
        scopes=[scope.value for scope in Scope if scope in scopes],
        requests_per_minute=requests_per_minute,
        expires_at=expires_at,
    )
    session.add(row)
    session.flush()
    expires = None if expires_at is None else expires_at.isoformat()
    audit_log.append(session, by, "key.create", f"key {name}", id=key_id, scopes=row.scopes, expires=expires)
    return NewKey(row, f"tw_{key_id}_{secret}")


def authenticate(session: Session, token: str) -> ApiKey:
    """The key that a token is of.

    Raises:
        Unauthenticated: there is no such key, or it has expired or was revoked. A wrong secret is told like an unknown key.
    """
    parts = _TOKEN.fullmatch(token)
    row = session.get(ApiKey, parts[1]) if parts else None
    if parts is None or row is None or not hmac.compare_digest(row.secret_sha256, _digest(parts[2])):
        raise Unauthenticated("no such API key")
    if row.revoked_at is not None:
        raise Unauthenticated("this API key was revoked")
    if row.expires_at is not None and row.expires_at <= now():
        raise Unauthenticated("this API key has expired")
    return row


def wants_note(row: ApiKey) -> bool:
    """Whether `note_use` has something to write: it does so once a minute, not with every request."""
    return row.last_used_at is None or now() - row.last_used_at >= _NOTED_EVERY


def note_use(session: Session, key_id: str) -> None:
    """Note that a key was used just now."""
    at, last = now(), col(ApiKey.last_used_at)
    stale = or_(last.is_(None), last <= at - _NOTED_EVERY)
    session.execute(update(ApiKey).where(col(ApiKey.id) == key_id, stale).values(last_used_at=at))


def keys(session: Session) -> list[ApiKey]:
    """All keys, oldest first, with those that are revoked."""
    return list(session.exec(select(ApiKey).order_by(col(ApiKey.created_at), col(ApiKey.name))))


def revoke(session: Session, name_or_id: str, by: str = audit_log.OURSELVES) -> ApiKey:
    """Let a key open nothing from now on. Doing it twice changes nothing.

    Raises:
        InvalidInput: there is no such key.
    """
    wanted = or_(col(ApiKey.name) == name_or_id, col(ApiKey.id) == name_or_id)
    row = session.exec(select(ApiKey).where(wanted)).first()
    if row is None:
        raise InvalidInput(f"no API key {name_or_id!r}; `tamperwatch keys list` shows them")
    if row.revoked_at is None:
        row.revoked_at = now()
        session.add(row)
        session.flush()
        audit_log.append(session, by, "key.revoke", f"key {row.name}", id=row.id)
    return row


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
