"""What the process says of itself, and the description of the API as a plain page."""

from pathlib import Path
from typing import Any, Final

import jinja2
from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict

from storage.telemetry import REGISTRY
from web import examples
from web.access import Reader
from web.context import ContextDep
from web.problems import documented

router = APIRouter(tags=["service"])

_TEMPLATES: Final = Path(__file__).parents[1] / "templates"
# A page of text; the style sheet is our own.
_PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_METRICS: Final[dict[int | str, Any]] = {200: {"content": {"text/plain": {"example": examples.METRICS}}}}


class Wellness(BaseModel):
    """Whether all is well, and which parts are; why not is for the log and the telemetry port."""

    model_config = ConfigDict(json_schema_extra={"example": examples.WELLNESS})

    ok: bool
    parts: dict[str, bool]


@router.get("/healthz", response_model=Wellness, responses={503: {"model": Wellness, "description": "start it again"}})
def healthz(context: ContextDep) -> Response:
    """Whether the process lives. Asks nobody else."""
    return _wellness(*context.health.live())


@router.get("/readyz", response_model=Wellness, responses={503: {"model": Wellness, "description": "a store is away"}})
def readyz(context: ContextDep) -> Response:
    """Whether it can answer: the stores are there, and nobody has told it to stop."""
    return _wellness(*context.health.ready())


@router.get(
    "/metrics",
    response_class=Response,
    responses=documented() | _METRICS,
)
def metrics(_caller: Reader) -> Response:
    """For Prometheus, with an API key that may read."""
    return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)


@router.get("/docs", include_in_schema=False)
def docs(request: Request) -> Response:
    """The OpenAPI description as a page without a script."""
    page = _environment().get_template("docs.html.j2").render(api=request.app.openapi(), operations=_operations(request))
    return Response(page, media_type="text/html; charset=utf-8", headers={"Content-Security-Policy": _PAGE_POLICY})


@router.get("/docs/style.css", include_in_schema=False)
def style() -> Response:
    return Response((_TEMPLATES / "docs.css").read_text(encoding="utf-8"), media_type="text/css; charset=utf-8")


def _wellness(ok: bool, report: dict[str, Any]) -> Response:
    parts = {name: part["ok"] for name, part in report["parts"].items()}
    return JSONResponse({"ok": ok, "parts": parts}, status_code=200 if ok else 503)


def _environment() -> jinja2.Environment:
    return jinja2.Environment(loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined)


def _operations(request: Request) -> list[dict[str, Any]]:
    """Method, path and description of every operation."""
    paths = request.app.openapi()["paths"]
    return [
        {"method": method.upper(), "path": path, **operation}
        for path, each in paths.items()
        for method, operation in each.items()
    ]
