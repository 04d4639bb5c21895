"""Pictures in, and what became of them."""

from contextlib import ExitStack
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Path, Request, Response
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool

from schemas.errors import InvalidRequest, TooLarge
from web.access import Caller, Reader, Submitter
from web.context import Context, ContextDep
from web.intake import audit_of, take_form, take_order
from web.problems import documented
from web.references import AuditOrder
from web.uploads import read_form
from web.views import AuditView

router = APIRouter(prefix="/v1/audits", tags=["audits"])

_MOST_JSON_BYTES: Final = 4_000_000
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[\x20-\x7e]+$",
        description="your name for this request; sent again, the answer is that of the first time",
    ),
]
_LOCATION: Final = {"Location": {"schema": {"type": "string"}, "description": "where to follow the audit"}}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"$ref": "#/components/schemas/UploadForm"}},
            "application/json": {"schema": {"$ref": "#/components/schemas/AuditOrder"}},
        },
    }
}


@router.post(
    "",
    status_code=HTTPStatus.ACCEPTED,
    response_model=AuditView,
    responses=documented(404, 409, 415) | {202: {"headers": _LOCATION}},
    openapi_extra=_BODY,
    summary="Audit pictures",
)
async def submit(
    request: Request, response: Response, context: ContextDep, caller: Submitter, idempotency_key: IdempotencyKey = None
) -> AuditView:
    """Send pictures as `multipart/form-data`, or name up to 1000 of them in JSON.

    The answer lists one job a picture. One that can't be audited fails alone, under a named error; only where all pictures
    that were sent are refused is the request refused. Follow an audit with `GET /v1/audits/{id}`, or all of them with
    `GET /v1/results`.
    """
    taken = await _taken(request, context, caller, idempotency_key)
    response.headers["Location"] = f"/v1/audits/{taken.id}"
    return taken


@router.get("/{audit_id}", response_model=AuditView, responses=documented(404), summary="What became of an audit")
def show(
    context: ContextDep,
    _caller: Reader,
    audit_id: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="from `POST /v1/audits`")],
) -> AuditView:
    """Every picture of an audit with its state, and its result or error once it has ended."""
    return audit_of(context, audit_id)


async def _taken(request: Request, context: Context, caller: Caller, idempotency_key: str | None) -> AuditView:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        with ExitStack() as closing:
            form = await read_form(request, context.limits, context.settings.web.max_files, closing)
            return await run_in_threadpool(lambda: take_form(context, caller, form, idempotency_key))
    if kind == "application/json":
        order = _order(await _json_body(request))
        return await run_in_threadpool(lambda: take_order(context, caller, order, idempotency_key))
    raise InvalidRequest("send multipart/form-data with pictures, or application/json with references")


async def _json_body(request: Request) -> bytes:
    """Raises TooLarge: before it is held in memory."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > _MOST_JSON_BYTES:
            raise TooLarge(f"a list of references may have {_MOST_JSON_BYTES:,} bytes")
    return bytes(body)


def _order(body: bytes) -> AuditOrder:
    try:
        return AuditOrder.model_validate_json(body)
    except ValidationError as error:
        wrong = error.errors(include_input=False, include_url=False)[:3]
        words = [f"{'.'.join(map(str, each['loc'])) or 'body'}: {each['msg']}" for each in wrong]
        raise InvalidRequest("; ".join(words)) from error
