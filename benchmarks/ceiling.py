"""What this machine could do at best: the bare engine, decoding alone, and the two together with nothing around them."""

import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from model import preprocess
from model.card import builtin_directory
from model.predictor import Predictor
from model.preprocess import Prepared

_BATCHES = (1, 4, 8, 16)


@dataclass(frozen=True)
class Pace:
    """Pictures a second, and milliseconds of CPU time (all threads of the process) a picture."""

    rate: float
    cpu_ms: float


class Ceiling:
    """The shipped student on all cores, in this process."""

    def __init__(self, batch: int = 16) -> None:
        """Load and warm up.

        Args:
            batch: pictures a call where pictures are decoded beside it, as in a worker.
        """
        self._predictor = Predictor.load(builtin_directory(), "openvino")
        self._side = self._predictor.input_size
        self._batch = batch
        self._random = list(np.random.default_rng(0).integers(0, 256, (max(_BATCHES), self._side, self._side, 3), dtype=np.uint8))
        self._predictor.predict(self._random)

    def engine(self, seconds: float = 3.0) -> Pace:
        """The bare engine on ready tensors, at its best batch size."""
        return max((self._engine(batch, seconds / len(_BATCHES)) for batch in _BATCHES), key=lambda pace: pace.rate)

    def engine_and_decode(self, paths: Sequence[Path], seconds: float = 6.0) -> Pace:
        """Files to predictions by as many decoding threads as there are cores, a batch ahead of the engine."""
        files, ahead, done = cycle(paths), deque[Future[Prepared]](), 0
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for _ in range(2 * self._batch):
                ahead.append(pool.submit(self._prepared, next(files)))
            started_s, started_cpu_s = time.perf_counter(), time.process_time()
            while (elapsed_s := time.perf_counter() - started_s) < seconds:
                batch = [ahead.popleft().result().pixels for _ in range(self._batch)]
                ahead.extend(pool.submit(self._prepared, next(files)) for _ in batch)
                self._predictor.predict(batch)
                done += len(batch)
            return Pace(done / elapsed_s, (time.process_time() - started_cpu_s) / done * 1000)

    def decode_ms(self, paths: Sequence[Path]) -> float:
        """CPU time of reading and preparing one picture, one at a time."""
        started_s = time.process_time()
        for path in paths:
            self._prepared(path)
        return (time.process_time() - started_s) / len(paths) * 1000

    def _engine(self, batch: int, seconds: float) -> Pace:
        started_s, started_cpu_s, done = time.perf_counter(), time.process_time(), 0
        while (elapsed_s := time.perf_counter() - started_s) < seconds:
            self._predictor.predict(self._random[:batch])
            done += batch
        return Pace(done / elapsed_s, (time.process_time() - started_cpu_s) / done * 1000)

    def _prepared(self, path: Path) -> Prepared:
        return preprocess.prepare(path.read_bytes(), self._side)
