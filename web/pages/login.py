"""Logging in and out."""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Final

from fastapi import APIRouter, Depends, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from schemas.errors import Forbidden, RateLimited, Unauthenticated
from storage import login_links, logins
from web import csrf, sessions, throttle
from web.context import Context, ContextDep
from web.pages.rendering import page
from web.sessions import MaybePerson, Viewer, lasting, safe_next

router = APIRouter(include_in_schema=False)

_FORM: Final = "form"
Text = Annotated[str, Form(max_length=1024)]
Next = Annotated[str | None, Query(max_length=4096)]


@dataclass(frozen=True)
class _Shown:
    """What the page says beside its fields."""

    next: str
    name: str = ""
    problem: str = ""
    link_token: str = ""
    link_name: str = ""


async def _from_our_form(request: Request, context: ContextDep) -> None:
    """Raises Forbidden: the form was not on a page that we gave to this browser."""
    secret = request.cookies.get(sessions.cookie_name(context.settings, _FORM))
    if not secret:
        raise Forbidden("this browser did not send back the cookie of the login page; allow cookies and load the page anew")
    await csrf.check(request, secret)


_OurForm: Final = Depends(_from_our_form)


@router.get(sessions.LOGIN_PATH)
def show(request: Request, context: ContextDep, person: MaybePerson, next: Next = None) -> Response:
    """The form; whoever is logged in already is led on."""
    if person is not None:
        return RedirectResponse(safe_next(next), HTTPStatus.SEE_OTHER)
    return _page(request, context, _Shown(safe_next(next)))


@router.post(sessions.LOGIN_PATH, dependencies=[_OurForm])
def log_in(request: Request, context: ContextDep, before: MaybePerson, name: Text, password: Text, next: Text = "/") -> Response:
    """A session for who knows the password; the form again, with what is wrong, for others."""
    address, shown = address_of(request), _Shown(safe_next(next), name)
    try:
        throttle.check_login(context, name, address)
        token = logins.log_in(context.database, name, password, address, lasting(context.settings))
    except (Unauthenticated, RateLimited) as error:
        return _refused(request, context, shown, error)
    throttle.forget_login(context, name, address)
    return _entered(context, token, before, shown.next)


@router.get(login_links.PATH)
def show_link(request: Request, context: ContextDep, token: Annotated[str, Query(max_length=128)], next: Next = None) -> Response:
    """Asks before the address is used up: programs that look at links must not do that."""
    try:
        with context.database.read() as session:
            name = login_links.owner(session, token).name
    except Unauthenticated as error:
        return _refused(request, context, _Shown(safe_next(next)), error)
    return _page(request, context, _Shown(safe_next(next), link_token=token, link_name=name))


@router.post(login_links.PATH, dependencies=[_OurForm])
def use_link(request: Request, context: ContextDep, before: MaybePerson, token: Text, next: Text = "/") -> Response:
    """A session for who has a one-time address."""
    try:
        entered = logins.log_in_once(context.database, token, address_of(request), lasting(context.settings))
    except Unauthenticated as error:
        return _refused(request, context, _Shown(safe_next(next)), error)
    return _entered(context, entered, before, safe_next(next))


@router.post("/logout")
def log_out(context: ContextDep, person: Viewer) -> Response:
    """The session is over, in this browser alone."""
    with context.database.write() as session:
        logins.log_out(session, person.name, person.session_id)
    answer = RedirectResponse(sessions.LOGIN_PATH, HTTPStatus.SEE_OTHER)
    sessions.drop_cookie(answer, context)
    return answer


def _entered(context: Context, token: str, before: sessions.Person | None, next: str) -> Response:
    """On to where they wanted to go. The session that this browser had before is over: nobody else is to go on with it."""
    if before is not None:
        with context.database.write() as session:
            logins.log_out(session, before.name, before.session_id)
    answer = RedirectResponse(next, HTTPStatus.SEE_OTHER)
    sessions.set_cookie(answer, context, token)
    return answer


def _refused(request: Request, context: Context, shown: _Shown, error: Unauthenticated | RateLimited) -> Response:
    status = HTTPStatus.TOO_MANY_REQUESTS if isinstance(error, RateLimited) else HTTPStatus.UNAUTHORIZED
    answer = _page(request, context, _Shown(shown.next, shown.name, sentence(error.message)), status)
    if error.retry_after_s is not None:
        answer.headers["Retry-After"] = str(error.retry_after_s)
    return answer


def _page(request: Request, context: Context, shown: _Shown, status: int = HTTPStatus.OK) -> Response:
    """The form, with the cookie that its token belongs to."""
    cookie = sessions.cookie_name(context.settings, _FORM)
    secret = request.cookies.get(cookie) or secrets.token_urlsafe(32)
    answer = page(request, "login.html.j2", None, status=status, shown=shown, csrf_token=csrf.token_of(secret))
    answer.set_cookie(cookie, secret, **sessions.cookie_attributes(context.settings.web), samesite="strict")
    return answer


def address_of(request: Request) -> str:
    """Where a request comes from; behind a proxy, what a trusted one says of it."""
    return request.client.host if request.client is not None else "unknown"


def sentence(message: str) -> str:
    """An error's words as people read them."""
    return f"{message[:1].upper()}{message[1:]}."
