"""The Celery task: thin on purpose, all work is in `workers.pipeline`."""

from typing import Any

from celery import Celery

from schemas.messages import AUDIT_TASK
from storage.telemetry_traces import job_span
from workers.pipeline import AuditPipeline


def register_tasks(app: Celery, pipeline: AuditPipeline) -> None:
    """Make this process able to run the messages it consumes."""

    # Not shared: Celery would hand it to every app that this process makes later, in place of that app's own.
    @app.task(name=AUDIT_TASK, bind=True, max_retries=None, shared=False)  # type: ignore[untyped-decorator]
    def audit_image(task: Any, payload: dict[str, Any]) -> None:
        """Audit one picture; the outcome is in SQL when this returns."""
        with job_span(task.request):
            wait_s = pipeline.run(payload)
        if wait_s is not None:
            raise task.retry(countdown=wait_s)
