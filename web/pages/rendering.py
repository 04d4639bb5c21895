"""Templates to answers: one environment, one frame around every page, one content security policy."""

import functools
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Protocol

import jinja2
from fastapi import Request, Response

from web.learning.words import decision_words
from web.pages import assets
from web.wording import mending, score_text, shown

_TEMPLATES: Final = Path(__file__).parent / "templates"
# Everything from our own origin; nothing inline. blob: is for pictures that a script has fetched.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
_THEMES: Final = ("light", "dark")
NAVIGATION: Final = (
    ("review", "/review", "Review"),
    ("results", "/results", "Results"),
    ("models", "/models", "Models"),
    ("runs", "/runs", "Runs"),
    ("dashboard", "/dashboard", "Dashboard"),
)


class Visitor(Protocol):
    """Who looks at a page, as far as its frame shows it."""

    @property
    def name(self) -> str: ...

    @property
    def role(self) -> Any: ...

    @property
    def csrf_token(self) -> str: ...


def page(
    request: Request,
    template: str,
    person: Visitor | None,
    section: str = "",
    status: int = 200,
    headers: Mapping[str, str] | None = None,
    **values: Any,
) -> Response:
    """Render a page, or a part of one.

    Args:
        template: name of a file in `templates/`; a page extends `base.html.j2`, a part does not.
        person: who is logged in; None on pages for everybody.
        section: first word of the entry of `NAVIGATION` that is marked as current.
        values: what the template shows.

    Raises:
        EnvironmentMissing: the scripts and styles were never bundled.
    """
    theme = request.cookies.get("tamperwatch_theme", "")
    html = environment().get_template(template).render(
        values,
        person=person,
        section=section,
        navigation=NAVIGATION,
        theme=theme if theme in _THEMES else "auto",
        asset=assets.load().address,
    )  # fmt: skip
    all_headers = {"Content-Security-Policy": POLICY} | dict(headers or {})
    return Response(html, status, all_headers, "text/html; charset=utf-8")


@functools.cache
def environment() -> jinja2.Environment:
    """The templates of all pages, with everything escaped and every missing name an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Whatever comes from outside is written as `{{ text | shown }}`.
    words: dict[str, Any] = {
        "shown": lambda text: shown(str(text)),
        "score": score_text,
        "mending": mending,
        "did": decision_words,
    }
    made.filters |= {"percent": percent, "utc": _utc, "thousands": _thousands, **words}
    return made


def percent(share: float | None, digits: int = 0) -> str:
    """A share of one as a percentage; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.{digits}f} %"


def _utc(at: datetime) -> str:
    """For people without scripts; `times.ts` puts their own clock in its place."""
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _thousands(number: int) -> str:
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")
