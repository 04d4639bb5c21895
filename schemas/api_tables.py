"""The SQL tables of the HTTP API: who may call it, and which audits were asked for."""

from datetime import datetime

from sqlalchemy import JSON, BigInteger, Column, Index, Integer, UniqueConstraint
from sqlmodel import Field, SQLModel

from schemas.states import DeliveryState, Scope, Verdict
from schemas.tables import UtcDateTime, now, words_of


class ApiKey(SQLModel, table=True):
    """A key to the API. Of its secret only the sha256 is kept: it is 256 random bits, which no dictionary holds."""

    __tablename__ = "api_key"

    id: str = Field(primary_key=True, max_length=16, description="the public part, in front of the secret")
    name: str = Field(max_length=64, unique=True, description="who: stands beside everything that was done with the key")
    secret_sha256: str = Field(max_length=64)
    scopes: list[str] = Field(sa_column=Column(JSON, nullable=False))
    requests_per_minute: int | None = Field(default=None, description="empty: as the settings say; 0: any number")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    last_used_at: datetime | None = Field(default=None, sa_type=UtcDateTime, description="to the minute")
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)

    def may(self, scope: Scope) -> bool:
        """Whether the key has a scope; `admin` has all of them."""
        return scope.value in self.scopes or Scope.ADMIN.value in self.scopes


class AuditRequest(SQLModel, table=True):
    """One `POST /v1/audits`: the jobs it asked for, and the name under which its sender may ask again."""

    __tablename__ = "audit_request"
    __table_args__ = (
        UniqueConstraint("key_id", "idempotency_key", name="uq_audit_request_key_idempotency"),
        Index("ix_audit_request_created_at", "created_at"),
    )

    id: str = Field(primary_key=True, max_length=32, description="the audit's number, and its jobs' submission")
    # No foreign key: a key's row may go, what was done with it stays.
    key_id: str = Field(max_length=16)
    who: str = Field(max_length=64, description="the key's name")
    idempotency_key: str | None = Field(default=None, max_length=255)
    fingerprint: str = Field(max_length=64, description="sha256 of what was asked")
    job_ids: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False), description="in the order asked")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    begun_at: datetime = Field(default_factory=now, sa_type=UtcDateTime, description="by whoever works on it now")
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime, description="empty while it is being taken in")


class Webhook(SQLModel, table=True):
    """An address that results are pushed to, signed."""

    __tablename__ = "webhook"

    id: str = Field(primary_key=True, max_length=16)
    url: str = Field(max_length=2048)
    # As it is: every delivery is signed with it. It opens nothing here.
    secret: str = Field(max_length=128)
    verdict: Verdict | None = Field(default=None, sa_column=Column(words_of(Verdict), nullable=True), description="only these")
    cursor: int = Field(sa_type=BigInteger, description="results up to this one have a delivery")
    who: str = Field(max_length=64, description="the key that made it")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    stopped_at: datetime | None = Field(default=None, sa_type=UtcDateTime, description="nothing is sent since then")
    stopped_why: str = Field(default="", max_length=512)


class WebhookDelivery(SQLModel, table=True):
    """One result on its way to one address, and what became of it."""

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        UniqueConstraint("webhook_id", "result_id", name="uq_webhook_delivery_webhook_result"),
        Index("ix_webhook_delivery_state_next_at", "state", "next_at"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, sa_column=Column(BigInteger().with_variant(Integer, "sqlite"), primary_key=True))
    webhook_id: str = Field(foreign_key="webhook.id", ondelete="CASCADE", max_length=16)
    result_id: int = Field(sa_type=BigInteger)
    state: DeliveryState = Field(default=DeliveryState.WAITING, sa_column=Column(words_of(DeliveryState), nullable=False))
    attempts: int = 0
    next_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    http_status: int | None = Field(default=None, description="of the last try; empty where there was no answer")
    words: str = Field(default="", max_length=512, description="of the last try")
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
