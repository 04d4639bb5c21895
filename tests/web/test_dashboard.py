"""The dashboard: what it counts, what it says when a store is away, and failed jobs sent round again."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from redis import Redis

from schemas.api_tables import Webhook
from schemas.settings import BlobSettings, Settings
from schemas.states import AuditQueue, JobState, Role, Verdict
from schemas.tables import AuditJob, now
from storage import audit_log
from storage.database import Database
from tests.web.learned import HOSTILE, make_live
from tests.web.made import Api, context_for, running
from tests.web.test_model_pages import visitor
from tests.web.visitors import new_browser
from web.pages import dashboard


def failed(database: Database, code: str, count: int = 1, sha256: str | None = "0" * 64, message: str = "away") -> None:
    with database.write() as session:
        for number in range(count):
            session.add(
                AuditJob(
                    source=f"{code}-{number}.jpg",
                    sha256=sha256,
                    state=JobState.FAILED,
                    error_code=code,
                    error_message=message,
                    finished_at=now(),
                    attempts=5,
                )
            )


def states(database: Database) -> dict[JobState, int]:
    from storage import queries

    with database.read() as session:
        return queries.job_counts(session)


@pytest.fixture
def streaming(sqlite: Database, sqlite_url: str, tmp_path: Path, broker_url: str) -> Iterator[Api]:
    """With a Redis that answers."""
    settings = Settings(database_url=sqlite_url, broker_url=broker_url, blobs=BlobSettings(directory=tmp_path / "blobs"))
    with running(sqlite, context_for(settings, sqlite)) as made:
        yield made


@pytest.mark.slow
def test_an_idle_installation(streaming: Api) -> None:
    page = visitor(streaming, Role.VIEWER).get("/dashboard").text
    for words in (
        "No job has failed.",
        "Nothing ended in the last hour.",
        "No result yet.",
        "No version is live yet.",
        "No worker answers",
    ):
        assert words in page, words
    assert 'hx-get="/dashboard/figures" hx-trigger="every 5s"' in page


@pytest.mark.slow
def test_what_is_going_on(streaming: Api, broker_url: str) -> None:
    make_live(streaming.database)
    streaming.audited(1, Verdict.FLAG)
    streaming.audited(2, Verdict.PASS)
    failed(streaming.database, "blob_store_unavailable", 3)
    failed(streaming.database, "decode_failed")
    with Redis.from_url(broker_url) as redis:
        redis.lpush("audit.high", *["m"] * 1_234)
    with streaming.database.write() as session:
        session.add(AuditJob(source="a", sha256="0" * 64, queue=AuditQueue.BULK, created_at=now() - timedelta(minutes=7)))
        session.add(
            Webhook(id="w1", url=f"https://h/{HOSTILE}", secret="s", cursor=0, who="k", stopped_at=now(), stopped_why="410")
        )

    page = visitor(streaming, Role.VIEWER).get("/dashboard/figures").text

    assert "1\N{NARROW NO-BREAK SPACE}234" in page and "7 min" in page and page.count("50.0 %") == 2
    assert "3 of them another try may mend" in page and 'href="/dashboard/failures/decode_failed"' in page
    assert page.count("<rect") == 12 and ": 6 ended</title>" in page
    assert "Webhooks in trouble" in page and "<script>alert" not in page and "<html" not in page


def test_a_redis_that_is_away_costs_its_own_part(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    api.context.app.conf.broker_url = "redis://127.0.0.1:1/0"
    monkeypatch.setattr(api.context, "board", type(api.context.board)(api.database, api.context.app))
    failed(api.database, "decode_failed")
    page = visitor(api, Role.VIEWER).get("/dashboard").text
    assert "Redis" in page and ('class="notice error"' in page or "Still being asked" in page)
    assert "decode_failed" in page and "127.0.0.1:1" not in page


def test_down_to_the_jobs(api: Api) -> None:
    failed(api.database, "decode_failed", 60, message=f"ends early {HOSTILE}")
    browser = visitor(api, Role.VIEWER)
    page = browser.get("/dashboard/failures/decode_failed").text
    assert page.count("decode_failed-") == 50 and "The newest 50." in page
    assert "ends early" in page and "<script>alert" not in page and "\u202e" not in page
    assert "Fetch the picture again" in page and "open-retry" not in page
    assert "No job stands failed" in browser.get("/dashboard/failures/too_large").text
    assert browser.get("/dashboard/failures/%3Cscript%3E").status_code == 422


@pytest.mark.slow
def test_a_moderator_sends_them_round_again(streaming: Api, broker_url: str) -> None:
    failed(streaming.database, "blob_store_unavailable", 3)
    failed(streaming.database, "decode_failed", 2)
    failed(streaming.database, "blob_store_unavailable", 1, sha256=None)  # refused before it was stored: nothing to send
    browser = visitor(streaming, Role.MODERATOR)
    path = "/dashboard/failures/blob_store_unavailable"
    assert "open-retry" in browser.get(path).text
    answer = browser.post(f"{path}/retry", {"csrf_token": browser.form_token(path)})

    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}?sent=3&left=false")
    assert states(streaming.database)[JobState.QUEUED] == 3
    with Redis.from_url(broker_url) as redis:
        assert redis.llen("audit.default") == 3
    assert "3 jobs are on their way again." in browser.get(answer.headers["location"]).text
    assert "3 of them" not in browser.get("/dashboard").text
    with streaming.database.read() as session:
        logged = [(entry.who, entry.subject) for entry in audit_log.entries(session) if entry.action == "jobs.retry"]
    assert logged == [("the moderator", "error blob_store_unavailable")]


@pytest.mark.slow
def test_one_request_sends_no_million(streaming: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "SENT_AT_ONCE", 1)
    failed(streaming.database, "model_timeout", 3)
    browser = visitor(streaming, Role.MODERATOR)
    path = "/dashboard/failures/model_timeout"
    answer = browser.post(f"{path}/retry", {"csrf_token": browser.form_token(path)})
    assert answer.headers["location"].endswith("left=true")
    assert "More may be left" in browser.get(answer.headers["location"]).text


def test_a_viewer_sends_nothing(api: Api) -> None:
    failed(api.database, "model_timeout")
    browser = visitor(api, Role.VIEWER)
    path = "/dashboard/failures/model_timeout"
    assert browser.post(f"{path}/retry", {"csrf_token": browser.form_token(path)}).status_code == 403
    assert visitor_without_token(api) == 403
    assert states(api.database)[JobState.FAILED] == 1


def visitor_without_token(api: Api) -> int:
    return visitor(api, Role.MODERATOR).post("/dashboard/failures/model_timeout/retry", {}).status_code


@pytest.mark.parametrize("path", ["/dashboard", "/dashboard/figures", "/dashboard/failures/empty"])
def test_nobody_gets_in_without_logging_in(api: Api, path: str) -> None:
    assert new_browser(api).get(path).status_code == 303
