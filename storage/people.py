"""Who may use the pages, and as what. Callers bring the session; every change is logged in the same transaction."""

import secrets
import unicodedata
from typing import Final

from sqlmodel import Session, col, select

from schemas.api_tables import ApiKey
from schemas.errors import InvalidInput
from schemas.people_tables import PageUser
from schemas.states import Role
from schemas.tables import now
from storage import audit_log, sessions
from storage.turns import take_turns

_LONGEST_NAME: Final = 64
# Nothing that markup, paths or "key/person" could mistake for its own.
_SIGNS: Final = " .'_@-"
NAMES: Final = "names"
"""The turn of whoever gives a person or a key its name: no two of them may have the same."""


def add(session: Session, name: str, role: Role, by: str, password_hash: str | None = None) -> PageUser:
    """Let a person in.

    Args:
        by: who decides so.
        password_hash: from `storage.passwords.hashed`; None where only a one-time address lets them in for now.

    Raises:
        InvalidInput: a name that is taken or cannot be one.
    """
    name = unicodedata.normalize("NFC", name.strip())
    if not _is_name(name):
        raise InvalidInput(
            f"a person's name has 1 to {_LONGEST_NAME} letters, digits, spaces and . ' _ @ -, and begins with a letter"
        )
    take_turns(session, [NAMES])
    if (taken := find(session, name)) is not None:
        raise InvalidInput(f"there is, or was, a person named {taken.name!r}; names stay taken, because the records name them")
    if session.exec(select(ApiKey.id).where(ApiKey.name == name)).first() is not None:
        raise InvalidInput(f"there is, or was, an API key named {name!r}; the records could not tell the two apart")
    at = now() if password_hash is not None else None
    row = PageUser(
        id=secrets.token_hex(6), name=name, login=login_of(name), role=role, password_hash=password_hash, password_changed_at=at
    )
    session.add(row)
    session.flush()
    audit_log.append(session, by, "person.add", subject_of(row), role=role.value, password=password_hash is not None)
    return row


def find(session: Session, name: str) -> PageUser | None:
    """The person of a name, as it stands now, whatever this session read before."""
    if not _is_name(unicodedata.normalize("NFC", name.strip())):
        return None
    query = select(PageUser).where(PageUser.login == login_of(name))
    return session.exec(query.execution_options(populate_existing=True)).one_or_none()


def get(session: Session, name: str) -> PageUser:
    """The person of a name.

    Raises:
        InvalidInput: there is none.
    """
    row = find(session, name)
    if row is None:
        raise InvalidInput(f"no person {name!r}; `tamperwatch users list` shows them")
    return row


def people(session: Session) -> list[PageUser]:
    """All of them, by name, also those who were locked out."""
    return list(session.exec(select(PageUser).order_by(col(PageUser.login))))


def set_password(session: Session, row: PageUser, password_hash: str | None, by: str, keep: str | None = None) -> None:
    """Change a password; wherever else the person is logged in, they are logged out.

    Args:
        password_hash: None where it was forgotten: with a one-time address the person then chooses another one.
        keep: the session, by its token's sha256, in which the person does this.
    """
    row.password_hash, row.password_changed_at = password_hash, None if password_hash is None else now()
    session.add(row)
    closed = sessions.close_all(session, row.id, keep)
    given = password_hash is not None
    audit_log.append(session, by, "person.password", subject_of(row), password=given, sessions_closed=closed)


def set_role(session: Session, row: PageUser, role: Role, by: str) -> None:
    """Change what a person may do, from their next request on."""
    if row.role is role:
        return
    before, row.role = row.role, role
    session.add(row)
    audit_log.append(session, by, "person.role", subject_of(row), before=before.value, role=role.value)


def set_disabled(session: Session, row: PageUser, disabled: bool, by: str) -> None:
    """Lock a person out at once, or let them in again. What they did stays recorded."""
    if disabled is (row.disabled_at is not None):
        return
    row.disabled_at = now() if disabled else None
    session.add(row)
    closed = sessions.close_all(session, row.id) if disabled else 0
    audit_log.append(session, by, "person.disable" if disabled else "person.enable", subject_of(row), sessions_closed=closed)


def subject_of(row: PageUser) -> str:
    """How the log names a person."""
    return f"person {row.name}"


def _is_name(text: str) -> bool:
    """Letters of any script with their marks, digits and a few signs; a letter or digit first."""
    kinds = [unicodedata.category(each)[0] for each in text]
    fits = all(kind in "LMN" or each in _SIGNS for kind, each in zip(kinds, text, strict=True))
    return 0 < len(text) <= _LONGEST_NAME and kinds[0] in "LN" and fits


def login_of(name: str) -> str:
    """What two names have in common that people take for the same (NFKC, no capitals)."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name.strip()).casefold())[:128]
