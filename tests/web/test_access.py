"""Who may do what: every route has a scope, and only a key that has it gets through."""

import os
import tempfile
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from sqlmodel import col, update

from cli.children import Child
from cli.redis_binary import redis_command, wait_for_redis
from schemas.api_tables import ApiKey
from schemas.errors import InvalidInput, RateLimited
from schemas.settings import Settings
from schemas.states import Scope
from schemas.tables import now
from storage import api_keys
from storage.database import Database
from tests.web.made import Api, context_for, running
from web.rates import Rates

OPEN = {("GET", "/healthz"), ("GET", "/readyz")}
SCOPES = {
    ("POST", "/v1/audits"): Scope.SUBMIT,
    ("GET", "/v1/audits/{audit_id}"): Scope.READ,
    ("GET", "/v1/results"): Scope.READ,
    ("GET", "/v1/results/newest"): Scope.READ,
    ("GET", "/v1/results/stream"): Scope.READ,
    ("GET", "/v1/results/{number}"): Scope.READ,
    ("GET", "/v1/results/{number}/mask.png"): Scope.READ,
    ("GET", "/v1/results/{number}/overlay.png"): Scope.READ,
    ("GET", "/v1/results/{number}/picture"): Scope.READ,
    ("POST", "/v1/results/{number}/review"): Scope.REVIEW,
    ("GET", "/v1/results/{number}/reviews"): Scope.READ,
    ("POST", "/v1/annotations"): Scope.REVIEW,
    ("GET", "/v1/annotations"): Scope.READ,
    ("POST", "/v1/annotations/{number}/undo"): Scope.REVIEW,
    ("GET", "/v1/models"): Scope.READ,
    ("GET", "/v1/models/{version}"): Scope.READ,
    ("POST", "/v1/models/{version}/rollback"): Scope.ADMIN,
    ("POST", "/v1/models/{version}/promote"): Scope.ADMIN,
    ("POST", "/v1/models/{version}/reject"): Scope.ADMIN,
    ("POST", "/v1/webhooks"): Scope.ADMIN,
    ("GET", "/v1/webhooks"): Scope.ADMIN,
    ("DELETE", "/v1/webhooks/{webhook_id}"): Scope.ADMIN,
    ("GET", "/v1/webhooks/{webhook_id}/deliveries"): Scope.ADMIN,
    ("POST", "/v1/webhooks/{webhook_id}/deliveries/{number}/retry"): Scope.ADMIN,
    ("GET", "/metrics"): Scope.READ,
}
ROUTES = sorted(SCOPES)


def operations(api: Api) -> dict[tuple[str, str], dict[str, Any]]:
    paths = api.app.openapi()["paths"]
    return {(method.upper(), path): operation for path, each in paths.items() for method, operation in each.items()}


def call(api: Api, route: tuple[str, str], headers: dict[str, str]) -> Any:
    path = route[1].format(audit_id="0" * 32, number=1, version="v", webhook_id="0" * 12)
    return api.client.request(route[0], path, headers=headers, json={} if route[0] == "POST" else None)


def set_key(database: Database, name: str, **values: object) -> None:
    with database.write() as session:
        session.execute(update(ApiKey).where(col(ApiKey.name) == name).values(**values))


def test_every_route_is_in_the_table_and_says_its_scope(api: Api) -> None:
    found = operations(api)
    assert set(found) == set(SCOPES) | OPEN
    for route, scope in SCOPES.items():
        assert found[route]["security"] == [{"ApiKey": [scope.value]}], route
    assert [route for route in OPEN if "security" in found[route]] == []


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_without_a_key_nothing_opens(api: Api, route: tuple[str, str]) -> None:
    for headers in ({}, {"Authorization": "Bearer tw_nonsense"}, {"Authorization": "Basic dXNlcjpwYXNz"}):
        answer = call(api, route, headers)
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert answer.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("route", ROUTES, ids=" ".join)
def test_a_key_opens_what_its_scope_says_and_admin_opens_all(api: Api, route: tuple[str, str]) -> None:
    if route[1].endswith("/stream"):
        return  # it would go on; test_stream reads it
    allowed = {scope for scope in Scope if call(api, route, api.headers(scope)).status_code != 403}
    assert allowed == {SCOPES[route], Scope.ADMIN}
    refused = call(api, route, api.headers(next(scope for scope in Scope if scope not in allowed)))
    assert refused.json()["code"] == "forbidden"
    assert f"`{SCOPES[route]}`" in refused.json()["detail"]


