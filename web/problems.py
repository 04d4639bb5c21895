"""Errors as RFC 9457 problem details that carry our own codes."""

import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from schemas import errors
from schemas.errors import (
    InternalError,
    InvalidRequest,
    NotFound,
    RequestError,
    RequestTimeout,
    ServiceError,
    TamperwatchError,
    TooLarge,
    Unauthenticated,
)
from storage.telemetry_log import without_secrets
from web import examples
from web.pages.errors import error_page, wants_page
from web.views import FieldProblem, Problem

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "application/problem+json"
_COME_BACK_S: Final = 5

# By the error's own class, or the nearest one above it.
_STATUS: Final[Mapping[type[TamperwatchError], HTTPStatus]] = {
    TamperwatchError: HTTPStatus.INTERNAL_SERVER_ERROR,
    errors.PictureError: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.UnsupportedFormat: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    errors.TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    errors.OutputFailed: HTTPStatus.GONE,
    errors.InvalidMessage: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.BlobMissing: HTTPStatus.NOT_FOUND,
    errors.UrlRefused: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.ServiceError: HTTPStatus.SERVICE_UNAVAILABLE,
    errors.RequestError: HTTPStatus.BAD_REQUEST,
    errors.Unauthenticated: HTTPStatus.UNAUTHORIZED,
    errors.Forbidden: HTTPStatus.FORBIDDEN,
    errors.NotFound: HTTPStatus.NOT_FOUND,
    errors.Conflict: HTTPStatus.CONFLICT,
    errors.InvalidRequest: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.IdempotencyMismatch: HTTPStatus.UNPROCESSABLE_ENTITY,
    errors.RequestTimeout: HTTPStatus.REQUEST_TIMEOUT,
    errors.RateLimited: HTTPStatus.TOO_MANY_REQUESTS,
    errors.TooBusy: HTTPStatus.SERVICE_UNAVAILABLE,
}


_RETRY_AFTER: Final = {"Retry-After": {"schema": {"type": "integer", "minimum": 1}, "description": "seconds"}}
_DESCRIBED_HEADERS: Final[Mapping[int, dict[str, Any]]] = {
    401: {"WWW-Authenticate": {"schema": {"type": "string"}}},
    429: _RETRY_AFTER,
    503: _RETRY_AFTER,
}


def documented(*statuses: HTTPStatus | int) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems beside those that every route may."""
    every = (400, 401, 403, 408, 413, 422, 429, 500, 503)
    named = sorted({*every, *map(int, statuses)})
    return {
        status: {
            "model": Problem,
            "description": HTTPStatus(status).phrase,
            "content": {
                MEDIA_TYPE: {
                    "schema": {"$ref": "#/components/schemas/Problem"},
                    "example": examples.problem(status, HTTPStatus(status).phrase),
                }
            },
            "headers": _DESCRIBED_HEADERS.get(status, {}),
        }
        for status in named
    }


def install(app: FastAPI) -> None:
    """Let every error of an app leave it as a problem."""
    app.add_exception_handler(TamperwatchError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


def problem_of(error: TamperwatchError, status: int | None = None, fields: Sequence[FieldProblem] | None = None) -> Response:
    """The answer that tells of an error."""
    chosen = HTTPStatus(status or status_of(error))
    detail = _detail(error)
    body = Problem(
        type=f"urn:tamperwatch:error:{error.code}",
        title=chosen.phrase,
        status=chosen,
        code=error.code,
        detail=detail,
        errors=list(fields) if fields is not None else None,
    )
    return Response(body.model_dump_json(exclude_none=True), chosen, _headers(error), MEDIA_TYPE)


def _detail(error: TamperwatchError) -> str:
    detail = without_secrets(error.message)
    if isinstance(error, ServiceError):
        # What a driver says of its connection is for the log; it may name hosts that the caller should not know.
        log.warning("%s: %s", error.code, detail)
        return f"{(type(error).__doc__ or '').strip()} Nothing was lost; come again later."
    return detail


def status_of(error: TamperwatchError) -> HTTPStatus:
    """The HTTP status of an error."""
    return next(_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS)


def field_problems(found: Sequence[Any]) -> list[FieldProblem]:
    """What pydantic found wrong, without repeating what was sent."""
    return [FieldProblem(field=".".join(map(str, each["loc"])) or "body", message=str(each["msg"])) for each in found]


def answer_to(
    request: Request, error: TamperwatchError, status: int | None = None, fields: Sequence[FieldProblem] | None = None
) -> Response:
    """A page for people, problem details for programs."""
    if wants_page(request):
        chosen = HTTPStatus(status or status_of(error))
        shown = error_page(request, chosen.phrase, _detail(error), error, chosen)
        if shown is not None:
            shown.headers.update(_headers(error))
            return shown
    return problem_of(error, status, fields)


def _headers(error: TamperwatchError) -> dict[str, str]:
    headers = {}
    retry_after_s = error.retry_after_s if isinstance(error, RequestError) else None
    if isinstance(error, ServiceError):
        retry_after_s = _COME_BACK_S
    if retry_after_s is not None:
        headers["Retry-After"] = str(retry_after_s)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="tamperwatch"'
    return headers


def _ours(request: Request, error: Exception) -> Response:
    assert isinstance(error, TamperwatchError)
    return answer_to(request, error)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    fields = field_problems(error.errors())
    words = "; ".join(f"{each.field}: {each.message}" for each in fields[:3])
    return answer_to(request, InvalidRequest(words), fields=fields)


def _http(request: Request, error: Exception) -> Response:
    """What the framework itself refuses."""
    assert isinstance(error, HTTPException)
    refused: TamperwatchError
    if error.status_code == HTTPStatus.NOT_FOUND:
        refused = NotFound("there is nothing at this address; /docs lists what there is")
    elif error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        refused = TooLarge(str(error.detail))
    elif error.status_code == HTTPStatus.REQUEST_TIMEOUT:
        refused = RequestTimeout(str(error.detail))
    elif error.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        refused = InternalError("this is a defect of ours; the log has more")
    else:
        refused = InvalidRequest(str(error.detail))
    answer = answer_to(request, refused, error.status_code)
    answer.headers.update(error.headers or {})
    return answer
