"""Our worker with a network that computes nothing, so that what is left is the cost of delivery.

    python -m benchmarks.idle_worker

Its answer is always what the shipped student says of one of the samples: three regions and a mask of 7 kB. Everything else is
as in `tamperwatch worker`, and told through the same settings: pictures are decoded for the shipped student's input.
"""

import logging
import os
from unittest import mock

import numpy as np
from numpy.typing import NDArray

from benchmarks.pictures import SAMPLES
from cli.console import load_settings
from cli.worker import serve
from model import preprocess
from model.card import builtin_directory
from model.predictor import Predictor
from schemas.states import AuditQueue
from storage.telemetry_log import log_to_stderr

_SAMPLE = "astronaut-removal.jpg"


class NoOp:
    """An engine that says of every picture what was said of one, at once."""

    name = "no-op"

    def __init__(self, prob: NDArray[np.float32], score_logit: float) -> None:
        """`prob` float32 [M, M] in 0..1."""
        self._prob, self._score_logit = prob, score_logit

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        count = len(pictures)
        return np.repeat(self._prob[None], count, axis=0), np.full(count, self._score_logit, np.float32)


def idle_student() -> Predictor:
    """The shipped student's card with that engine."""
    student = Predictor.load(builtin_directory(), "openvino")
    (said,) = student.predict([preprocess.prepare((SAMPLES / _SAMPLE).read_bytes(), student.input_size).pixels])
    return Predictor(student.card, NoOp(said.mask_net.astype(np.float32) / 255, said.score_logit))


def main() -> None:
    """Serve all queues until told to stop."""
    # Celery's soft shutdown, as in `tamperwatch worker`.
    os.environ.setdefault("REMAP_SIGTERM", "SIGQUIT")
    settings = load_settings()
    log_to_stderr(logging.WARNING, settings.telemetry.log_format)
    with mock.patch.object(Predictor, "load", return_value=idle_student()):
        serve(settings, list(AuditQueue))


if __name__ == "__main__":
    main()
