"""Results as they come, as server-sent events."""

from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Final

from anyio import move_on_after, sleep
from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool

from schemas.errors import ServiceError, TooBusy
from schemas.states import Verdict
from storage import feed, queries
from web import examples
from web.access import Reader
from web.context import Context, ContextDep
from web.problems import documented
from web.references import SourceProfile
from web.routes.results import MAX_NUMBER
from web.views import ResultView, result_view

router = APIRouter(prefix="/v1/results", tags=["results"])

_PAGE: Final = 100
# Then the connection is closed, and the client goes on from its last event: so a revoked key ends, too.
_LONGEST_S: Final = 600.0
_RETRY_MS: Final = 2000


def _seat(context: ContextDep, _caller: Reader) -> Iterator[None]:
    """Raises TooBusy: as many read as this process serves."""
    if not context.stream_seats.acquire(blocking=False):
        raise TooBusy("as many readers of the event stream as this process serves", retry_after_s=30)
    try:
        yield
    finally:
        context.stream_seats.release()


@router.get(
    "/stream",
    response_class=EventSourceResponse,
    responses=documented() | {200: {"content": {"text/event-stream": {"example": examples.EVENT}}}},
    summary="Results as they come",
    dependencies=[Depends(_seat, scope="request")],
)
async def stream(
    context: ContextDep,
    _caller: Reader,
    cursor: Annotated[int | None, Query(ge=0, le=MAX_NUMBER, description="begin behind this result; by default, now")] = None,
    verdict: Annotated[Verdict | None, Query(description="only these")] = None,
    source_profile: Annotated[SourceProfile | None, Query(description="only of pictures taken from this network")] = None,
    last_event_id: Annotated[int | None, Header(ge=0, le=MAX_NUMBER, description="sent by whoever comes back")] = None,
) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events named `result`, whose ids are cursors: a client that reconnects sends the last one and misses nothing.

    The connection is closed after ten minutes; come back with `Last-Event-ID`, as every EventSource does by itself.
    """
    after = last_event_id if last_event_id is not None else cursor
    if after is None:
        after = await run_in_threadpool(_newest, context)
    yield ServerSentEvent(comment=f"from {after}", id=str(after), retry=_RETRY_MS)
    with move_on_after(_LONGEST_S):
        while not context.closing.is_set():
            try:
                found = await run_in_threadpool(_page, context, after, verdict, source_profile)
            except ServiceError:
                return  # closed, not broken: the client comes back with the last event it has
            for each in found:
                after = each.id
                yield ServerSentEvent(raw_data=each.model_dump_json(), event="result", id=str(after))
            if len(found) < _PAGE:
                await sleep(context.settings.web.stream_poll_s)


def _newest(context: Context) -> int:
    with context.database.read() as session:
        return feed.newest_result(session)


def _page(context: Context, after: int, verdict: Verdict | None, source_profile: str | None) -> list[ResultView]:
    with context.database.read() as session:
        found = queries.read_results(session, after, _PAGE, verdict, source_profile=source_profile)
    return [result_view(each, each.own) for each in found if each.own is not None]
