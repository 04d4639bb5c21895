"""People who use the pages, their sessions, and the log of decisions, which the database itself keeps from being changed."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0010_people"
down_revision: str | None = "0009_api"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None

_REFUSAL = "the decision log is only added to"


def upgrade() -> None:
    _people()
    _log()
    _refuse_changes()


def downgrade() -> None:
    for table in ("decision_log", "login_link", "page_session", "page_user"):
        op.drop_table(table)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("DROP FUNCTION decision_log_refuse()")


def _time(name: str, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _user_id() -> sa.Column[object]:
    return sa.Column("user_id", sa.String(16), sa.ForeignKey("page_user.id", ondelete="CASCADE"), nullable=False)


def _people() -> None:
    op.create_table(
        "page_user",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("login", sa.String(128), nullable=False, unique=True),
        sa.Column("password_hash", sa.String(255)),
        sa.Column("role", sa.String(16), nullable=False),
        _time("created_at"),
        _time("disabled_at", nullable=True),
        _time("last_login_at", nullable=True),
        _time("password_changed_at", nullable=True),
    )
    token = ("token_sha256", sa.String(64))
    op.create_table(
        "page_session",
        sa.Column(*token, primary_key=True),
        _user_id(),
        *(_time("created_at"), _time("seen_at"), _time("expires_at"), _time("closed_at", nullable=True)),
    )
    op.create_table(
        "login_link",
        sa.Column(*token, primary_key=True),
        _user_id(),
        *(_time("created_at"), _time("expires_at"), _time("used_at", nullable=True)),
    )
    for table in ("page_session", "login_link"):
        for column in ("user_id", "expires_at"):
            op.create_index(f"ix_{table}_{column}", table, [column])


def _log() -> None:
    op.create_table(
        "decision_log",
        sa.Column("number", sa.BigInteger(), primary_key=True, autoincrement=False),
        _time("at"),
        sa.Column("who", sa.String(256), nullable=False),
        sa.Column("action", sa.String(64), nullable=False),
        sa.Column("subject", sa.String(256), nullable=False),
        sa.Column("details", sa.JSON(), nullable=False),
        sa.Column("previous_hash", sa.String(64), nullable=False),
        sa.Column("hash", sa.String(64), nullable=False),
    )
    op.create_index("ix_decision_log_subject_number", "decision_log", ["subject", "number"])


def _refuse_changes() -> None:
    """Against accidents. Whoever owns the database can drop these; the hashes tell of him."""
    if op.get_bind().dialect.name == "sqlite":
        for change in ("update", "delete"):
            refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
            op.execute(f"CREATE TRIGGER decision_log_{change} BEFORE {change.upper()} ON decision_log {refuse}")
        return
    body = f"BEGIN RAISE EXCEPTION '{_REFUSAL}'; END"
    op.execute(f"CREATE FUNCTION decision_log_refuse() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
    rows, all_rows = "UPDATE OR DELETE ON decision_log FOR EACH ROW", "TRUNCATE ON decision_log FOR EACH STATEMENT"
    for name, change in (("change", rows), ("truncate", all_rows)):
        op.execute(f"CREATE TRIGGER decision_log_{name} BEFORE {change} EXECUTE FUNCTION decision_log_refuse()")
