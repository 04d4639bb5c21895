"""The words every room shares: tables, messages, enums, geometry, settings and errors. No torch, no celery, no I/O."""
