"""Whatever the description allows, and much that it does not: no defect, and no answer that is not described.

Cases are drawn by schemathesis from the description alone, the same ones in every run. Half of the allowed ones name what is
there (a result, a model version, a webhook, an audit), so that they get past "not found".
"""

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from hypothesis import strategies
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.api_tables import WebhookDelivery
from schemas.settings import Settings
from schemas.states import Scope
from storage import webhooks
from storage.database import Database
from tests.pictures import picture_bytes
from tests.web.made import Api, context_for, running
from tests.web.test_access import OPEN, SCOPES

pytestmark = pytest.mark.slow

# The event stream goes on; tests/web/test_process.py reads it.
ROUTES = sorted(route for route in {*SCOPES, *OPEN} if not route[1].endswith("/stream"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
Known = dict[str, Any]


@pytest.fixture
def seeded(settings: Settings, sqlite: Database) -> Iterator[Api]:
    unlimited = settings.model_copy(update={"web": settings.web.model_copy(update={"requests_per_minute": 0})})
    with running(sqlite, context_for(unlimited, sqlite)) as api:
        yield api


@pytest.fixture
def known(seeded: Api) -> Known:
    """What there is, by the names that paths have for it."""
    number = seeded.audited().id
    seeded.versions("v", "0")
    with seeded.database.write() as session:
        webhook_id = webhooks.create(session, "https://hooks.example/", None, "tests").id
        session.add(WebhookDelivery(id=number, webhook_id=webhook_id, result_id=number))
    sent = seeded.client.post(
        "/v1/audits", files={"file": ("a.jpg", picture_bytes(2))}, headers=seeded.headers(Scope.ADMIN)
    ).json()
    return {"number": number, "version": "v", "webhook_id": webhook_id, "audit_id": sent["id"]}


def drawn(examples: int) -> hypothesis.settings:
    quiet = list(hypothesis.HealthCheck)
    return hypothesis.settings(max_examples=examples, derandomize=True, deadline=None, suppress_health_check=quiet)


def operation_of(api: Api, route: tuple[str, str]) -> Any:
    return schemathesis.openapi.from_asgi("/openapi.json", api.app)[route[1]][route[0]]


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_what_is_allowed_is_no_defect(seeded: Api, known: Known, route: tuple[str, str]) -> None:
    operation = operation_of(seeded, route)

    @drawn(20)
    @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE), of_known=strategies.booleans())
    def sent(case: schemathesis.Case, of_known: bool) -> None:
        if of_known:
            case.path_parameters = {name: known[name] for name in case.path_parameters or {}}
        case.validate_response(case.call(headers=seeded.headers(Scope.ADMIN)), checks=CHECKS)

    sent()


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_what_is_not_allowed_is_no_defect(seeded: Api, route: tuple[str, str]) -> None:
    operation = operation_of(seeded, route)
    if not (operation.path_parameters or operation.query or operation.body):
        return  # nothing of it can be wrong

    @drawn(20)
    @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def sent(case: schemathesis.Case) -> None:
        case.validate_response(case.call(headers=seeded.headers(Scope.ADMIN)), checks=CHECKS)

    sent()


@pytest.mark.parametrize("route", sorted(set(ROUTES) - OPEN), ids=" ".join)
def test_strangers_get_nowhere_whatever_they_send(seeded: Api, route: tuple[str, str]) -> None:
    operation = operation_of(seeded, route)

    @drawn(5)
    @hypothesis.given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def sent(case: schemathesis.Case) -> None:
        answer = case.call(headers={"Authorization": "Bearer tw_nonsense"})
        case.validate_response(answer, checks=CHECKS)
        # A drawn path may be another address, and a body that is no JSON at all is told before anything else.
        assert answer.status_code in (400, 401, 404, 405, 422)

    sent()
