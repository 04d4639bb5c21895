"""What a form is answered with: the page to see next, for browsers and for htmx alike."""

from http import HTTPStatus

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from web.pages.errors import from_script


def go_to(request: Request, address: str) -> Response:
    """Lead on to a page of ours, after something was done."""
    if from_script(request):
        return Response(status_code=HTTPStatus.NO_CONTENT, headers={"HX-Redirect": address})
    return RedirectResponse(address, HTTPStatus.SEE_OTHER)
