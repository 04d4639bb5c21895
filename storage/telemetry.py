"""What a process counts and times, for Prometheus; `storage.telemetry_server` serves it.

Names begin with `tamperwatch_` and end with their unit. Labels take values from our own enumerations only, so that nothing
a producer sends can make a series. Noting something costs about a microsecond.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from schemas.messages import AuditMessage
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE, AuditResultBase
from storage.telemetry_drift import ScoreDrift
from storage.telemetry_log import add_log_fields, log_fields
from storage.telemetry_traces import note, stage_span, trace_id

STAGES = ("claim", "download", "fetch", "decode", "wait", "infer", "predict", "second_look", "store")
_SHA256_SHOWN = 12
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024)
_SCORES = tuple(step / 20 for step in range(1, 21))

REGISTRY = CollectorRegistry(auto_describe=True)
ProcessCollector(namespace="tamperwatch", registry=REGISTRY)

IMAGES = Counter("tamperwatch_images", "Pictures whose job this process ended", registry=REGISTRY)
RESULTS = Counter("tamperwatch_results", "Pictures with a result, by verdict as submitted", ["verdict"], registry=REGISTRY)
REUSED = Counter("tamperwatch_reused_results", "Of the pictures with a result, those answered from the store", registry=REGISTRY)
FAILURES = Counter("tamperwatch_failures", "Jobs ended under an error code", ["code"], registry=REGISTRY)
DEAD_LETTERS = Counter(
    "tamperwatch_dead_letters",
    "Of the failures, those that another try may mend: `tamperwatch retry`",
    ["code"],
    registry=REGISTRY,
)
RETRIES = Counter("tamperwatch_retries", "Attempts that failed and will be repeated", ["code"], registry=REGISTRY)
REDELIVERIES = Counter("tamperwatch_redeliveries", "Claims that were not the first of their job", registry=REGISTRY)
DUPLICATES = Counter(
    "tamperwatch_duplicates", "Messages for a job that had ended, or that another hand held", ["state"], registry=REGISTRY
)
OVERTAKEN = Counter("tamperwatch_overtaken_outcomes", "Outcomes dropped because another hand had the job", registry=REGISTRY)
UNCLAIMED = Counter(
    "tamperwatch_unclaimed_messages", "Messages sent round again because no claim could be stored", registry=REGISTRY
)
INVALID = Counter("tamperwatch_invalid_messages", "Task messages dropped for a wrong field", registry=REGISTRY)
MALFORMED = Counter("tamperwatch_malformed_messages", "Entries of a queue set aside as no task message", registry=REGISTRY)
SWEEPS = Counter("tamperwatch_sweeps", "Sweeps for lost messages", ["outcome"], registry=REGISTRY)
SWEPT = Counter("tamperwatch_swept_jobs", "Jobs sent again because their message was lost", registry=REGISTRY)
CONNECTIONS = Counter(
    "tamperwatch_consumer_connections",
    "Times the consumer connected to Redis; all but the first are reconnects",
    registry=REGISTRY,
)
SWAPS = Counter("tamperwatch_model_swaps", "Changes of the live model while running", ["outcome"], registry=REGISTRY)
SIDE_MODEL_REFUSALS = Counter(
    "tamperwatch_side_model_refusals", "Versions for a shadow or a canary that could not be loaded", ["role"], registry=REGISTRY
)
SHADOW = Counter(
    "tamperwatch_shadow_pictures",
    "Pictures for the shadow version: scored, dropped while it was busy, failed",
    ["outcome"],
    registry=REGISTRY,
)
CANARY = Counter(
    "tamperwatch_canary_pictures",
    "Pictures of the canary's share: answered by it, or by the live version for it",
    ["outcome"],
    registry=REGISTRY,
)
MODEL = Gauge("tamperwatch_model_info", "1 for the model version in use", ["version", "engine", "device"], registry=REGISTRY)
IN_HAND = Gauge("tamperwatch_jobs_in_hand", "Messages this process works on now", registry=REGISTRY)
STAGE = Histogram(
    "tamperwatch_stage_seconds",
    "Time of a picture in a stage; `infer` is one call for its whole batch, `predict` is `wait`, `infer` and the way back",
    ["stage"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_SIZE = Histogram("tamperwatch_batch_size", "Items of one call", ["batcher"], buckets=_SIZES, registry=REGISTRY)
BATCH_WAIT = Histogram(
    "tamperwatch_batch_wait_seconds",
    "How long a call's first item waited for it",
    ["batcher"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
BATCH_RUN = Histogram("tamperwatch_batch_run_seconds", "Time of one call", ["batcher"], buckets=_SECONDS, registry=REGISTRY)
SCORE = Histogram(
    "tamperwatch_score_ratio", "Calibrated score of pictures as submitted, 0 to 1", buckets=_SCORES, registry=REGISTRY
)
REQUESTS = Histogram(
    "tamperwatch_http_request_seconds",
    "Requests to the API by route, 0 as status where the caller went away",
    ["method", "route", "status"],
    buckets=_SECONDS,
    registry=REGISTRY,
)
DRIFT = ScoreDrift()
REGISTRY.register(DRIFT)

# Looked up once: the series are there from the start, so that the first event already is a rate.
_STAGES = {name: STAGE.labels(name) for name in STAGES}
_VERDICTS = {verdict: RESULTS.labels(verdict.value) for verdict in Verdict}


class Activity:
    """What this process is at.

    Attributes:
        moved_at_s: when it last took a message or ended its work on one, on the monotonic clock.
        model_version: which student answers.
    """

    def __init__(self) -> None:
        self.moved_at_s = time.monotonic()
        self.model_version = ""

    def moved(self) -> None:
        self.moved_at_s = time.monotonic()


ACTIVITY = Activity()


class stage:
    """Times the block as one stage of a picture, with a span where traces are on.

    A class, not a generator: it stands in the way of every picture several times.
    """

    __slots__ = ("_name", "_span", "_started_s")

    def __init__(self, name: str) -> None:
        """`name` is one of STAGES."""
        self._name = name

    def __enter__(self) -> Self:
        self._span = stage_span(self._name)
        self._span.__enter__()
        self._started_s = time.perf_counter()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _STAGES[self._name].observe(time.perf_counter() - self._started_s)
        self._span.__exit__(kind, error, trace)


@contextmanager
def job(message: AuditMessage) -> Iterator[None]:
    """The block works on one delivery of a job: its log lines say so, and it counts as in hand."""
    fields = {"job_id": str(message.job_id)}
    if message.sha256 is not None:
        fields["sha256"] = message.sha256[:_SHA256_SHOWN]
    note(**fields)
    if (trace := trace_id()) is not None:
        fields["trace_id"] = trace
    ACTIVITY.moved()
    with IN_HAND.track_inprogress(), log_fields(**fields):
        try:
            yield
        finally:
            ACTIVITY.moved()


def _add_fields(**fields: str | int) -> None:
    """For the rest of the job's log lines, and for its span or that of the stage it is in."""
    add_log_fields(**fields)
    note(**fields)


