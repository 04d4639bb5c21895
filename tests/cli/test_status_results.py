"""`tamperwatch status` and `results` over a store with a few ended jobs, with Redis there and away."""

import json
import uuid

import numpy as np
import pytest
from sqlalchemy import text

from model import render
from schemas.messages import AuditMessage
from schemas.records import ErrorRecord
from schemas.settings import Settings
from schemas.states import AuditQueue, Verdict
from schemas.tables import AuditResult
from storage import jobs
from storage.database import Database
from storage.jobs import NewJob
from tests.cli.conftest import Tamperwatch
from workers.app import make_app, send_audits

AWAY = "redis://127.0.0.1:1/0"
HOSTILE = "[red]x[/] \x1b[31m.jpg"


def new(source: str, number: int, error: ErrorRecord | None = None) -> NewJob:
    return NewJob(
        source=source, sha256=None if error else f"{number:064x}", bytes=9, client_ref=source, submission="one", error=error
    )


@pytest.fixture
def store(sqlite: Database) -> str:
    """Two done, one failed, one still waiting; the database's URL."""
    broken = new(HOSTILE, 0, ErrorRecord(code="unreadable", message="cannot read [/] \x1b]0;x\x07"))
    with sqlite.write() as session:
        waiting = jobs.add_jobs(session, [broken, new("a.jpg", 1), new("b.jpg", 2), new("c.jpg", 3)])
    mask_png = render.mask_png(np.zeros((4, 4), np.uint8))
    with sqlite.write() as session:
        for job, verdict in zip(waiting[:2], (Verdict.FLAG, Verdict.PASS), strict=True):
            result = AuditResult(
                job_id=job.id,
                model_version="student-9",
                score=0.75,
                verdict=verdict,
                area=0.5,
                mask_png=mask_png,
                width_px=6,
                height_px=4,
                latency_ms=1.0,
            )
            jobs.finish_job(session, job.id, [result])
    return sqlite.url


def test_status_in_words(tamperwatch: Tamperwatch, store: str, broker_url: str) -> None:
    ran = tamperwatch("status", DATABASE_URL=store, BROKER_URL=broker_url)

    facts = {line[:14].strip(): line[16:].strip() for line in ran.out.splitlines()}
    assert ran.code == 0
    assert facts["jobs"] == "1 queued  0 running  2 done  1 failed"
    assert facts["verdicts"] == "1 pass  0 review  1 flag"
    assert facts["failures"] == "1 unreadable"
    assert facts["oldest waiting"].startswith("0:00:")
    assert facts["live model"].startswith("none yet")
    assert facts["queues"] == "0 in high  0 in default  0 in bulk"
    assert facts["in default"].startswith("0 in hand, 1 waiting, the oldest for 0:00:")
    assert "in high" not in facts and "in bulk" not in facts


@pytest.mark.slow
def test_status_without_redis(tamperwatch: Tamperwatch, store: str) -> None:
    """The store is read all the same. The Redis client tries for some seconds."""
    facts = json.loads(tamperwatch("status", "--json", DATABASE_URL=store, BROKER_URL=AWAY).out)
    ran = tamperwatch("status", DATABASE_URL=store, BROKER_URL=AWAY)

    assert ran.code == 0
    assert facts["queues"] is None and "does not answer" in facts["broker_error"]
    assert facts["jobs"]["done"] == 2
    assert "127.0.0.1:1/0 does not answer" in " ".join(ran.out.split())


def test_status_as_json(tamperwatch: Tamperwatch, store: str, broker_url: str) -> None:
    message = AuditMessage(job_id=uuid.uuid4(), sha256="0" * 64, source="x", queue=AuditQueue.BULK)
    send_audits(make_app(Settings(broker_url=broker_url)), [message, message])

    ran = tamperwatch("status", "--json", DATABASE_URL=store, BROKER_URL=broker_url)

    facts = json.loads(ran.out)
    assert ran.code == 0
    assert facts["jobs"] == {"queued": 1, "running": 0, "done": 2, "failed": 1}
    assert facts["queues"] == {"high": 0, "default": 0, "bulk": 2}
    assert facts["verdicts"] == {"pass": 1, "review": 0, "flag": 1}
    assert 0 <= facts["waiting"]["default"].pop("oldest_s") < 300
    assert facts["waiting"]["default"] == {"queued": 1, "running": 0}
    assert facts["waiting"]["bulk"] == {"queued": 0, "running": 0, "oldest_s": None}
    assert facts["failures"] == {"unreadable": 1}
    assert 0 <= facts["oldest_waiting_s"] < 300
    assert "broker_error" not in facts


