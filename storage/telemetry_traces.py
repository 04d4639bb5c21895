"""OpenTelemetry spans, an extra: one a job, with its stages as children. Where it is off, nothing of it is imported."""

import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from schemas.errors import EnvironmentMissing

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_NOTHING: AbstractContextManager[None] = nullcontext()
_CARRIED = ("traceparent", "tracestate")


class _State:
    """The provider of this process, while traces are on."""

    provider: "TracerProvider | None" = None
    tracer: Any = None


def start_traces(endpoint: str, role: str) -> None:
    """Send spans from now on, in batches and from a thread of its own; a collector that is away costs only the spans.

    How many traces are taken is OpenTelemetry's own OTEL_TRACES_SAMPLER.

    Args:
        endpoint: of an OTLP collector over HTTP, with its path /v1/traces.
        role: which of our roles this process is.

    Raises:
        EnvironmentMissing: the extra [otel] is not installed.
    """
    if importlib.util.find_spec("opentelemetry") is None or importlib.util.find_spec("opentelemetry.sdk") is None:
        raise EnvironmentMissing("TAMPERWATCH_TELEMETRY__TRACES_ENDPOINT needs OpenTelemetry: pip install 'tamperwatch[otel]'")
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": f"tamperwatch-{role}"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint)))
    use_provider(provider)


def use_provider(provider: "TracerProvider") -> None:
    """Make spans with this provider from now on."""
    _State.provider, _State.tracer = provider, provider.get_tracer("tamperwatch")


def stop_traces() -> None:
    """Send what is left and make no more spans."""
    provider, _State.provider, _State.tracer = _State.provider, None, None
    if provider is not None:
        provider.shutdown()


def job_span(headers: Mapping[str, Any]) -> AbstractContextManager[None]:
    """The span of one delivery of a job, a child of the producer's where the message's headers carry its `traceparent`."""
    return _NOTHING if _State.tracer is None else _job_span(headers)


def stage_span(stage: str) -> AbstractContextManager[Any]:
    """The span of one stage, a child of the span this thread is in."""
    return _NOTHING if _State.tracer is None else _State.tracer.start_as_current_span(stage)


def note(**attributes: str | int | float) -> None:
    """Attributes for the span this thread is in. An `error` among them marks it as failed."""
    if _State.tracer is None:
        return
    from opentelemetry.trace import Status, StatusCode, get_current_span

    span = get_current_span()
    span.set_attributes({f"tamperwatch.{name}": value for name, value in attributes.items()})
    if "error" in attributes:
        span.set_status(Status(StatusCode.ERROR, str(attributes["error"])))


def trace_id() -> str | None:
    """The current trace in hexadecimal digits, for log lines; None where there is none."""
    if _State.tracer is None:
        return None
    from opentelemetry.trace import format_trace_id, get_current_span

    context = get_current_span().get_span_context()
    return format_trace_id(context.trace_id) if context.is_valid else None


@contextmanager
def _job_span(headers: Mapping[str, Any]) -> Iterator[None]:
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Headers come from outside: whatever is no text there is no trace context.
    carrier = {name: value for name in _CARRIED if isinstance(value := headers.get(name), str)}
    parent = TraceContextTextMapPropagator().extract(carrier)
    with _State.tracer.start_as_current_span("audit", context=parent, kind=SpanKind.CONSUMER):
        yield