def downloaded(sha256: str) -> None:
    """The bytes of a job that came with a URL are there."""
    _add_fields(sha256=sha256[:_SHA256_SHOWN])


def audited_by(version: str) -> None:
    """This version audits the job."""
    if version != ACTIVITY.model_version:
        _add_fields(model_version=version)


def claimed(attempt: int) -> None:
    """The job is ours; this is its try number `attempt`, from 1, anybody's counted."""
    _add_fields(attempt=attempt, model_version=ACTIVITY.model_version)
    if attempt > 1:
        REDELIVERIES.inc()


def done(results: Sequence[AuditResultBase]) -> None:
    """A job ended with these results, and they are stored."""
    IMAGES.inc()
    for result in results:
        if result.profile == OWN_PICTURE:
            _VERDICTS[result.verdict].inc()
            SCORE.observe(result.score)
            if result.model_version == ACTIVITY.model_version:
                DRIFT.add(result.score)
            note(verdict=result.verdict.value)


def reused(verdict: Verdict) -> None:
    """A job ended with an earlier result of the same bytes. Its score counts no second time."""
    IMAGES.inc()
    REUSED.inc()
    _VERDICTS[verdict].inc()
    note(verdict=verdict.value)


def failed(code: str, final: bool, mendable: bool) -> None:
    """An attempt failed, and that is stored.

    Args:
        code: of the error.
        final: the job ended by it; otherwise it is tried again.
        mendable: another try may mend it.
    """
    note(error=code)
    if not final:
        RETRIES.labels(code).inc()
        return
    IMAGES.inc()
    FAILURES.labels(code).inc()
    if mendable:
        DEAD_LETTERS.labels(code).inc()


def batch_ran(batcher: str, waits_s: Sequence[float], run_s: float) -> None:
    """A micro-batcher made one call.

    Args:
        batcher: "device" or "store".
        waits_s: [N] how long each of its items had waited when the call began, first item first.
        run_s: how long the call took.
    """
    BATCH_SIZE.labels(batcher).observe(len(waits_s))
    BATCH_WAIT.labels(batcher).observe(waits_s[0])
    BATCH_RUN.labels(batcher).observe(run_s)
    if batcher == "device":
        _STAGES["infer"].observe(run_s)
        wait = _STAGES["wait"]
        for each in waits_s:
            wait.observe(each)


def model_loaded(version: str, engine: str, device: str, card_metrics: Mapping[str, Any]) -> None:
    """From now on this version answers."""
    ACTIVITY.model_version = version
    MODEL.clear()
    MODEL.labels(version, engine, device).set(1)
    DRIFT.restart(card_metrics)