def test_status_of_one_submission(tamperwatch: Tamperwatch, store: str, broker_url: str) -> None:
    mine = json.loads(tamperwatch("status", "--json", "--submission", "one", DATABASE_URL=store, BROKER_URL=broker_url).out)
    other = json.loads(tamperwatch("status", "--json", "--submission", "two", DATABASE_URL=store, BROKER_URL=broker_url).out)

    assert sum(mine["jobs"].values()) == 4
    assert sum(other["jobs"].values()) == 0


def test_results_from_a_cursor_on(tamperwatch: Tamperwatch, store: str) -> None:
    first = tamperwatch("results", "--json", "--limit", "1", DATABASE_URL=store)
    cursor = first.err.split()[-1]
    second = tamperwatch("results", "--json", "--since", cursor, DATABASE_URL=store)
    last = second.err.split()[-1]
    third = tamperwatch("results", "--json", "--since", last, DATABASE_URL=store)

    assert [json.loads(line)["image"] for line in first.out.splitlines()] == ["a.jpg"]
    assert [json.loads(line)["image"] for line in second.out.splitlines()] == ["b.jpg"]
    assert (third.out, third.err.split()[-1]) == ("", last)
    assert json.loads(first.out)["verdict"] == "flag"


def test_results_of_one_verdict(tamperwatch: Tamperwatch, store: str) -> None:
    ran = tamperwatch("results", "--verdict", "pass", DATABASE_URL=store)

    assert ran.code == 0
    assert "b.jpg" in ran.out and "a.jpg" not in ran.out


def test_results_of_one_source(tamperwatch: Tamperwatch, store: str, sqlite: Database) -> None:
    with sqlite.write() as session:
        session.execute(text("UPDATE audit_job SET source_profile = 'wechat' WHERE source = 'b.jpg'"))
    ran = tamperwatch("results", "--source-profile", "wechat", DATABASE_URL=store)
    lines = tamperwatch("results", "--source-profile", "wechat", "--json", DATABASE_URL=store).out.splitlines()
    failures = tamperwatch("results", "--source-profile", "wechat", "--failed", "--json", DATABASE_URL=store)

    assert ran.code == 0
    assert "b.jpg" in ran.out and "a.jpg" not in ran.out and "taken from" in ran.out
    assert [(json.loads(line)["image"], json.loads(line)["source_profile"]) for line in lines] == [("b.jpg", "wechat")]
    assert failures.out == ""


def test_failures_with_their_reason_and_without_their_escapes(tamperwatch: Tamperwatch, store: str) -> None:
    ran = tamperwatch("results", "--failed", DATABASE_URL=store)
    lines = tamperwatch("results", "--failed", "--json", DATABASE_URL=store).out.splitlines()

    assert ran.code == 0
    assert "[red]x[/]" in ran.out and "unreadable: cannot read [/]" in " ".join(ran.out.split())
    assert "\x1b" not in ran.out and "\x07" not in ran.out
    assert [json.loads(line)["image"] for line in lines] == [HOSTILE]
    assert "cursor" not in ran.err


@pytest.mark.parametrize("argv", [("results", "--verdict", "maybe"), ("results", "--since", "-1"), ("results", "--limit", "0")])
def test_wrong_arguments(tamperwatch: Tamperwatch, store: str, argv: tuple[str, ...]) -> None:
    ran = tamperwatch(*argv, DATABASE_URL=store)

    assert ran.code == 2
    assert "Traceback" not in ran.err
