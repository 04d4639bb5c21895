"""The Celery task: thin on purpose, all work is in `workers.pipeline`."""

from typing import Any

from celery import Celery

from schemas.messages import AUDIT_TASK
from workers.pipeline import AuditPipeline


def register_tasks(app: Celery, pipeline: AuditPipeline) -> None:
    """Make this process able to run the messages it consumes."""

    @app.task(name=AUDIT_TASK, bind=True, max_retries=None)  # type: ignore[untyped-decorator]
    def audit_image(task: Any, payload: dict[str, Any]) -> None:
        """Audit one picture; the outcome is in SQL when this returns."""
        wait_s = pipeline.run(payload)
        if wait_s is not None:
            raise task.retry(countdown=wait_s)
