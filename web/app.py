"""The HTTP API put together. Every error leaves it as problem details, every answer with safe headers."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from fastapi import FastAPI
from pydantic.json_schema import models_json_schema

from web import problems, sessions
from web.context import Context
from web.middleware import BodyLimits, RequestLog, SafeHeaders
from web.pages import account, assets, dashboard, login, runs
from web.pages import models as model_pages
from web.pages import results as result_pages
from web.pages.review import routes as review
from web.references import AuditOrder
from web.routes import annotations, audits, models, results, service, stream, webhooks
from web.uploads import UploadForm

_MOST_BYTES: Final = 1_000_000
_DESCRIPTION: Final = (
    "Was this picture manipulated, and where? Send `Authorization: Bearer` and an API key. Errors are problem details "
    "(RFC 9457) with a stable `code`."
)


class _Api(FastAPI):
    """FastAPI, whose description knows the bodies too that a route reads by itself."""

    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            described = super().openapi()
            bodies = [(AuditOrder, "validation"), (UploadForm, "validation")]
            _, found = models_json_schema(bodies, ref_template="#/components/schemas/{model}")  # type: ignore[arg-type]
            described["components"]["schemas"] |= found["$defs"]
            self.openapi_schema = described
        return self.openapi_schema


def create_app(context: Context) -> FastAPI:
    """The API over these stores, ready for an ASGI server."""
    app = _Api(
        title="Tamperwatch",
        version=_version(),
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
    )
    app.state.context = context
    problems.install(app)
    sessions.install(app)
    # The last one is the outermost.
    web = context.settings.web
    larger = {audits.router.prefix: web.max_body_bytes}
    app.add_middleware(BodyLimits, timeout_s=web.body_timeout_s, most_bytes=_MOST_BYTES, larger_bytes=larger)
    app.add_middleware(SafeHeaders)
    app.add_middleware(RequestLog)
    # Before `/v1/results/{number}`, which would take its name for a number.
    app.include_router(stream.router)
    for each in (audits, results, annotations, models, webhooks, service, assets, login, account):
        app.include_router(each.router)
    for part in (review, result_pages, dashboard, model_pages, runs):
        app.include_router(part.router)
    return app


def _version() -> str:
    try:
        return version("tamperwatch")
    except PackageNotFoundError:
        return "from its sources"
