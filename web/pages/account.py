"""A person's own account: who they are here, and their password."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from schemas.errors import InvalidInput, RateLimited, Unauthenticated
from storage import logins, passwords, people
from web import throttle
from web.context import Context, ContextDep
from web.pages.login import address_of, sentence
from web.pages.rendering import page
from web.sessions import Person, Viewer

router = APIRouter(prefix="/account", include_in_schema=False)

Text = Annotated[str, Form(max_length=1024)]


@router.get("")
def show(request: Request, context: ContextDep, person: Viewer, changed: bool = False) -> Response:
    """Role and dates, and the form for another password."""
    return _page(request, context, person, changed=changed)


@router.post("/password")
def change_password(
    request: Request, context: ContextDep, person: Viewer, new: Text, again: Text, password: Text = ""
) -> Response:
    """Another password for who knows the present one, or came here without one; their other browsers are logged out."""
    address = address_of(request)
    try:
        # Whoever finds an open browser must not be able to take the account over.
        throttle.check_login(context, person.name, address)
        logins.confirm(context.database, person.name, password, address)
        throttle.forget_login(context, person.name, address)
        if new != again:
            raise InvalidInput("the new password and its repetition differ")
        made = passwords.hashed(new, person.name)
    except (InvalidInput, Unauthenticated, RateLimited) as error:
        # Not 401: they are logged in.
        status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, RateLimited) else HTTPStatus.UNPROCESSABLE_ENTITY
        return _page(request, context, person, sentence(error.message), status=status)
    with context.database.write() as session:
        people.set_password(session, people.get(session, person.name), made, person.name, keep=person.session_id)
    return RedirectResponse("/account?changed=true", HTTPStatus.SEE_OTHER)


def _page(
    request: Request, context: Context, person: Person, problem: str = "", changed: bool = False, status: int = HTTPStatus.OK
) -> Response:
    with context.database.read() as session:
        row = people.get(session, person.name)
        session.expunge(row)
    return page(
        request,
        "account.html.j2",
        person,
        status=status,
        row=row,
        problem=problem,
        changed=changed,
        shortest=passwords.SHORTEST,
    )
