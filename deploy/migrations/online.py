"""What migrations use on tables that are large and in use: indexes that are built while others write."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import sqlalchemy as sa
from alembic import op

LARGE = frozenset({"picture", "audit_job", "audit_result"})
"""Tables that grow with every picture. A test keeps migrations from locking them for long."""


def create_index(name: str, table: str, columns: Sequence[str | sa.TextClause], **options: object) -> None:
    """CREATE INDEX; on PostgreSQL CONCURRENTLY, which waits for others' transactions but keeps nobody waiting.

    It cannot be in a transaction: make it the only step of its revision. Cut short, it leaves an index that is not used, which
    the next try drops.
    """
    if op.get_context().dialect.name != "postgresql":
        op.create_index(name, table, columns, **options)
        return
    with _outside_transactions():
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')
        op.create_index(name, table, columns, postgresql_concurrently=True, **options)


def drop_index(name: str, table: str) -> None:
    """DROP INDEX; on PostgreSQL CONCURRENTLY."""
    if op.get_context().dialect.name != "postgresql":
        op.drop_index(name, table)
        return
    with _outside_transactions():
        op.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{name}"')


@contextmanager
def _outside_transactions() -> Iterator[None]:
    """Each statement by itself, without the limit on waiting: what CONCURRENTLY waits for holds nobody up."""
    with op.get_context().autocommit_block():
        (before,) = op.get_bind().execute(sa.text("SHOW lock_timeout")).one()
        op.execute("SET lock_timeout = 0")
        yield
        op.execute(f"SET lock_timeout = '{before}'")
