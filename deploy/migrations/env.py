"""Alembic's entry: `storage.migrations` hands over an open connection and owns the transaction."""

from alembic import context
from sqlmodel import SQLModel

from schemas.tables import AuditResult

# Naming a table loads the module that fills the metadata.
assert AuditResult.metadata is SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    # SQLite can't alter columns in place; Alembic copies the table instead.
    render_as_batch=True,
)
context.run_migrations()
