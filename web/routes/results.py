"""Results out: page by page, one by one, as pictures, and what moderators decide about them."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from schemas.errors import NotFound
from schemas.states import ReviewDecision, Verdict
from schemas.tables import AuditResult
from storage import feed, queries, reviews
from web import examples, pictures
from web.access import Reader, Reviewer
from web.context import ContextDep
from web.problems import documented
from web.references import SourceProfile
from web.views import ResultPage, ResultView, ReviewView, result_view, review_view

router = APIRouter(prefix="/v1/results", tags=["results"])

MAX_NUMBER = 2**63 - 1
Number = Annotated[int, Path(ge=1, le=MAX_NUMBER, description="number of a result")]
Cursor = Annotated[int, Query(ge=0, le=MAX_NUMBER, description="number of the last result you have; 0 for the beginning")]
_ETAG = {"ETag": {"schema": {"type": "string"}, "description": "send it back as If-None-Match"}}


def _picture_responses(media_type: str, *problems: int) -> dict[int | str, dict[str, Any]]:
    """What a route that sends a picture may answer."""
    sent = {"description": "the picture", "content": {media_type: {}}, "headers": _ETAG}
    known = {"description": "you have it already (If-None-Match)", "headers": _ETAG}
    return documented(404, *problems) | {200: sent, 304: known}


class NewReview(BaseModel):
    """A decision about a result."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.NEW_REVIEW})

    decision: ReviewDecision
    note: str = Field(default="", max_length=4096)
    by: str | None = Field(
        default=None,
        min_length=1,
        max_length=60,
        description="the person, where several use the same key; recorded as key/person",
    )
    seen: int | None = Field(
        default=None,
        ge=0,
        le=MAX_NUMBER,
        description="the newest decision that you know of, 0 for none: 409 says who decided since",
    )


@router.get("", response_model=ResultPage, responses=documented(), summary="Results, oldest first")
def page(
    context: ContextDep,
    _caller: Reader,
    cursor: Cursor = 0,
    verdict: Annotated[Verdict | None, Query(description="only these")] = None,
    source_profile: Annotated[SourceProfile | None, Query(description="only of pictures taken from this network")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> Response:
    """Go on from `next_cursor` and you meet every result exactly once, whatever is written meanwhile."""
    with context.database.read() as session:
        found = queries.read_results(session, cursor, limit, verdict, source_profile=source_profile)
    results = [result_view(each, each.own) for each in found if each.own is not None]
    answer = ResultPage.model_construct(
        results=results, next_cursor=results[-1].id if results else cursor, more=len(found) == limit
    )
    # By pydantic alone: going through the framework's own check of its answers costs as much as reading them.
    return Response(answer.model_dump_json(), media_type="application/json")


@router.get("/newest", response_model=ResultPage, responses=documented(), summary="The cursor behind the newest result")
def newest(context: ContextDep, _caller: Reader) -> ResultPage:
    """For readers who only want what comes from now on."""
    with context.database.read() as session:
        return ResultPage(results=[], next_cursor=feed.newest_result(session), more=False)


@router.get("/{number}", response_model=ResultView, responses=documented(404), summary="One result")
def show(context: ContextDep, _caller: Reader, number: Number) -> ResultView:
    """A result with its regions, its simulated deliveries and where its pictures are."""
    shown = pictures.find(context, number)
    return result_view(shown.audited, shown.own)


@router.get("/{number}/mask.png", response_class=Response, responses=_picture_responses("image/png", 410))
def mask(context: ContextDep, request: Request, _caller: Reader, number: Number) -> Response:
    """The 8-bit probability mask in the picture's own size; above 127 means above 0.5. 410 once it was purged."""
    return pictures.mask(context, request, number)


@router.get("/{number}/overlay.png", response_class=Response, responses=_picture_responses("image/png", 410, 415))
def overlay(context: ContextDep, request: Request, _caller: Reader, number: Number) -> Response:
    """The picture with the mask painted over it. 410 once the mask was purged, 404 once the picture was."""
    return pictures.overlay(context, request, number)


@router.get("/{number}/picture", response_class=Response, responses=_picture_responses("image/*"))
def picture(context: ContextDep, request: Request, _caller: Reader, number: Number) -> Response:
    """The picture's own bytes, under the type that they are of."""
    return pictures.picture(context, request, number)


@router.post("/{number}/review", response_model=ReviewView, responses=documented(404, 409), summary="Decide about a result")
def review(context: ContextDep, caller: Reviewer, number: Number, given: NewReview) -> ReviewView:
    """Your later decision takes the place of your earlier one; saying the same again adds nothing."""
    with context.database.write() as session:
        found = session.get(AuditResult, number)
        if found is None:
            raise NotFound(f"no result {number}; it may have been purged")
        who = caller.on_behalf_of(given.by)
        return review_view(reviews.add_review(session, number, given.decision, who, given.note, given.seen))


@router.get("/{number}/reviews", response_model=list[ReviewView], responses=documented(404), summary="Who decided what")
def decisions(context: ContextDep, _caller: Reader, number: Number) -> list[ReviewView]:
    """The standing decision of each person about a result, oldest first."""
    with context.database.read() as session:
        if session.get(AuditResult, number) is None:
            raise NotFound(f"no result {number}; it may have been purged")
        return [review_view(row) for row in reviews.standing_reviews(session, number)]
