"""The client against the API itself, and against servers that are away, busy or somebody else."""

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

import storage.webhooks
from schemas.geometry import PixelBox
from schemas.settings import Settings, WebhookSettings
from schemas.states import DeliveryState, ReviewDecision, Scope, Verdict
from storage.database import Database
from tests.pictures import picture_bytes
from tests.web.made import Api, context_for, running
from web import examples
from web.client import ApiError, TamperwatchClient
from web.references import PictureReference, Wishes

ADDRESS = "http://testserver"
Answer = httpx2.Response | Exception


@pytest.fixture
def client(api: Api) -> Iterator[TamperwatchClient]:
    with TamperwatchClient(ADDRESS, api.tokens[Scope.ADMIN], transport=api.client._transport) as made:
        yield made


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "a b.jpg"
    path.write_bytes(picture_bytes(1))
    return path


class Scripted:
    """A server that gives these answers, one after the other, and a clock that only counts."""

    def __init__(self, *answers: Answer) -> None:
        self._answers = list(answers)
        self.requests: list[httpx2.Request] = []
        self.slept_s: list[float] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def client(self, **options: float) -> TamperwatchClient:
        return TamperwatchClient(ADDRESS, "t", transport=httpx2.MockTransport(self), sleep=self.slept_s.append, **options)


def problem(status: int, code: str, **headers: str) -> httpx2.Response:
    body = {"type": f"urn:tamperwatch:error:{code}", "title": "x", "status": status, "code": code, "detail": "why"}
    return httpx2.Response(status, json=body, headers=headers)


def models(*_: object) -> httpx2.Response:
    return httpx2.Response(200, json=[])


def test_files_in_and_results_out(api: Api, client: TamperwatchClient, picture: Path, tmp_path: Path) -> None:
    audit = client.submit_files([picture], profiles=["wechat"], client_refs=["mine"])
    assert [(each.name, each.client_ref) for each in audit.pictures] == [("a b.jpg", "mine")]
    number = api.result_of(audit.pictures[0].job_id)
    ended = client.wait(audit.id)
    assert ended.pictures[0].result is not None and ended.pictures[0].result.id == number
    assert [each.id for each in client.results()] == [number]
    assert list(client.results(verdict=Verdict.PASS)) == []
    assert client.result(number).verdict is Verdict.FLAG
    client.download(number, "picture", tmp_path / "copy.jpg")
    assert (tmp_path / "copy.jpg").read_bytes() == picture.read_bytes()


def test_every_result_once_over_many_pages(api: Api, client: TamperwatchClient) -> None:
    numbers = [api.audited(seed).id for seed in range(1, 8)]
    assert [each.id for each in client.results(page_size=3)] == numbers
    assert [each.id for each in client.results(cursor=numbers[3] or 0, page_size=3)] == numbers[4:]


def test_references_reviews_and_boxes(api: Api, client: TamperwatchClient) -> None:
    result = api.audited()
    number = result.id or 0
    sha256 = client.result(number).sha256
    audit = client.submit_references([PictureReference(sha256=sha256)], Wishes(source_profile="wechat"))
    assert audit.counts["queued"] == 1
    assert client.review(number, ReviewDecision.MANIPULATED, by="anna").by == "admin-key/anna"
    annotation = client.annotate(number, [PixelBox.of(1, 2, 3, 4)], note="here")
    assert annotation.boxes == [PixelBox.of(1, 2, 3, 4)]
    assert client.undo(annotation.id, "not here").replaces == annotation.id
    assert client.annotate(number, []).kind == "authentic"


def test_a_decision_meanwhile_is_told_with_its_maker(api: Api, client: TamperwatchClient) -> None:
    number = api.audited().id or 0
    client.review(number, ReviewDecision.MANIPULATED, by="anna", seen=0)
    with pytest.raises(ApiError, match="admin-key/anna decided meanwhile") as raised:
        client.review(number, ReviewDecision.AUTHENTIC, by="boris", seen=0)
    assert raised.value.status == 409
    assert [each.by for each in client.reviews(number)] == ["admin-key/anna"]


def test_webhooks_and_their_log(settings: Settings, sqlite: Database) -> None:
    hooks = WebhookSettings(allowed_hosts="hooks.example")
    with running(sqlite, context_for(settings.model_copy(update={"webhooks": hooks}), sqlite)) as api:
        client = TamperwatchClient(ADDRESS, api.tokens[Scope.ADMIN], transport=api.client._transport)
        made = client.push_to("https://hooks.example/x", Verdict.FLAG)
        assert made.secret.startswith("whsec_") and made.verdict is Verdict.FLAG
        assert [each.id for each in client.webhooks()] == [made.id]
        number = api.audited().id or 0
        with sqlite.write() as session:
            storage.webhooks.follow(session, made.id)
            (delivery,) = storage.webhooks.deliveries(session, made.id)
            storage.webhooks.note(session, [(delivery.id or 0, storage.webhooks.Tried(410, "answered 410", gone=True))], 3)
        (shown,) = client.deliveries(made.id, DeliveryState.FAILED)
        assert (shown.result_id, shown.words) == (number, "answered 410")
        assert client.deliveries(made.id, before=shown.id) == []
        assert client.deliver_again(made.id, shown.id).state == "waiting"
        client.push_no_more(made.id)
        assert client.webhooks() == []
        with pytest.raises(ApiError, match="url_refused"):
            client.push_to("https://elsewhere.example/")


