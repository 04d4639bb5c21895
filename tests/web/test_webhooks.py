"""Results pushed: signed, tried again, logged, and never to where they are not allowed."""

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlmodel import select, update

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.settings import Settings, WebhookSettings
from schemas.states import DeliveryState, Scope, Verdict
from schemas.tables import AuditResult, now
from storage import webhooks
from storage.database import Database
from tests.cli.conftest import tamperwatch as tamperwatch
from tests.waiting import wait_for
from tests.web.made import Api, context_for, running
from web.signatures import WebhookRefused, verify
from web.webhooks import Pusher

URL = "/v1/webhooks"


class Receiver:
    """Somebody's server: keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.got: list[tuple[dict[str, str], bytes]] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status, headers = receiver.answers.pop(0) if receiver.answers else (204, {})
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05})
        self.thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.server.server_port}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/hook?token=1"

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def allowed(settings: Settings, receiver: Receiver) -> Settings:
    hooks = WebhookSettings(
        allowed_hosts=f"{receiver.host},localhost", allowed_networks="127.0.0.1/32", plain_http=True, most_attempts=3, poll_s=0.05
    )
    return settings.model_copy(update={"webhooks": hooks})


@pytest.fixture
def hooked(allowed: Settings, sqlite: Database) -> Iterator[Api]:
    with running(sqlite, context_for(allowed, sqlite)) as api:
        yield api


def make(api: Api, url: str, **more: str) -> dict[str, Any]:
    answer = api.client.post(URL, json={"url": url, **more}, headers=api.headers(Scope.ADMIN))
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def log_of(api: Api, webhook: dict[str, Any], query: str = "") -> list[dict[str, Any]]:
    answer = api.client.get(f"{URL}/{webhook['id']}/deliveries{query}", headers=api.headers(Scope.ADMIN))
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()
    return found


def push(api: Api) -> int:
    """One round, with every waiting delivery due."""
    with api.database.write() as session:
        session.execute(update(WebhookDelivery).values(next_at=now() - timedelta(seconds=1)))
    return Pusher(api.context, "tests").round()


def test_a_result_is_pushed_once_and_signed(hooked: Api, receiver: Receiver) -> None:
    hooked.audited(1)
    webhook = make(hooked, receiver.url)
    result = hooked.audited(2)
    assert push(hooked) == 1
    assert push(hooked) == 0
    ((headers, body),) = receiver.got
    said = json.loads(body)
    assert (said["type"], said["data"]["id"], said["data"]["image"]) == ("result.created", result.id, "2.jpg")
    # As the specification tells receivers to check it.
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    key = base64.b64decode(webhook["secret"].removeprefix("whsec_"))
    assert len(key) == 32
    expected = base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    delivered = verify(webhook["secret"], headers, body)
    assert (delivered.id, delivered.body) == (headers["webhook-id"], body)
    with pytest.raises(WebhookRefused, match="may be a replay"):
        verify(webhook["secret"], headers, body, now_s=delivered.sent_at_s + 301)
    (entry,) = log_of(hooked, webhook)
    assert (entry["state"], entry["http_status"], entry["attempts"], entry["result_id"]) == ("delivered", 204, 1, result.id)


def test_only_the_verdict_that_is_wanted(hooked: Api, receiver: Receiver) -> None:
    make(hooked, receiver.url, verdict="flag")
    hooked.audited(1, Verdict.PASS)
    hooked.audited(2, Verdict.FLAG)
    push(hooked)
    assert [json.loads(body)["data"]["image"] for _, body in receiver.got] == ["2.jpg"]


def test_a_failure_is_tried_again_under_the_same_id_with_growing_pauses(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    receiver.answers = [(500, {}), (503, {})]
    pauses_s = []
    for _ in range(2):
        push(hooked)
        with hooked.database.read() as session:
            row = session.exec(select(WebhookDelivery)).one()
        pauses_s.append(round((row.next_at - now()).total_seconds(), -1))
    assert pauses_s == [0, 60]
    assert (row.state, row.words) == (DeliveryState.WAITING, "answered 503")
    push(hooked)
    assert [entry["state"] for entry in log_of(hooked, webhook)] == ["delivered"]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 1


def test_a_delivery_whose_tries_are_spent_has_failed_until_somebody_retries(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    receiver.answers = [(500, {})] * 3
    for _ in range(4):
        push(hooked)
    (entry,) = log_of(hooked, webhook, "?state=failed")
    assert (entry["attempts"], entry["http_status"], len(receiver.got)) == (3, 500, 3)
    path = f"{URL}/{webhook['id']}/deliveries/{entry['id']}/retry"
    assert hooked.client.post(path, headers=hooked.headers(Scope.ADMIN)).json()["state"] == "waiting"
    push(hooked)
    assert log_of(hooked, webhook)[0]["state"] == "delivered"


def test_gone_stops_a_webhook(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited(1)
    receiver.answers = [(410, {})]
    push(hooked)
    hooked.audited(2)
    assert push(hooked) == 0
    (shown,) = hooked.client.get(URL, headers=hooked.headers(Scope.ADMIN)).json()
    assert (shown["stopped_why"], "secret" in shown) == ("its address answered 410 Gone", False)
    assert log_of(hooked, webhook)[0]["state"] == "failed"


def test_a_redirect_is_not_followed(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    receiver.answers = [(307, {"Location": "http://169.254.169.254/latest/meta-data"})]
    push(hooked)
    assert log_of(hooked, webhook)[0]["words"] == "answered 307"
    assert len(receiver.got) == 1


@pytest.mark.parametrize(
    "url",
    [
        "https://elsewhere.example/",
        "http://127.0.0.1:1/",
        "http://169.254.169.254/",
        "ftp://localhost/",
        "http://a:b@localhost/",
        "x",
        "http://localhost\\@evil/",
    ],
)
def test_addresses_that_are_not_allowed_are_refused(hooked: Api, url: str) -> None:
    answer = hooked.client.post(URL, json={"url": url}, headers=hooked.headers(Scope.ADMIN))
    assert (answer.status_code, answer.json()["code"]) == (422, "url_refused")
    assert "TAMPERWATCH_FETCH" not in answer.text


def test_nothing_is_allowed_unless_the_settings_say_so(api: Api) -> None:
    answer = api.client.post(URL, json={"url": "https://example.org/"}, headers=api.headers(Scope.ADMIN))
    assert answer.status_code == 422
    assert "TAMPERWATCH_WEBHOOKS__ALLOWED_HOSTS" in answer.json()["detail"]


def test_a_host_that_moved_into_a_private_network_gets_nothing(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    narrower = hooked.context.settings.webhooks.model_copy(update={"allowed_networks": ""})
    hooked.context.settings = hooked.context.settings.model_copy(update={"webhooks": narrower})
    push(hooked)
    assert receiver.got == []
    assert "TAMPERWATCH_WEBHOOKS__ALLOWED_NETWORKS" in log_of(hooked, webhook)[0]["words"]


def test_nobody_there(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    receiver.close()
    push(hooked)
    (entry,) = log_of(hooked, webhook)
    assert (entry["state"], entry["http_status"]) == ("waiting", None)
    assert "refused" in entry["words"]


def test_a_result_that_was_purged_is_told_and_not_tried_again(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    result = hooked.audited()
    with hooked.database.write() as session:
        session.add(WebhookDelivery(webhook_id=webhook["id"], result_id=(result.id or 0) + 5))
    push(hooked)
    assert {entry["state"] for entry in log_of(hooked, webhook)} == {"delivered", "failed"}


def test_a_deleted_webhook_takes_its_log_with_it(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    push(hooked)
    path = f"{URL}/{webhook['id']}"
    assert hooked.client.delete(path, headers=hooked.headers(Scope.ADMIN)).status_code == 204
    assert hooked.client.delete(path, headers=hooked.headers(Scope.ADMIN)).status_code == 404
    with hooked.database.read() as session:
        assert session.exec(select(WebhookDelivery)).all() == []


def test_the_log_page_by_page(hooked: Api, receiver: Receiver) -> None:
    webhook = make(hooked, receiver.url)
    for seed in range(1, 4):
        hooked.audited(seed)
    push(hooked)
    first = log_of(hooked, webhook, "?limit=2")
    rest = log_of(hooked, webhook, f"?before={first[-1]['id']}")
    assert [entry["id"] for entry in first + rest] == [3, 2, 1]


def test_old_deliveries_are_forgotten_once_they_have_ended(hooked: Api, receiver: Receiver) -> None:
    make(hooked, receiver.url)
    hooked.audited(1)
    hooked.audited(2)
    receiver.answers = [(204, {}), (500, {})]
    push(hooked)
    with hooked.database.write() as session:
        assert webhooks.purge(session, timedelta(days=1)) == 0
        assert webhooks.purge(session, timedelta(seconds=-60)) == 1
        assert session.exec(select(WebhookDelivery.state)).all() == [DeliveryState.WAITING]


@pytest.mark.slow
def test_two_processes_push_each_result_once(database: Database, allowed: Settings, receiver: Receiver) -> None:
    with running(database, context_for(allowed, database)) as api:
        make(api, receiver.url)
        pushers = [Pusher(api.context, f"process {number}") for number in (1, 2)]
        for each in pushers:
            each.start()
        numbers = {api.audited(seed).id for seed in range(1, 11)}
        wait_for(lambda: len(receiver.got) >= len(numbers), "delivery of all", 60)
        api.context.closing.set()
        for each in pushers:
            each.join()
    assert sorted(json.loads(body)["data"]["id"] for _, body in receiver.got) == sorted(numbers)


def test_the_command_line_shows_the_log(hooked: Api, receiver: Receiver, tamperwatch: Any, sqlite_url: str) -> None:
    webhook = make(hooked, receiver.url)
    hooked.audited()
    receiver.answers = [(500, {})]
    push(hooked)
    listed = tamperwatch("webhooks", "list", DATABASE_URL=sqlite_url)
    assert webhook["id"] in listed.out and webhook["secret"] not in listed.out
    shown = tamperwatch("webhooks", "deliveries", webhook["id"], DATABASE_URL=sqlite_url)
    assert "answered 500" in " ".join(shown.out.split())
    none = tamperwatch("webhooks", "deliveries", "0" * 12, DATABASE_URL=sqlite_url)
    assert (none.code, "no webhook" in none.err) == (2, True)


def test_results_are_followed_from_now_on(hooked: Api, receiver: Receiver) -> None:
    old = hooked.audited()
    webhook = make(hooked, receiver.url)
    assert webhook["cursor"] == old.id
    with hooked.database.read() as session:
        assert session.exec(select(Webhook.cursor)).one() == old.id
        assert len(session.exec(select(AuditResult)).all()) == 1