def test_the_body_is_not_read_before_the_key_is_known(api: Api) -> None:
    read = []

    def body() -> Any:
        read.append(1)
        yield b"x" * 100

    answer = api.client.post("/v1/audits", content=body(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert answer.status_code == 401


@pytest.mark.parametrize(
    ("values", "words"),
    [({"expires_at": now() - timedelta(seconds=1)}, "expired"), ({"revoked_at": now()}, "revoked")],
)
def test_a_key_that_is_over_opens_nothing(api: Api, values: dict[str, object], words: str) -> None:
    assert api.client.get("/v1/models", headers=api.headers(Scope.READ)).status_code == 200
    set_key(api.database, "read-key", **values)
    answer = api.client.get("/v1/models", headers=api.headers(Scope.READ))
    assert answer.status_code == 401
    assert words in answer.json()["detail"]


def test_a_wrong_secret_is_told_like_an_unknown_key(api: Api) -> None:
    token = api.tokens[Scope.READ]
    wrong = token[:-1] + ("0" if token[-1] != "0" else "1")
    unknown = f"tw_{'0' * 12}_{'0' * 64}"
    answers = [api.client.get("/v1/models", headers={"Authorization": f"Bearer {each}"}) for each in (wrong, unknown)]
    assert [each.status_code for each in answers] == [401, 401]
    assert answers[0].json() == answers[1].json()


def test_the_secret_is_nowhere_in_the_store(api: Api) -> None:
    secret = api.tokens[Scope.READ].rpartition("_")[2]
    with api.database.read() as session:
        rows = api_keys.keys(session)
    assert rows and all(secret not in row.model_dump_json() for row in rows)


def test_use_is_noted_to_the_minute(api: Api) -> None:
    api.client.get("/v1/models", headers=api.headers(Scope.READ))

    def last_used() -> object:
        with api.database.read() as session:
            return next(row.last_used_at for row in api_keys.keys(session) if row.name == "read-key")

    first = last_used()
    assert first is not None
    api.client.get("/v1/models", headers=api.headers(Scope.READ))
    assert last_used() == first
    set_key(api.database, "read-key", last_used_at=now() - timedelta(minutes=2))
    api.client.get("/v1/models", headers=api.headers(Scope.READ))
    assert last_used() > first  # type: ignore[operator]


def test_too_many_requests_are_told_when_to_come_again(api: Api) -> None:
    set_key(api.database, "read-key", requests_per_minute=3)
    answers = [api.client.get("/v1/models", headers=api.headers(Scope.READ)) for _ in range(4)]
    assert [each.status_code for each in answers] == [200, 200, 200, 429]
    assert answers[3].json()["code"] == "rate_limited"
    assert 1 <= int(answers[3].headers["retry-after"]) <= 60
    assert api.client.get("/v1/models", headers=api.headers(Scope.ADMIN)).status_code == 200  # another key's count


def test_a_rate_of_zero_is_any_number(api: Api) -> None:
    set_key(api.database, "read-key", requests_per_minute=0)
    answers = {api.client.get("/v1/models", headers=api.headers(Scope.READ)).status_code for _ in range(30)}
    assert answers == {200}


@pytest.mark.slow
def test_processes_count_together_in_redis_and_alone_without_it(broker_url: str) -> None:
    one, other, alone = Rates(broker_url), Rates(broker_url), Rates("redis://127.0.0.1:1/0")
    one.check("k", 2)
    other.check("k", 2)
    with pytest.raises(RateLimited, match="more than 2 requests"):
        one.check("k", 2)
    with Redis.from_url(broker_url) as client:
        names = list(client.scan_iter())
        assert names and all(b"tamperwatch:rate" in name for name in names)
        assert all(0 < client.pttl(name) <= 120_000 for name in names)
    alone.check("k", 1)
    with pytest.raises(RateLimited):
        alone.check("k", 1)


@pytest.mark.slow
def test_requests_are_counted_over_a_socket_too() -> None:
    with tempfile.TemporaryDirectory(prefix="tw-") as folder:
        path = Path(folder) / "redis.sock"
        redis = Child("redis", redis_command(path, Path(folder)), Path(folder) / "redis.log", dict(os.environ))
        try:
            wait_for_redis(path, redis)
            rates = Rates(f"redis+socket://{path}?virtual_host=3")
            rates.check("k", 1)
            with Redis(unix_socket_path=str(path), db=3) as client:
                assert client.dbsize() > 0
            with pytest.raises(RateLimited):
                rates.check("k", 1)
        finally:
            redis.stop(5)


@pytest.mark.parametrize("name", ["", "a/b", " x", "x\n", "é", "x" * 65])
def test_names_that_cannot_be_recorded(sqlite: Database, name: str) -> None:
    with pytest.raises(InvalidInput, match="name has 1 to 64"), sqlite.write() as session:
        api_keys.create(session, name, [Scope.READ])


def test_a_name_is_taken_for_good(sqlite: Database) -> None:
    with sqlite.write() as session:
        api_keys.create(session, "anna", [Scope.READ])
        api_keys.revoke(session, "anna")
        api_keys.revoke(session, "anna")
    with pytest.raises(InvalidInput, match="there is, or was, a key named 'anna'"), sqlite.write() as session:
        api_keys.create(session, "anna", [Scope.READ])


@pytest.mark.slow
def test_keys_on_every_database(database: Database, settings: Settings) -> None:
    with running(database, context_for(settings, database)) as api:
        assert api.client.get("/v1/models", headers=api.headers(Scope.READ)).json() == []
