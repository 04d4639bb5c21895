"""Alembic's entry: `storage.migrations` hands over an open connection and owns the transaction."""

from alembic import context
from sqlmodel import SQLModel

from schemas.api_tables import ApiKey
from schemas.learning_tables import BoxAnnotation
from schemas.tables import AuditResult

# Naming tables loads the modules that fill the metadata.
assert ApiKey.metadata is AuditResult.metadata is BoxAnnotation.metadata is SQLModel.metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    # SQLite can't alter columns in place; Alembic copies the table instead.
    render_as_batch=True,
)
context.run_migrations()
