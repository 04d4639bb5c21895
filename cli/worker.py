"""`tamperwatch worker`: take audit jobs from Redis until told to stop."""

import logging
import os
import socket
from typing import TYPE_CHECKING, Annotated

import typer
from celery import Celery

from cli.console import load_settings
from cli.options import parse_queues
from cli.store import open_store
from schemas.settings import Settings
from schemas.states import AuditQueue
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.telemetry_log import log_to_stderr

if TYPE_CHECKING:
    from workers.health import WorkerHealth


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
    settings = load_settings()
    log_to_stderr(logging.WARNING if embedded else logging.INFO, settings.telemetry.log_format)
    if device is not None:
        settings.engine.device = device
    serve(settings, served)


def serve(settings: Settings, queues: list[AuditQueue]) -> None:
    """Load the live model, then consume; returns after a graceful stop."""
    from storage.telemetry_server import serve_telemetry
    from storage.telemetry_traces import start_traces, stop_traces
    from workers.app import make_app
    from workers.health import WorkerHealth
    from workers.thread_pool import threads_left

    database, blobs, app = open_store(settings.database_url), open_blob_store(settings.blobs), make_app(settings)
    if settings.telemetry.traces_endpoint:
        start_traces(settings.telemetry.traces_endpoint, "worker")
    health = WorkerHealth(settings, database, blobs, app, queues)
    try:
        # Before the model is loaded: that may take a minute, and whoever waits for it wants to see why.
        with serve_telemetry(settings.telemetry, health.health, [health.metrics]):
            _consume(settings, queues, database, blobs, app, health)
    finally:
        health.close()
        stop_traces()
        database.close()
    if threads_left():
        # They may work for long, and for nothing: what they had in hand has been given back.
        logging.shutdown()
        os._exit(os.EX_OK)


def _consume(
    settings: Settings, queues: list[AuditQueue], database: Database, blobs: BlobStore, app: Celery, health: "WorkerHealth"
) -> None:
    from workers.hot_swap import HotSwap
    from workers.pipeline import AuditPipeline
    from workers.runtime import ModelRuntime
    from workers.sweeper import Sweeper
    from workers.tasks import register_tasks

    runtime = ModelRuntime.live(database, blobs, settings)
    pipeline = AuditPipeline(database, blobs, runtime, settings)
    health.model, health.writer = runtime, pipeline
    register_tasks(app, pipeline)
    sweeper = Sweeper(database, app, settings.worker.visibility_timeout_s)
    hot_swap = HotSwap(database, blobs, runtime, settings)
    try:
        app.worker_main(
            [
                "--quiet",
                "worker",
                # A batch of threads for each that is on the device, and one more: the next is fetched and decoded meanwhile.
                f"--concurrency={(runtime.lanes + 1) * runtime.max_batch}",
                f"--queues={','.join(queue.celery_name for queue in queues)}",
                f"--hostname=audit-{os.getpid()}@{socket.gethostname()}",
                "--without-gossip",
                "--without-mingle",
                "--loglevel=WARNING",
            ]
        )
    finally:
        sweeper.close()
        hot_swap.close()
        runtime.close()
        pipeline.close()
