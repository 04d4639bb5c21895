"""To compare with: the naive way's work, in batches by `celery-batches`.

    celery -A benchmarks.celery_batches_app worker --pool solo

With late acknowledgement, a batch that raises loses every message in it; that is not measured here.
"""

from collections.abc import Sequence
from typing import Any

from celery_batches import Batches

from benchmarks.naive import app, predictor, prepared, store

BATCH = 16

# Two batches ahead: with Celery's own limits a batch would never fill.
app.conf.worker_prefetch_multiplier = 2 * BATCH


@app.task(name="celery_batches_app.audit", base=Batches, flush_every=BATCH, flush_interval=0.1)
def audit(requests: Sequence[Any]) -> None:
    """Audit one batch."""
    paths = [request.args[0] for request in requests]
    store(paths, predictor().predict([prepared(path).pixels for path in paths]))
