"""The dashboard: queues, throughput, verdicts, failures and drift; and failed jobs sent round again."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from schemas.errors import BrokerUnavailable
from storage import audit_log, recovery, stream_figures
from storage.recovery import FailedJobs
from storage.stream_figures import MOST_ENDED, SPAN, Ended
from web.board import Look
from web.context import Context, ContextDep
from web.pages.answers import go_to
from web.pages.rendering import page
from web.sessions import Moderator, Viewer
from workers.sweeper import retry_failed

router = APIRouter(prefix="/dashboard", include_in_schema=False)

Code = Annotated[str, Path(pattern=r"^[a-z][a-z_]{0,63}$")]
SENT_AT_ONCE: Final = 5_000
"""Failed jobs that one request sends again at most; nobody waits for a million."""

_LISTED: Final = 50
# The last batch may go beyond the bound.
_MOST_SENT: Final = 2 * SENT_AT_ONCE
_BAR_HEIGHT: Final = 60.0
_BAR_STEP: Final = 20.0


@dataclass(frozen=True)
class Bar:
    """Five minutes of endings: its place in a drawing 60 high, and what is said of it."""

    x: float
    y: float
    height: float
    words: str


@router.get("")
def dashboard(request: Request, context: ContextDep, person: Viewer) -> Response:
    look = context.board.look()
    return page(request, "dashboard.html.j2", person, "dashboard", **_shown(look))


@router.get("/figures")
def figures(request: Request, context: ContextDep, person: Viewer) -> Response:
    """The part that the page asks for again and again."""
    return page(request, "dashboard_figures.html.j2", person, **_shown(context.board.look()))


@router.get("/failures/{code}")
def failures(
    request: Request,
    context: ContextDep,
    person: Viewer,
    code: Code,
    sent: Annotated[int | None, Query(ge=0, le=_MOST_SENT)] = None,
    left: bool = False,
) -> Response:
    """The newest jobs that failed under a code."""
    with context.database.read() as session:
        jobs = stream_figures.failed_jobs(session, code, _LISTED)
    mendable = code in recovery.dead_letter_codes()
    values: dict[str, Any] = {
        "code": code,
        "jobs": jobs,
        "mendable": mendable,
        "sent": sent,
        "left": left,
        "most": SENT_AT_ONCE,
        "listed": _LISTED,
    }
    return page(request, "failures.html.j2", person, "dashboard", **values)


@router.post("/failures/{code}/retry")
def retry(request: Request, context: ContextDep, person: Moderator, code: Code) -> Response:
    """Send failed jobs round again, up to a bound."""
    with context.database.write() as session:
        audit_log.append(session, person.name, "jobs.retry", f"error {code}")
    sent, left = _sent_again(context, code)
    context.board.forget()
    return go_to(request, f"/dashboard/failures/{code}?sent={sent}&left={str(left).lower()}")


def _sent_again(context: Context, code: str) -> tuple[int, bool]:
    """How many, and whether the bound was met. Without Redis they are queued, and a sweep sends them."""
    sent = 0
    try:
        for count in retry_failed(context.database, context.app, FailedJobs(codes=(code,), permanent=True)):
            sent += count
            if sent >= SENT_AT_ONCE:
                return sent, True
    except BrokerUnavailable:
        return sent, True
    return sent, False


def _shown(look: Look) -> dict[str, Any]:
    endings = look.stream.endings if look.stream else []
    return {
        "look": look,
        "bars": _bars(endings),
        "hour": sum(each.count for each in endings),
        "minute": round(endings[-1].count / (SPAN.total_seconds() / 60), 1) if endings else None,
        "capped": any(each.count >= MOST_ENDED for each in endings),
        "failing": sum(each.count for each in look.stream.failures) if look.stream else None,
        "mendable": sum(each.count for each in look.stream.failures if each.mendable) if look.stream else None,
    }


def _bars(endings: Sequence[Ended]) -> list[Bar]:
    most = max((each.count for each in endings), default=0)
    if not most:
        return []
    heights = [_BAR_HEIGHT * each.count / most for each in endings]
    return [
        Bar(place * _BAR_STEP, round(_BAR_HEIGHT - height, 1), round(height, 1), f"{each.begins:%H:%M} UTC: {each.count} ended")
        for place, (each, height) in enumerate(zip(endings, heights, strict=True))
    ]
