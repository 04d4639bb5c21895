"""`tamperwatch worker`: take audit jobs from Redis until told to stop."""

import logging
import os
import socket
from typing import Annotated

import typer

from cli.console import load_settings, log_to_stderr
from cli.options import parse_queues
from cli.store import open_store
from schemas.settings import Settings
from schemas.states import AuditQueue


def worker(
    queues: Annotated[str, typer.Option(help="Queues to serve, comma separated: high, default, bulk.")] = "high,default,bulk",
    device: Annotated[str | None, typer.Option(help="cpu or cuda:N; one worker per device.")] = None,
    embedded: Annotated[bool, typer.Option("--embedded", hidden=True, help="Quieter logs, for the embedded stack.")] = False,
) -> None:
    """Audit pictures from the queues, until SIGTERM.

    Settings come from TAMPERWATCH_* variables; `tamperwatch doctor` shows whether everything answers.

    \b
    Examples:
      tamperwatch worker
      tamperwatch worker --device cuda:0 --queues high,default
    """
    # Celery's soft shutdown (finish what is in hand, give back the rest) hangs on SIGQUIT; supervisors send SIGTERM.
    # Celery reads this when it is first imported.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    served = parse_queues(queues)
    log_to_stderr(logging.WARNING if embedded else logging.INFO)
    settings = load_settings()
    if device is not None:
        settings.engine.device = device
    serve(settings, served)


def serve(settings: Settings, queues: list[AuditQueue]) -> None:
    """Load the live model, then consume; returns after a graceful stop."""
    from storage.blobs import open_blob_store
    from workers.app import make_app
    from workers.pipeline import AuditPipeline
    from workers.runtime import ModelRuntime
    from workers.sweeper import Sweeper
    from workers.tasks import register_tasks

    database = open_store(settings.database_url)
    runtime = ModelRuntime.live(database, settings)
    pipeline = AuditPipeline(database, open_blob_store(settings.blobs), runtime, settings)
    app = make_app(settings)
    register_tasks(app, pipeline)
    sweeper = Sweeper(database, app, settings.worker.visibility_timeout_s)
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                "--pool=threads",
                # Two batches of threads: while one batch is on the device, the next is fetched and decoded.
                f"--concurrency={2 * settings.worker.max_batch}",
                f"--queues={','.join(queue.celery_name for queue in queues)}",
                f"--hostname=audit-{os.getpid()}@{socket.gethostname()}",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=WARNING",
            ]
        )
    finally:
        sweeper.close()
        runtime.close()
        pipeline.close()
        database.close()
