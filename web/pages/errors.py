"""Errors as people see them: a page, or a part of one where a script asked; programs get problem details."""

from fastapi import Request, Response

from schemas.errors import EnvironmentMissing, TamperwatchError
from web.pages.rendering import page


def wants_page(request: Request) -> bool:
    """Whether the one who asks is a person's browser. The API answers with problem details whatever a client accepts."""
    if request.url.path.startswith("/v1/"):
        return False
    return "text/html" in request.headers.get("accept", "") or from_script(request)


def from_script(request: Request) -> bool:
    """Whether a script of our pages asks, which puts the answer into the page it is on."""
    return request.headers.get("hx-request") == "true"


def error_page(request: Request, title: str, detail: str, error: TamperwatchError, status: int) -> Response | None:
    """The answer that tells a person of an error; None where the page was never bundled, so that nothing can be shown."""
    template = "error_part.html.j2" if from_script(request) else "error.html.j2"
    try:
        return page(request, template, None, status=status, title=title, detail=detail, code=error.code)
    except EnvironmentMissing:
        return None
