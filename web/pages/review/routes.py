"""The review page's addresses. Whatever changes something is for moderators, and carries the CSRF token."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from schemas.errors import Conflict, InvalidInput, NotFound
from schemas.geometry import PixelBox
from schemas.learning_tables import Review
from schemas.states import AuditQueue, ReviewDecision, Role
from storage import registry, review_claims, review_decisions, review_queue, reviews
from storage.annotation_checks import MOST_BOXES
from storage.review_claims import Claim
from storage.review_decisions import Decision
from web import pictures
from web.context import Context, ContextDep
from web.pages.rendering import page
from web.pages.review.filters import ClaimFormBody, Filters, FiltersQuery
from web.pages.review.item import look_up
from web.sessions import Moderator, Person, Viewer
from web.wording import NETWORK_NAMES

router = APIRouter(prefix="/review", include_in_schema=False)

Number = Annotated[int, Path(ge=1, le=2**63 - 1)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Tokens(_Body):
    """Claims of one page."""

    tokens: list[str] = Field(max_length=20)


class Said(_Body):
    """A decision as the page sends it."""

    decision: ReviewDecision
    boxes: list[PixelBox] = Field(default=[], max_length=MOST_BOXES)
    note: str = Field(default="", max_length=4096)
    token: str = Field(default="", max_length=32)
    seen: int = Field(default=0, ge=0)


class Undone(_Body):
    """The rows that a decision had made."""

    review_id: int = Field(ge=1)
    annotation_id: int | None = Field(default=None, ge=1)


@router.get("")
def show(request: Request, context: ContextDep, person: Viewer, filters: FiltersQuery) -> Response:
    """The page; its script asks for the pictures."""
    with context.database.read() as session:
        versions = [row.version for row in registry.versions(session)]
        count = review_queue.count(session, filters.wanted, person.name)
    return page(
        request, "review.html.j2", person, "review", filters=filters, count=count, versions=versions, **_choices(context, person)
    )


@router.get("/count")
def count(request: Request, context: ContextDep, person: Viewer, filters: FiltersQuery) -> Response:
    """How many wait, for the page's heading."""
    with context.database.read() as session:
        counted = review_queue.count(session, filters.wanted, person.name)
    return page(request, "review_count.html.j2", person, count=counted)


@router.post("/claims")
def claim(request: Request, context: ContextDep, person: Moderator, wanted: ClaimFormBody) -> Response:
    """The next picture, now this page's; a part that says so where there is none."""
    with context.database.write() as session:
        taken = review_claims.claim_next(session, person.name, wanted.wanted, _claim_s(context), wanted.without)
        if taken is not None:
            return _item(request, session, person, taken.result_id, taken)
    return page(request, "review_empty.html.j2", person, filters=Filters(**wanted.model_dump(exclude={"without"})))


@router.post("/claims/renew")
def renew(context: ContextDep, person: Moderator, held: Tokens) -> Response:
    """The page is still there."""
    with context.database.write() as session:
        return JSONResponse({"standing": sorted(review_claims.renew(session, person.name, held.tokens, _claim_s(context)))})


@router.post("/claims/release")
def release(context: ContextDep, person: Moderator, held: Tokens) -> Response:
    """The page is closed, or leaves pictures to others."""
    with context.database.write() as session:
        review_claims.release(session, person.name, held.tokens)
    return Response(status_code=204)


@router.get("/results/{number}")
def show_one(request: Request, context: ContextDep, person: Viewer, number: Number) -> Response:
    """One picture, decided or not, at an address of its own."""
    with context.database.read() as session:
        item = look_up(session, number, person.name)
        return page(request, "review_one.html.j2", person, "results", item=item, **_choices(context, person))


@router.post("/results/{number}/claim")
def claim_one(request: Request, context: ContextDep, person: Moderator, number: Number) -> Response:
    """Take this picture.

    Raises:
        Conflict: somebody else has it.
    """
    with context.database.write() as session:
        found = _picture(session, number)
        taken = review_claims.claim_result(session, found, number, person.name, _claim_s(context))
        if taken is None:
            other = review_claims.holder(session, found)
            raise Conflict(f"{other.holder if other else 'somebody'} looks at this picture now; try again in a few minutes")
        return _item(request, session, person, number, taken)


@router.post("/results/{number}/decision")
def decide(context: ContextDep, person: Moderator, number: Number, said: Said) -> Response:
    """Store a decision.

    Raises:
        Conflict: somebody else has the picture, or decided meanwhile.
    """
    with context.database.write() as session:
        _picture(session, number)
        decision = Decision(number, said.decision, person.name, said.token, tuple(said.boxes), said.note, said.seen)
        made = review_decisions.decide(session, decision)
        return JSONResponse({"review_id": made.review_id, "annotation_id": made.annotation_id})


@router.post("/results/{number}/undo")
def undo(request: Request, context: ContextDep, person: Moderator, number: Number, undone: Undone) -> Response:
    """Take one's own decision back, and have the picture again."""
    with context.database.write() as session:
        row: Review = review_decisions.undo(session, person.name, undone.review_id, undone.annotation_id)
        taken = review_claims.claim_result(session, _picture(session, number), number, person.name, _claim_s(context))
        return _item(request, session, person, row.result_id, taken)


@router.get("/results/{number}/picture")
def picture(context: ContextDep, request: Request, _person: Viewer, number: Number) -> Response:
    """The picture, upright, in its own pixels."""
    return pictures.upright(context, request, number)


@router.get("/results/{number}/map.png")
def heat_map(context: ContextDep, request: Request, _person: Viewer, number: Number) -> Response:
    """The mask at the network's own size; the page's script colours it."""
    return pictures.network_mask(context, request, number)


def _item(request: Request, session: Session, person: Person, number: int, taken: Claim | None) -> Response:
    return page(request, "review_item.html.j2", person, item=look_up(session, number, person.name, taken))


def _picture(session: Session, number: int) -> str:
    """What the picture of a result is claimed by.

    Raises:
        NotFound
    """
    try:
        return review_decisions.picture_key(reviews.picture_of(session, number))
    except InvalidInput as error:
        raise NotFound(error.message) from error


def _claim_s(context: Context) -> float:
    return 60 * context.settings.web.claim_minutes


def _choices(context: Context, person: Person) -> dict[str, Any]:
    return {
        "queues": list(AuditQueue),
        "networks": NETWORK_NAMES,
        "may_decide": person.may(Role.MODERATOR),
        "renew_s": round(_claim_s(context) / 4),
    }
