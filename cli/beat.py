"""`tamperwatch beat`: begin retraining runs at their time."""

import logging

from cli.console import load_settings
from cli.store import open_store
from schemas.settings import Settings
from storage.blobs import open_blob_store
from storage.telemetry_log import log_to_stderr


def beat() -> None:
    """Begin a retraining run every night, or after so many new boxes, and call a trainer for it. Until SIGTERM.

    TAMPERWATCH_SCHEDULE__TIME and TAMPERWATCH_SCHEDULE__TIME_ZONE say when; several of these do no harm.

    \b
    Examples:
      tamperwatch beat
      TAMPERWATCH_SCHEDULE__TIME_ZONE=Europe/Berlin tamperwatch beat
    """
    settings = load_settings()
    log_to_stderr(logging.INFO, settings.telemetry.log_format)
    serve(settings)


def serve(settings: Settings) -> None:
    """Look at the timetable every minute; returns after a signal."""
    from scheduler.app import make_trainer_app
    from scheduler.beat import run_beat
    from storage.telemetry_health import Health, store_checks
    from storage.telemetry_server import serve_telemetry

    database, app = open_store(settings.database_url), make_trainer_app(settings)
    health = Health("beat", live={}, ready=store_checks(database, open_blob_store(settings.blobs)))
    try:
        with serve_telemetry(settings.telemetry, health):
            run_beat(database, settings, app)
    finally:
        app.close()
        database.close()
