"""What noting a picture costs: CPU time of all its counters, timers and log fields, beside one pass through the student.

    python -m benchmarks.telemetry_cost [--pictures 5000]

The calls are those that a worker makes for one picture, in their order, around nothing; batches are full ones of 16. The
student runs on one thread. With `[otel]` installed also with traces on, to an exporter that drops them.
"""

import argparse
import importlib.util
import time
import uuid
from collections.abc import Callable

import numpy as np

from model.card import builtin_directory
from model.predictor import Predictor
from schemas.messages import AuditMessage
from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import telemetry, telemetry_traces

_BATCH = 16
_STAGES = ("fetch", "decode", "predict", "second_look", "store")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5000)
    pictures = parser.parse_args().pictures
    student_us = _student_us()
    print(f"the student, one picture: {student_us / 1000:.1f} ms of CPU")
    message = AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="a.jpg")
    result = _result(message)
    _report("metrics and log fields", _cpu_us(lambda number: _note(message, result, number), pictures), student_us)
    if importlib.util.find_spec("opentelemetry.sdk"):
        _trace_into_nothing()
        _report("the same with traces", _cpu_us(lambda number: _note(message, result, number), pictures), student_us)
        telemetry_traces.stop_traces()


def _report(what: str, cost_us: float, student_us: float) -> None:
    print(f"{what}: {cost_us:.0f} µs of CPU a picture, {cost_us / student_us:.2%} of the student")


def _note(message: AuditMessage, result: AuditResult, number: int) -> None:
    with telemetry_traces.job_span({}), telemetry.job(message):
        with telemetry.stage("claim"):
            telemetry.claimed(1)
        for stage in _STAGES:
            with telemetry.stage(stage):
                pass
        telemetry.done([result])
    # Each batch is noted once for all its pictures, on the device and in the store.
    if number % _BATCH == 0:
        telemetry.batch_ran("device", [0.01] * _BATCH, 0.1)
        telemetry.batch_ran("store", [0.01] * _BATCH, 0.1)


def _cpu_us(call: Callable[[int], None], times: int) -> float:
    started_s = time.thread_time()
    for number in range(times):
        call(number)
    return (time.thread_time() - started_s) / times * 1e6


def _student_us() -> float:
    predictor = Predictor.load(builtin_directory(), "openvino", threads=1)
    blank = np.zeros((predictor.input_size, predictor.input_size, 3), dtype=np.uint8)
    predictor.predict([blank] * _BATCH)
    started_s = time.process_time()
    predictor.predict([blank] * _BATCH)
    return (time.process_time() - started_s) / _BATCH * 1e6


def _result(message: AuditMessage) -> AuditResult:
    return AuditResult(
        job_id=message.job_id,
        model_version=telemetry.ACTIVITY.model_version,
        score=0.3,
        verdict=Verdict.PASS,
        area=0.0,
        mask_png=b"",
        width_px=1,
        height_px=1,
        latency_ms=1.0,
    )


def _trace_into_nothing() -> None:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

    class Nothing(SpanExporter):
        """Takes all and keeps none."""

        def export(self, spans: object) -> SpanExportResult:  # noqa: ARG002
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nothing()))
    telemetry_traces.use_provider(provider)


if __name__ == "__main__":
    main()
