"""To compare with: the same work in Ray Serve, which batches calls of a deployment.

    python -m benchmarks.ray_app FOLDER WORKERS

Audits every file in FOLDER by handle calls, without HTTP, and ends.
"""

import asyncio
import sys
from collections import deque
from pathlib import Path
from typing import Any

import ray
from ray import serve

from benchmarks.naive import predictor, prepared, store

BATCH = 16
TIMEOUT_S = 0.02
IN_FLIGHT = 4 * BATCH


@serve.deployment(max_ongoing_requests=IN_FLIGHT)
class Audit:
    """One picture a call."""

    def __init__(self) -> None:
        predictor()

    @serve.batch(max_batch_size=BATCH, batch_wait_timeout_s=TIMEOUT_S)
    async def __call__(self, paths: list[str]) -> list[float]:
        return await asyncio.to_thread(_audited, paths)


def main() -> None:
    """Run everything once."""
    folder, workers = Path(sys.argv[1]), int(sys.argv[2])
    ray.init(include_dashboard=False, log_to_driver=False)
    handle: Any = serve.run(Audit.options(num_replicas=workers).bind())
    waiting: deque[Any] = deque()
    for path in sorted(folder.glob("*.jpg")):
        waiting.append(handle.remote(str(path)))
        if len(waiting) >= IN_FLIGHT * workers:
            waiting.popleft().result()
    for answer in waiting:
        answer.result()
    serve.shutdown()


def _audited(paths: list[str]) -> list[float]:
    predictions = predictor().predict([prepared(path).pixels for path in paths])
    store(paths, predictions)
    return [each.score_logit for each in predictions]


if __name__ == "__main__":
    main()
