"""Alembic migrations, and later everything else that puts the roles into production."""
