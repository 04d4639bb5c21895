"""Our worker with a student that computes nothing, so that what is left is the cost of delivery.

    python -m benchmarks.idle_worker

Everything else is as in `tamperwatch worker`, and told through the same settings.
"""

import logging
import os
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from cli.console import load_settings
from cli.worker import serve
from model.card import Card, builtin_directory
from model.predictor import Predictor
from schemas.states import AuditQueue
from storage.telemetry_log import log_to_stderr

_MASK_SIDE = 80
_QUIET_LOGIT = -3.0


class NoOp:
    """An engine that finds nothing anywhere, at once."""

    name = "no-op"

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        count = len(pictures)
        return np.zeros((count, _MASK_SIDE, _MASK_SIDE), np.float32), np.full(count, _QUIET_LOGIT, np.float32)


def main() -> None:
    """Serve all queues until told to stop."""
    # Celery's soft shutdown, as in `tamperwatch worker`.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    settings = load_settings()
    log_to_stderr(logging.WARNING, settings.telemetry.log_format)
    student = Predictor(Card.load(builtin_directory()), NoOp())
    with mock.patch.object(Predictor, "load", return_value=student):
        serve(settings, list(AuditQueue))


if __name__ == "__main__":
    main()
