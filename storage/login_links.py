"""One-time addresses that log a person in: for the first one, before there is a password, and for whoever forgot it.

A link works once, and for ten minutes. Callers bring the session.
"""

import secrets
from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, CursorResult, update
from sqlmodel import Session, col, select

from schemas.errors import InvalidInput, Unauthenticated
from schemas.people_tables import LoginLink, PageUser
from schemas.states import Role
from schemas.tables import now
from storage import audit_log, people
from storage.sessions import digest

LASTING: Final = timedelta(minutes=10)
PATH: Final = "/login/once"


def issue(session: Session, user: PageUser, by: str) -> str:
    """Make a link for a person; returns its path with the token, which nobody can show again.

    Raises:
        InvalidInput: the person is locked out.
    """
    if user.disabled_at is not None:
        raise InvalidInput(f"{user.name} is locked out; `tamperwatch users enable` lets them in again")
    token = secrets.token_urlsafe(32)
    session.add(LoginLink(token_sha256=digest(token), user_id=user.id, expires_at=now() + LASTING))
    session.flush()
    audit_log.append(session, by, "person.link", people.subject_of(user))
    return f"{PATH}?token={token}"


def issue_for_admin(session: Session, by: str, name: str = "admin") -> str:
    """Make a link for the first admin who may log in; where there is none, a person of this name becomes one."""
    admins = [row for row in people.people(session) if row.role is Role.ADMIN and row.disabled_at is None]
    return issue(session, admins[0] if admins else people.add(session, name, Role.ADMIN, by), by)


def owner(session: Session, token: str) -> PageUser:
    """Whom a link would log in, without using it.

    Raises:
        Unauthenticated: it is unknown, was used, or is too old.
    """
    query = select(PageUser).join(LoginLink).where(LoginLink.token_sha256 == digest(token), *_good())
    user = session.exec(query.where(col(PageUser.disabled_at).is_(None))).one_or_none()
    if user is None:
        raise Unauthenticated("this address was used already, or is too old; ask for another one")
    return user


def redeem(session: Session, token: str) -> PageUser:
    """Use a link up. Of two that try at once, one gets in.

    Raises:
        Unauthenticated: as `owner`.
    """
    user = owner(session, token)
    used = session.execute(update(LoginLink).where(col(LoginLink.token_sha256) == digest(token), *_good()).values(used_at=now()))
    assert isinstance(used, CursorResult)
    if used.rowcount != 1:
        raise Unauthenticated("this address was used already, or is too old; ask for another one")
    return user


def _good() -> tuple[ColumnElement[bool], ...]:
    return col(LoginLink.used_at).is_(None), col(LoginLink.expires_at) > now()
