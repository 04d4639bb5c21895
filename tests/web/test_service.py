"""What goes around every request: headers, problems, logs, the description, and what the process says of itself."""

import logging
import re
from typing import Any

import anyio
import pytest

from schemas import errors
from schemas.errors import TamperwatchError
from schemas.settings import Settings, WebSettings
from schemas.states import Scope
from storage.database import Database
from storage.telemetry import REQUESTS
from tests.web.made import Api, context_for, running
from web.problems import status_of


@pytest.mark.parametrize("path", ["/v1/results", "/docs", "/docs/style.css", "/openapi.json", "/healthz", "/readyz", "/nowhere"])
def test_every_answer_keeps_browsers_safe(api: Api, path: str) -> None:
    headers = api.client.get(path, headers=api.headers(Scope.READ)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert re.fullmatch("[0-9a-f]{16}", headers["x-request-id"])
    assert "server" not in headers


def test_the_description_loads_nothing_from_elsewhere_and_runs_nothing(api: Api) -> None:
    page = api.client.get("/docs").text
    assert re.findall(r'(?:src|href)="(?!/|#)([^"]*)"', page) == []
    assert "<script" not in page and "style=" not in page
    for path in api.app.openapi()["paths"]:
        assert path in page


def test_the_description_has_examples_and_every_problem(api: Api) -> None:
    api_description = api.app.openapi()
    body = api_description["paths"]["/v1/audits"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "application/json"}
    assert api_description["components"]["schemas"]["AuditOrder"]["example"]["pictures"]
    for path, each in api_description["paths"].items():
        for operation in each.values():
            if "security" in operation:
                assert {"401", "403", "422", "429", "503"} <= set(operation["responses"]), path
    assert "example" in api_description["components"]["schemas"]["Problem"]


def test_references_in_the_description_lead_somewhere(api: Api) -> None:
    described = api.app.openapi()
    names = set(re.findall(r"'#/components/schemas/(\w+)'", str(described)))
    assert names <= set(described["components"]["schemas"])


def test_wellness_says_which_part_and_not_why(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    assert api.client.get("/healthz").json()["ok"] is True
    assert api.client.get("/readyz").json() == {"ok": True, "parts": {"sql": True, "blobs": True}}
    monkeypatch.setitem(api.context.health._checks["ready"], "sql", lambda: (_ for _ in ()).throw(OSError("db.internal is away")))
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json()["parts"]["sql"]) == (503, False)
    assert "internal" not in answer.text


def test_requests_are_counted_by_route(api: Api) -> None:
    for path in ("/v1/results/77", "/v1/results/78", "/nowhere"):
        api.client.get(path, headers=api.headers(Scope.READ))
    api.client.request("BREW", "/healthz")
    counted = {
        tuple(sample.labels.values())
        for family in REQUESTS.collect()
        for sample in family.samples
        if sample.name.endswith("_count")
    }
    assert {("GET", "/v1/results/{number}", "404"), ("GET", "none", "404")} <= counted
    # By the route's pattern, so that no address that was made up adds a series.
    assert not {"/v1/results/77", "/v1/results/78", "/nowhere"} & {route for _, route, _ in counted}
    assert "BREW" not in {method for method, _, _ in counted}


def test_metrics(api: Api) -> None:
    answer = api.client.get("/metrics", headers=api.headers(Scope.READ))
    assert answer.headers["content-type"].startswith("text/plain")
    assert "tamperwatch_" in answer.text


def test_the_log_has_a_line_a_request_and_no_secret(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "tamperwatch.access"):
        api.client.get("/v1/results?cursor=0&verdict=flag", headers=api.headers(Scope.READ))
        api.client.get("/v1/no%0a%0dwhere", headers=api.headers(Scope.READ))
    lines = [record for record in caplog.records if record.name == "tamperwatch.access"]
    assert [(line.method, line.path, line.status) for line in lines] == [  # type: ignore[attr-defined]
        ("GET", "/v1/results", 200),
        ("GET", "/v1/no%0A%0Dwhere", 404),
    ]
    assert lines[0].who == "read-key"  # type: ignore[attr-defined]
    secret = api.tokens[Scope.READ].rpartition("_")[2]
    assert secret not in caplog.text and "verdict=flag" not in caplog.text


def test_a_defect_is_told_without_its_words(api: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    def defect(*_: Any) -> None:
        raise RuntimeError("password=hunter2")

    monkeypatch.setattr("storage.registry.versions", defect)
    answer = api.client.get("/v1/models", headers=api.headers(Scope.READ))
    assert (answer.status_code, answer.json()["code"]) == (500, "internal_error")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "hunter2" not in answer.text and "hunter2" in caplog.text
    assert answer.headers["x-request-id"] in answer.json()["detail"]


def test_a_store_that_is_away_is_503(api: Api) -> None:
    api.database.close()
    api.context.database = Database("sqlite:////nowhere/at/all.db")
    answer = api.client.get("/v1/models", headers=api.headers(Scope.READ))
    assert (answer.status_code, answer.json()["code"], answer.headers["retry-after"]) == (503, "store_unavailable", "5")
    assert "nowhere" not in answer.text


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_other_methods_are_problems_too(api: Api, method: str) -> None:
    answer = api.client.request(method, "/v1/results", headers=api.headers(Scope.READ))
    assert (answer.status_code, answer.json()["code"]) == (405, "invalid_request")
    assert answer.headers["allow"] == "GET"


REQUEST = {
    "type": "http",
    "query_string": b"",
    "http_version": "1.1",
    "scheme": "http",
    "client": ("1.2.3.4", 5),
    "server": ("x", 80),
}


def test_a_body_that_drips_is_cut_off(settings: Settings, sqlite: Database) -> None:
    hasty = settings.model_copy(update={"web": WebSettings(body_timeout_s=0.05)})
    sent: list[dict[str, Any]] = []

    async def drip() -> dict[str, Any]:
        await anyio.sleep_forever()
        raise AssertionError

    async def keep(message: dict[str, Any]) -> None:
        sent.append(message)

    with running(sqlite, context_for(hasty, sqlite)) as api:
        for path, kind in (("/v1/audits", b"multipart/form-data; boundary=x"), ("/v1/annotations", b"application/json")):
            headers = [(b"authorization", f"Bearer {api.tokens[Scope.ADMIN]}".encode()), (b"content-type", kind)]
            scope = dict(REQUEST, method="POST", path=path, headers=headers)
            sent.clear()
            anyio.run(api.app, scope, drip, keep)
            assert sent[0]["status"] == 408
            assert b"request_timeout" in sent[1]["body"]


def _all_below(kind: type[TamperwatchError]) -> list[type[TamperwatchError]]:
    return [each for child in kind.__subclasses__() for each in (child, *_all_below(child))]


@pytest.mark.parametrize("kind", [each for each in _all_below(TamperwatchError) if each.__module__ == errors.__name__])
def test_every_error_has_a_status(kind: type[TamperwatchError]) -> None:
    status = status_of(kind("x"))
    assert 400 <= status <= 599
    assert (status >= 500) == (not issubclass(kind, errors.RequestError) and status in (500, 503)) or kind is errors.TooBusy
