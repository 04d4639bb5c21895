"""All results, newest first: for whoever looks for a certain picture, or at what was decided."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from schemas.states import AuditQueue, Role, Verdict
from storage import registry, result_list
from web.context import ContextDep
from web.pages.rendering import page
from web.pages.review.filters import Filters
from web.sessions import Viewer
from web.wording import NETWORK_NAMES

router = APIRouter(include_in_schema=False)

_PAGE: Final = 50


class ListFilters(Filters):
    """What is looked for, and where the page begins."""

    before: int | None = None


@router.get("/")
def start(person: Viewer) -> Response:
    """Moderators begin with their work, others with what there is to see."""
    return RedirectResponse("/review" if person.may(Role.MODERATOR) else "/results", 303)


@router.get("/results")
def show(request: Request, context: ContextDep, person: Viewer, filters: Annotated[ListFilters, Query()]) -> Response:
    """A page of results."""
    verdicts = tuple(Verdict) if filters.verdict is None else (filters.verdict,)
    with context.database.read() as session:
        rows = result_list.newest_results(session, filters.wanted_of(verdicts), filters.before, _PAGE)
        versions = [row.version for row in registry.versions(session)]
        return page(
            request,
            "results.html.j2",
            person,
            "results",
            rows=rows,
            filters=filters,
            versions=versions,
            queues=list(AuditQueue),
            networks=NETWORK_NAMES,
            older=rows[-1].result.id if len(rows) == _PAGE else None,
        )
