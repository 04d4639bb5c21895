"""Logging in and out, each try with its entry in the log."""

from typing import Final

from sqlmodel import Session

from schemas.errors import Unauthenticated
from schemas.people_tables import PageUser
from storage import audit_log, login_links, passwords, people, sessions
from storage.database import Database
from storage.sessions import Lasting

_REFUSED: Final = "name and password do not belong together"


def log_in(database: Database, name: str, password: str, address: str, lasting: Lasting) -> str:
    """Open a session for a person who knows the password; returns its token.

    An unknown name, a wrong password and a person who is locked out are told in the same words, after the same work.

    Args:
        address: where the try comes from, for the log.

    Raises:
        Unauthenticated
    """
    with database.read() as session:
        user = people.find(session, name)
        known = user.password_hash if user is not None else None
    # Outside of any transaction: it takes long on purpose.
    right = passwords.fits(known, password)
    better = passwords.rehashed(password) if right and known and passwords.is_outdated(known) else None
    with database.write() as session:
        user = people.find(session, name)
        reason = _refusal(user, known, right)
        if user is not None and reason is None:
            user.password_hash = better or user.password_hash
            return _opened(session, user, "login", address, lasting)
        # Of a name that is nobody's only that: people type passwords into the wrong field.
        subject = people.subject_of(user) if user is not None else "person unknown"
        audit_log.append(session, "unknown", "login.failed", subject, address=address, reason=reason)
    raise Unauthenticated(_REFUSED)


def confirm(database: Database, user_name: str, password: str, address: str) -> None:
    """Make sure that a person who is logged in also knows the password, if they have one.

    Raises:
        Unauthenticated
    """
    with database.read() as session:
        known = people.get(session, user_name).password_hash
    if known is None or passwords.fits(known, password):
        return
    with database.write() as session:
        said = {"address": address, "reason": "wrong password"}
        audit_log.append(session, user_name, "login.failed", f"person {user_name}", **said)
    raise Unauthenticated("the present password is another one")


def log_in_once(database: Database, token: str, address: str, lasting: Lasting) -> str:
    """Open a session for whoever holds a one-time address; returns its token.

    Raises:
        Unauthenticated: the address opens nothing any more.
    """
    with database.write() as session:
        return _opened(session, login_links.redeem(session, token), "login.link", address, lasting)


def log_out(session: Session, user_name: str, token_sha256: str) -> None:
    """Close a session."""
    if sessions.close(session, token_sha256):
        audit_log.append(session, user_name, "logout", f"person {user_name}")


def _refusal(user: PageUser | None, known: str | None, right: bool) -> str | None:
    if user is None:
        return "unknown name"
    if user.disabled_at is not None:
        return "locked out"
    # Changed while we looked: what was right then need not be now.
    if not right or user.password_hash != known:
        return "wrong password"
    return None


def _opened(session: Session, user: PageUser, action: str, address: str, lasting: Lasting) -> str:
    token = sessions.open_session(session, user, lasting)
    audit_log.append(session, user.name, action, people.subject_of(user), address=address)
    return token
