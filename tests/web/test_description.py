"""Whatever the description allows, and much that it does not: no defect, and no answer that is not described."""

from collections.abc import Iterator

import hypothesis
import pytest
import schemathesis
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from schemas.settings import Settings
from schemas.states import Scope
from storage.database import Database
from tests.web.made import Api, context_for, running
from tests.web.test_access import OPEN, SCOPES

pytestmark = pytest.mark.slow

# The event stream goes on; tests/web/test_process.py reads it.
ROUTES = sorted(route for route in {*SCOPES, *OPEN} if not route[1].endswith("/stream"))
CHECKS = [
    schemathesis.checks.not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture
def seeded(settings: Settings, sqlite: Database) -> Iterator[Api]:
    unlimited = settings.model_copy(update={"web": settings.web.model_copy(update={"requests_per_minute": 0})})
    with running(sqlite, context_for(unlimited, sqlite)) as api:
        api.audited()
        api.versions("v", "0")
        yield api


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=lambda mode: mode.value)
@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_nothing_that_is_sent_is_a_defect(seeded: Api, route: tuple[str, str], mode: GenerationMode) -> None:
    operation = schemathesis.openapi.from_asgi("/openapi.json", seeded.app)[route[1]][route[0]]
    if mode is GenerationMode.NEGATIVE and not (operation.path_parameters or operation.query or operation.body):
        return  # nothing of it can be wrong

    @hypothesis.settings(max_examples=20, derandomize=True, deadline=None, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def sent(case: schemathesis.Case) -> None:
        case.validate_response(case.call(headers=seeded.headers(Scope.ADMIN)), checks=CHECKS)

    sent()