def test_a_webhook_is_asked_for_once() -> None:
    server = Scripted(httpx2.ReadError("cut"))
    with pytest.raises(ApiError, match="does not answer"):
        server.client().push_to("https://hooks.example/")
    assert len(server.requests) == 1


def event(number: int) -> str:
    return f"id: {number}\nevent: result\ndata: {json.dumps(examples.RESULT | {'id': number})}\n\n"


def stream(*parts: str) -> httpx2.Response:
    return httpx2.Response(200, text="".join(parts), headers={"Content-Type": "text/event-stream"})


def test_a_stream_is_followed_over_cuts_and_ends() -> None:
    half = event(4)[:-20]
    server = Scripted(
        stream(": from 1\nid: 1\nretry: 2000\n\n", event(2), event(3), half),
        httpx2.ConnectError("refused"),
        problem(503, "too_busy"),
        stream(event(4)),
    )
    results = server.client().follow(cursor=1)
    assert [next(results).id for _ in range(3)] == [2, 3, 4]
    assert [each.url.params["cursor"] for each in server.requests] == ["1", "3", "3", "3"]
    assert len(server.slept_s) == 2


def test_a_stream_from_now_on_of_one_verdict() -> None:
    newest = httpx2.Response(200, json={"results": [], "next_cursor": 7, "more": False})
    server = Scripted(newest, stream(event(8)))
    assert next(server.client().follow(verdict=Verdict.FLAG)).id == 8
    assert dict(server.requests[1].url.params) == {"cursor": "7", "verdict": "flag"}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda: problem(403, "forbidden"), "forbidden"),
        (lambda: stream("event: result\ndata: {}\n\n"), "not an answer of this API"),
        (lambda: stream("event: result\nid: 1\n\n"), "not an answer of this API"),
        (lambda: httpx2.ConnectError("refused"), "does not answer: refused"),
    ],
)
def test_a_stream_that_cannot_go_on(answer: Callable[[], Answer], words: str) -> None:
    with pytest.raises(ApiError, match=words):
        next(Scripted(answer()).client(give_up_s=0).follow(cursor=0))


def test_decisions_about_models(api: Api, client: TamperwatchClient) -> None:
    api.versions("one", "two")
    client.promote("one", "first")
    client.promote("two", "better", from_version="one")
    assert client.rollback("worse", from_version="two").version == "one"
    assert client.reject("two", "worse").stage == "retired"
    assert {each.version for each in client.models()} == {"one", "two"}
    with pytest.raises(ApiError, match="conflict") as raised:
        client.promote("two", "mine", from_version="two")
    assert raised.value.status == 409


def test_what_is_refused_is_told_at_once(client: TamperwatchClient, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"no picture")
    with pytest.raises(ApiError, match="unsupported_format") as raised:
        client.submit_files([tmp_path / "x.jpg"])
    assert raised.value.problem is not None and raised.value.problem.code == "unsupported_format"
    with pytest.raises(ApiError, match="not_found"):
        client.download(99, "mask.png", tmp_path / "mask.png")
    assert not (tmp_path / "mask.png").exists()


@pytest.mark.parametrize(
    ("first", "waits_s"),
    [
        (lambda: problem(429, "rate_limited", **{"Retry-After": "7"}), 7.0),
        (lambda: problem(503, "store_unavailable", **{"Retry-After": "5"}), 5.0),
        (lambda: problem(409, "conflict", **{"Retry-After": "1"}), 1.0),
        (lambda: httpx2.Response(502, text="<html>"), 0.5),
        (lambda: httpx2.ConnectError("refused"), 0.5),
        (lambda: httpx2.ReadTimeout("slow"), 0.5),
    ],
)
def test_what_may_pass_is_tried_again_when_the_server_says(first: Callable[[], Answer], waits_s: float) -> None:
    server = Scripted(first(), models())
    assert server.client().models() == []
    assert server.slept_s == [waits_s]


def test_a_repeated_upload_is_the_same_request_with_the_whole_file(picture: Path) -> None:
    audit = {"id": "0" * 32, "created_at": "2026-01-01T00:00:00Z", "by": "x", "ended": False, "counts": {}, "pictures": []}
    server = Scripted(httpx2.ReadError("cut"), httpx2.Response(202, json=audit))
    assert server.client().submit_files([picture]).id == "0" * 32
    first, second = server.requests
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert all(picture.read_bytes() in each.content for each in (first, second))
    assert uuid.UUID(first.headers["idempotency-key"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500])
def test_what_stays_wrong_is_not_tried_again(status: int) -> None:
    server = Scripted(problem(status, "x"))
    with pytest.raises(ApiError, match="x: why"):
        server.client().models()
    assert server.slept_s == []


def test_giving_up() -> None:
    server = Scripted(httpx2.ConnectError("refused"))
    with pytest.raises(ApiError, match="does not answer: refused") as raised:
        server.client(give_up_s=0.1).models()
    assert raised.value.status == 0


def test_waiting_ends(client: TamperwatchClient, picture: Path) -> None:
    audit = client.submit_files([picture])
    with pytest.raises(TimeoutError, match="has not ended after 0 s"):
        client.wait(audit.id, timeout_s=0)


@pytest.mark.parametrize("body", ["<html>", json.dumps({"id": 1})])
def test_somebody_elses_answer(body: str) -> None:
    with pytest.raises(ApiError, match="not an answer of this API"):
        Scripted(httpx2.Response(200, text=body)).client().audit("0" * 32)
