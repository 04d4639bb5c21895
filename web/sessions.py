"""Who looks at a page, and whether they may: session cookies and roles.

A page's route takes `Viewer`, `Moderator` or `AdminPerson`. Where the request changes something, its CSRF token was checked
before the route runs.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Annotated, Final, TypedDict
from urllib.parse import quote, urlsplit

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from schemas.errors import Forbidden, Unauthenticated
from schemas.settings import Settings
from schemas.states import Role
from schemas.web_settings import WebSettings
from storage import sessions
from storage.sessions import Lasting
from web import csrf
from web.context import Context, ContextDep
from web.problems import answer_to

LOGIN_PATH: Final = "/login"
_COOKIE: Final = "tamperwatch"
_LONGEST_NEXT: Final = 2000


class _Attributes(TypedDict):
    path: str
    secure: bool
    httponly: bool


class LoginNeeded(Exception):
    """Nobody is logged in. People are led to the login page, scripts are told."""


@dataclass(frozen=True)
class Person:
    """Who a request is from.

    Attributes:
        csrf_token: for the forms and scripts of the page.
        session_id: the sha256 of the session's token.
    """

    user_id: str
    name: str
    role: Role
    csrf_token: str
    session_id: str

    def may(self, role: Role) -> bool:
        """Whether they may do what this role may."""
        return self.role.includes(role)


def install(app: FastAPI) -> None:
    """Lead people who are not logged in to the login page."""
    app.add_exception_handler(LoginNeeded, _login_needed)


def find_person(request: Request, context: ContextDep) -> Person | None:
    """Who is logged in, for pages that are for everybody too; their use of the session is noted."""
    token = request.cookies.get(cookie_name(context.settings))
    if not token:
        return None
    with context.database.read() as session:
        active = sessions.look_up(session, token, lasting(context.settings))
        if active is None:
            return None
        user, row = active.user, active.row
        person = Person(user.id, user.name, user.role, csrf.token_of(token), row.token_sha256)
        stale = sessions.wants_note(row)
    if stale:
        with context.database.write() as session:
            sessions.note_use(session, person.session_id)
    request.state.who = person.name
    return person


async def _checked(
    request: Request, context: ContextDep, found: Annotated[Person | None, Depends(find_person)]
) -> Person:  # not a thread's work
    """Whoever is logged in, in a request that comes from a page of ours.

    Raises:
        LoginNeeded, Forbidden
    """
    if found is None:
        raise LoginNeeded
    await csrf.check(request, request.cookies[cookie_name(context.settings)])
    return found


def _at_least(role: Role) -> Callable[[Person], Person]:
    def checked(person: Annotated[Person, Depends(_checked)]) -> Person:
        """Raises Forbidden: the role is not enough."""
        if not person.may(role):
            raise Forbidden(f"this is for people with the role `{role}`; yours is `{person.role}`")
        return person

    return checked


MaybePerson = Annotated[Person | None, Depends(find_person)]
Viewer = Annotated[Person, Depends(_at_least(Role.VIEWER))]
Moderator = Annotated[Person, Depends(_at_least(Role.MODERATOR))]
AdminPerson = Annotated[Person, Depends(_at_least(Role.ADMIN))]


def lasting(settings: Settings) -> Lasting:
    """How long sessions last here."""
    web = settings.web
    return Lasting(timedelta(minutes=web.session_idle_minutes), timedelta(hours=web.session_hours))


def cookie_name(settings: Settings, kind: str = "") -> str:
    """`__Host-` lets no other host of the domain set the cookie; browsers take it only with `Secure`."""
    name = f"{_COOKIE}_{kind}" if kind else _COOKIE
    return name if settings.web.plain_http else f"__Host-{name}"


def set_cookie(response: Response, context: Context, token: str) -> None:
    """Give a browser its session."""
    web = context.settings.web
    response.set_cookie(
        cookie_name(context.settings), token, max_age=round(web.session_hours * 3600), **cookie_attributes(web), samesite="lax"
    )


def drop_cookie(response: Response, context: Context) -> None:
    """Let a browser forget its session."""
    response.delete_cookie(cookie_name(context.settings), **cookie_attributes(context.settings.web), samesite="lax")


def safe_next(given: str | None) -> str:
    """Where to go after the login: a path of ours, or the start. Browsers read `\\` as `/`, and drop tabs and line ends."""
    if not given or len(given) > _LONGEST_NEXT or not given.isprintable() or "\\" in given or " " in given:
        return "/"
    try:
        parts = urlsplit(given)
    except ValueError:
        return "/"
    ours = given.startswith("/") and not given.startswith("//") and not parts.scheme and not parts.netloc
    # Not in a circle.
    if not ours or parts.path.split("/")[1] in ("login", "logout"):
        return "/"
    return given


def cookie_attributes(web: WebSettings) -> _Attributes:
    """What all our cookies have in common."""
    return {"path": "/", "secure": not web.plain_http, "httponly": True}


def _login_needed(request: Request, _error: Exception) -> Response:
    """A redirect where a person opens a page; a script would take the login page for its answer."""
    opens = request.method == "GET" and "text/html" in request.headers.get("accept", "")
    script = request.headers.get("hx-request") == "true" or request.headers.get("sec-fetch-mode", "navigate") != "navigate"
    if not opens or script:
        return answer_to(request, Unauthenticated("nobody is logged in, or not any more; open /login"))
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    here = safe_next(wanted)
    address = LOGIN_PATH if here == "/" else f"{LOGIN_PATH}?next={quote(here, safe='')}"
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)
