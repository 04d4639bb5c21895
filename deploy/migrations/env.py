"""Alembic's entry: `storage.migrations` hands over an open connection; on SQLite it also owns the transaction."""

from alembic import context
from sqlmodel import SQLModel

from schemas.api_tables import ApiKey
from schemas.learning_tables import BoxAnnotation
from schemas.tables import AuditResult

# Naming tables loads the modules that fill the metadata.
assert ApiKey.metadata is AuditResult.metadata is BoxAnnotation.metadata is SQLModel.metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    # Where `storage.migrations` holds a transaction, everything is in it.
    transaction_per_migration=not connection.in_transaction(),
    target_metadata=SQLModel.metadata,
    # SQLite can't alter columns in place; Alembic copies the table instead.
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
