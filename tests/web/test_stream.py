"""The event stream: a seat for each reader, and an end. tests/web/test_process.py reads it over a real connection."""

import json

import httpx2
import pytest
from pytest import MonkeyPatch

from schemas.errors import StoreUnavailable
from schemas.settings import Settings, WebSettings
from schemas.states import Scope, Verdict
from storage.database import Database
from tests.web.made import Api, context_for, running

URL = "/v1/results/stream"


def read(api: Api, query: str = "", **headers: str) -> httpx2.Response:
    """The whole stream of an API that closes as soon as there is nothing new."""
    return api.client.get(f"{URL}{query}", headers=api.headers(Scope.READ, **headers))


@pytest.fixture
def closing(api: Api, monkeypatch: MonkeyPatch) -> Api:
    async def close_instead(_: float) -> None:
        api.context.closing.set()

    monkeypatch.setattr("web.routes.stream.sleep", close_instead)
    return api


def ids(answer: httpx2.Response) -> list[int]:
    events = [dict(line.partition(": ")[::2] for line in each.splitlines()) for each in answer.text.split("\n\n")]
    return [json.loads(each["data"])["id"] for each in events if each.get("event") == "result"]


def test_from_a_cursor_or_the_last_event(closing: Api) -> None:
    numbers = [closing.audited(seed, Verdict.FLAG if seed % 2 else Verdict.PASS).id for seed in (1, 2, 3)]
    answer = read(closing, "?cursor=0")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert ids(answer) == numbers
    closing.context.closing.clear()
    assert ids(read(closing, "?cursor=0", **{"Last-Event-ID": str(numbers[1])})) == numbers[2:]
    closing.context.closing.clear()
    assert ids(read(closing, "?cursor=0&verdict=pass")) == numbers[1:2]


def test_from_now_on_without_either(closing: Api) -> None:
    newest = closing.audited().id
    answer = read(closing)
    assert ids(answer) == []
    assert f"id: {newest}" in answer.text


def test_more_than_a_page_without_a_pause(closing: Api, monkeypatch: MonkeyPatch) -> None:
    monkeypatch.setattr("web.routes.stream._PAGE", 2)
    numbers = [closing.audited(seed).id for seed in range(1, 6)]
    assert ids(read(closing, "?cursor=0")) == numbers


def test_a_store_that_goes_away_ends_the_stream_cleanly(closing: Api, monkeypatch: MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr("web.routes.stream._page", away)
    assert read(closing, "?cursor=3").status_code == 200


def test_seats_are_few_and_given_back(settings: Settings, sqlite: Database) -> None:
    one = settings.model_copy(update={"web": WebSettings(streams=1)})
    with running(sqlite, context_for(one, sqlite)) as api:
        api.context.closing.set()
        assert [read(api).status_code for _ in range(3)] == [200, 200, 200]
        assert api.context.stream_seats.acquire(blocking=False)
        refused = read(api)
        assert (refused.status_code, refused.json()["code"], refused.headers["retry-after"]) == (503, "too_busy", "30")


def test_a_seat_is_held_while_the_stream_goes_on(settings: Settings, sqlite: Database, monkeypatch: MonkeyPatch) -> None:
    one = settings.model_copy(update={"web": WebSettings(streams=1)})
    free = []
    with running(sqlite, context_for(one, sqlite)) as api:

        def page(*_: object) -> list[object]:
            free.append(api.context.stream_seats.acquire(blocking=False))
            api.context.closing.set()
            return []

        monkeypatch.setattr("web.routes.stream._page", page)
        read(api, "?cursor=0")
    assert free == [False]


@pytest.mark.parametrize("last", ["x", "-1", str(2**63)])
def test_a_last_event_that_is_none(api: Api, last: str) -> None:
    assert read(api, **{"Last-Event-ID": last}).status_code == 422
