"""The SQL tables of the people who use the pages: who they are, where they are logged in, and the log of all decisions."""

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, BigInteger, Column, Index
from sqlmodel import Field, SQLModel

from schemas.states import Role
from schemas.tables import UtcDateTime, now, words_of


class PageUser(SQLModel, table=True):
    """A person who may log in to the pages. Rows stay for good: the records name them."""

    __tablename__ = "page_user"

    id: str = Field(primary_key=True, max_length=16)
    name: str = Field(max_length=64, description="as it is shown, and stands beside everything that they did")
    # Anna and anna are one person, or a reader of the records could take one for the other.
    login: str = Field(max_length=128, unique=True, description="the name without regard to capitals")
    password_hash: str | None = Field(default=None, max_length=255, description="argon2id; empty: only one-time addresses let in")
    role: Role = Field(sa_column=Column(words_of(Role), nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    disabled_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_login_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    password_changed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class PageSession(SQLModel, table=True):
    """One browser in which a person is logged in. Of its token, 256 random bits, only the sha256 is kept."""

    __tablename__ = "page_session"
    __table_args__ = (Index("ix_page_session_user_id", "user_id"), Index("ix_page_session_expires_at", "expires_at"))

    token_sha256: str = Field(primary_key=True, max_length=64)
    user_id: str = Field(foreign_key="page_user.id", ondelete="CASCADE", max_length=16)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    seen_at: datetime = Field(default_factory=now, sa_type=UtcDateTime, description="last request, to the minute")
    expires_at: datetime = Field(sa_type=UtcDateTime, description="however much it is used")
    closed_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LoginLink(SQLModel, table=True):
    """A one-time address that logs a person in. Of its token only the sha256 is kept."""

    __tablename__ = "login_link"
    __table_args__ = (Index("ix_login_link_user_id", "user_id"), Index("ix_login_link_expires_at", "expires_at"))

    token_sha256: str = Field(primary_key=True, max_length=64)
    user_id: str = Field(foreign_key="page_user.id", ondelete="CASCADE", max_length=16)
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class LogEntry(SQLModel, table=True):
    """One thing that somebody decided. Never changed, which the database sees to; each row holds the hash of the one before."""

    __tablename__ = "decision_log"
    __table_args__ = (Index("ix_decision_log_subject_number", "subject", "number"),)

    # Given by whoever adds the row, without gaps: a missing number is a missing row.
    number: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    at: datetime = Field(sa_type=UtcDateTime)
    who: str = Field(max_length=256)
    action: str = Field(max_length=64)
    subject: str = Field(max_length=256, description="what it was about: `result 12`, `model student-3`, `person anna`")
    details: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    previous_hash: str = Field(max_length=64)
    hash: str = Field(max_length=64, description="sha256 of all of the above")
