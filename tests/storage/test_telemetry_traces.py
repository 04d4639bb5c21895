import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from schemas.errors import EnvironmentMissing
from schemas.messages import AuditMessage
from schemas.states import Verdict
from storage import telemetry, telemetry_traces
from storage.telemetry_traces import job_span, start_traces, stop_traces, trace_id, use_provider

ROOT = Path(__file__).parents[2]
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {"traceparent": f"00-{TRACE}-{PARENT}-01", "id": "x"}
MESSAGE = AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="a.jpg")


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    use_provider(provider)
    yield exporter
    stop_traces()


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def parent_id(span: ReadableSpan) -> int | None:
    return span.parent.span_id if span.parent else None


def audit(headers: dict[str, object]) -> None:
    with job_span(headers), telemetry.job(MESSAGE):
        with telemetry.stage("claim"):
            telemetry.claimed(1)
        with telemetry.stage("fetch"):
            pass
        telemetry.reused(Verdict.FLAG)


def test_stages_are_children_of_the_job_and_the_job_of_the_producer(spans: InMemorySpanExporter) -> None:
    audit(dict(HEADERS))
    found = by_name(spans)
    job, context = found["audit"], found["audit"].get_span_context()
    assert context is not None and job.parent is not None
    assert (f"{context.trace_id:032x}", f"{job.parent.span_id:016x}", job.parent.is_remote) == (TRACE, PARENT, True)
    assert {parent_id(found["claim"]), parent_id(found["fetch"])} == {context.span_id}
    attributes = dict(job.attributes or {})
    assert attributes["tamperwatch.job_id"] == str(MESSAGE.job_id)
    assert attributes["tamperwatch.verdict"] == "flag"
    assert job.status.status_code is StatusCode.UNSET


@pytest.mark.parametrize("headers", [{}, {"traceparent": "nonsense"}, {"traceparent": 7}, {"traceparent": None}])
def test_without_a_trace_of_the_producer_a_new_one_begins(spans: InMemorySpanExporter, headers: dict[str, object]) -> None:
    audit(headers)
    assert by_name(spans)["audit"].parent is None


def test_a_failure_marks_the_job(spans: InMemorySpanExporter) -> None:
    with job_span({}), telemetry.job(MESSAGE):
        telemetry.failed("decode_failed", final=True, mendable=False)
    status = by_name(spans)["audit"].status
    assert (status.status_code, status.description) == (StatusCode.ERROR, "decode_failed")


def test_a_stage_that_raises_says_so(spans: InMemorySpanExporter) -> None:
    with pytest.raises(ValueError), job_span({}), telemetry.stage("decode"):
        raise ValueError("cut")
    decode = by_name(spans)["decode"]
    assert decode.status.status_code is StatusCode.ERROR
    assert [event.name for event in decode.events] == ["exception"]


def test_a_trace_has_its_number_in_the_log(spans: InMemorySpanExporter) -> None:
    assert trace_id() is None
    with job_span(dict(HEADERS)):
        assert trace_id() == TRACE
    assert len(spans.get_finished_spans()) == 1


def test_when_off_nothing_is_made() -> None:
    with job_span(dict(HEADERS)), telemetry.stage("claim"):
        assert trace_id() is None


def test_when_off_nothing_is_imported() -> None:
    code = (
        "import sys; from storage import telemetry, telemetry_server, telemetry_traces\n"
        "with telemetry_traces.job_span({}), telemetry.stage('claim'): telemetry_traces.note(a=1)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.telemetry_traces.importlib.util.find_spec", lambda _: None)
    with pytest.raises(EnvironmentMissing, match=r"tamperwatch\[otel\]"):
        start_traces("http://127.0.0.1:1/v1/traces", "worker")
    assert telemetry_traces._State.tracer is None
