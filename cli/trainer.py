"""`tamperwatch trainer`: carry out retraining runs until told to stop."""

import logging
import os
from typing import Annotated

import typer

from cli.console import load_settings
from cli.packages import need_training_packages
from cli.store import open_store
from schemas.settings import Settings
from storage.blobs import open_blob_store
from storage.telemetry_log import log_to_stderr


def trainer(
    device: Annotated[str | None, typer.Option(help="cpu or cuda:N, for training.")] = None,
) -> None:
    """Carry out retraining runs, one at a time, until SIGTERM. A run under way is saved then, and gone on with later.

    Needs the extra: pip install 'tamperwatch\\[train]'. Several trainers do no harm: one of them trains.

    \b
    Examples:
      tamperwatch trainer
      tamperwatch trainer --device cuda:0
    """
    settings = load_settings()
    log_to_stderr(logging.INFO, settings.telemetry.log_format)
    need_training_packages()
    if device is not None:
        settings.retrain.device = device
    serve(settings)


def serve(settings: Settings) -> None:
    """Wait for runs; returns after a signal."""
    from scheduler.app import make_trainer_app
    from scheduler.trainer_role import NightProcess, run_trainer
    from storage.telemetry_health import Health, store_checks
    from storage.telemetry_server import serve_telemetry

    # It is for audit workers: a cold shutdown, which Celery makes of SIGQUIT, asks its thread pool for what that cannot do.
    os.environ.pop("REMAP_SIGTERM", None)
    database, app = open_store(settings.database_url), make_trainer_app(settings)
    health = Health("trainer", live={}, ready=store_checks(database, open_blob_store(settings.blobs)))
    try:
        with serve_telemetry(settings.telemetry, health):
            run_trainer(database, app, NightProcess(settings))
    finally:
        app.close()
        database.close()
