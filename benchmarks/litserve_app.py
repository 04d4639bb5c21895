"""To compare with: the same work behind LitServe, which batches HTTP requests.

    python -m benchmarks.litserve_app PORT WORKERS

Each request names a file, so that no picture crosses HTTP; the answer is its score, and the result is stored as by the others.
"""

import sys

import litserve

from benchmarks.naive import predictor, prepared, store
from model.preprocess import Prepared

BATCH = 16
TIMEOUT_S = 0.02


class Audit(litserve.LitAPI):
    """One picture a request."""

    def setup(self, device: str) -> None:  # noqa: ARG002
        predictor()

    def decode_request(self, request: dict[str, str]) -> tuple[str, Prepared]:
        return request["path"], prepared(request["path"])

    def batch(self, inputs: list[tuple[str, Prepared]]) -> list[tuple[str, Prepared]]:
        return inputs

    def predict(self, batch: list[tuple[str, Prepared]]) -> list[float]:
        predictions = predictor().predict([picture.pixels for _, picture in batch])
        store([path for path, _ in batch], predictions)
        return [each.score_logit for each in predictions]

    def unbatch(self, output: list[float]) -> list[float]:
        return output

    def encode_response(self, output: float) -> dict[str, float]:
        return {"score_logit": output}


def main() -> None:
    """Serve until told to stop."""
    port, workers = (int(argument) for argument in sys.argv[1:])
    api = Audit(max_batch_size=BATCH, batch_timeout=TIMEOUT_S)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=False)
    server.run(host="127.0.0.1", port=port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
