"""Result numbers that are never given twice, on SQLite too: readers go on from the last number they saw."""

from collections.abc import Sequence

from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: Sequence[str] | None = None
depends_on: Sequence[str] | None = None


def upgrade() -> None:
    _copied(sqlite_autoincrement=True)


def downgrade() -> None:
    _copied(sqlite_autoincrement=False)


def _copied(sqlite_autoincrement: bool) -> None:
    """SQLite learns AUTOINCREMENT only with a new table. PostgreSQL's sequence never goes back by itself."""
    if op.get_bind().dialect.name != "sqlite":
        return
    options = {"sqlite_autoincrement": sqlite_autoincrement}
    with op.batch_alter_table("audit_result", recreate="always", table_kwargs=options):
        pass
