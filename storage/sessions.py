"""Where people are logged in. A session's token is shown to one browser; the row keeps its sha256. Callers bring the session."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import CursorResult, delete, or_, update
from sqlmodel import Session, col, select

from schemas.people_tables import LoginLink, PageSession, PageUser
from schemas.tables import now

_NOTED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True)
class Lasting:
    """How long a session lasts.

    Attributes:
        idle: without a request.
        at_most: however much it is used.
    """

    idle: timedelta
    at_most: timedelta


@dataclass(frozen=True)
class Active:
    """A session that stands, and whose it is."""

    user: PageUser
    row: PageSession


def open_session(session: Session, user: PageUser, lasting: Lasting) -> str:
    """Log a person in; returns the token, which nobody can show again."""
    token = secrets.token_urlsafe(32)
    session.add(PageSession(token_sha256=digest(token), user_id=user.id, expires_at=now() + lasting.at_most))
    user.last_login_at = now()
    session.add(user)
    session.flush()
    return token


def look_up(session: Session, token: str, lasting: Lasting) -> Active | None:
    """The session of a token; None where there is none, it is over or was closed, or the person is locked out."""
    query = select(PageSession, PageUser).join(PageUser).where(PageSession.token_sha256 == digest(token))
    found = session.exec(query).one_or_none()
    if found is None:
        return None
    row, user = found
    at = now()
    over = row.closed_at is not None or row.expires_at <= at or row.seen_at + lasting.idle <= at
    return None if over or user.disabled_at is not None else Active(user, row)


def wants_note(row: PageSession) -> bool:
    """Whether `note_use` has something to write: it does so once a minute, not with every request."""
    return now() - row.seen_at >= _NOTED_EVERY


def note_use(session: Session, token_sha256: str) -> None:
    """Note that a session was used just now; one that was closed meanwhile stays as it is."""
    at = now()
    stale = (col(PageSession.token_sha256) == token_sha256, col(PageSession.seen_at) <= at - _NOTED_EVERY)
    session.execute(update(PageSession).where(*stale, col(PageSession.closed_at).is_(None)).values(seen_at=at))


def close(session: Session, token_sha256: str) -> bool:
    """Log out of one session; False where it was closed already."""
    return _close(session, col(PageSession.token_sha256) == token_sha256) > 0


def close_all(session: Session, user_id: str, keep: str | None = None) -> int:
    """Log a person out everywhere, but in the session to keep; their unused one-time addresses open nothing either."""
    session.execute(delete(LoginLink).where(col(LoginLink.user_id) == user_id, col(LoginLink.used_at).is_(None)))
    return _close(session, col(PageSession.user_id) == user_id, col(PageSession.token_sha256) != (keep or ""))


def purge(session: Session, kept: timedelta) -> int:
    """Forget sessions and one-time addresses that ended longer ago than this; returns how many."""
    before = now() - kept
    gone = 0
    for query in (
        delete(PageSession).where(or_(col(PageSession.expires_at) <= before, col(PageSession.closed_at) <= before)),
        delete(LoginLink).where(col(LoginLink.expires_at) <= before),
    ):
        gone += _rows(session.execute(query))
    return gone


def digest(token: str) -> str:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def _close(session: Session, *which: object) -> int:
    standing = col(PageSession.closed_at).is_(None)
    return _rows(session.execute(update(PageSession).where(*which, standing).values(closed_at=now())))  # type: ignore[arg-type]


def _rows(result: object) -> int:
    assert isinstance(result, CursorResult)
    return result.rowcount
