"""What the dashboard asks of SQL, on both databases: counts that are right, and that stop at their bounds."""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
import pytest
from sqlalchemy import event
from sqlmodel import Session

from schemas.api_tables import Webhook, WebhookDelivery
from schemas.states import DeliveryState, JobState, Verdict
from schemas.tables import AuditJob, AuditResult, now
from storage import registry, stream_figures
from storage.database import Database
from storage.telemetry_drift import CARD_FIELD


def ended(session: Session, at: datetime, state: JobState = JobState.DONE, code: str | None = None) -> AuditJob:
    job = AuditJob(source="a.jpg", sha256="0" * 64, state=state, finished_at=at, updated_at=at, error_code=code)
    session.add(job)
    return job


def scored(session: Session, scores: Sequence[float], version: str = "v1", profile: str = "none") -> None:
    """Results in the order of their numbers."""
    for score in scores:
        job = ended(session, now())
        session.flush()
        session.add(
            AuditResult(
                job_id=job.id,
                model_version=version,
                profile=profile,
                score=score,
                area=0,
                mask_png=b"",
                width_px=1,
                height_px=1,
                latency_ms=1,
                verdict=Verdict.FLAG if score > 0.9 else Verdict.PASS,
            )
        )
        session.flush()


def live(session: Session, histogram: list[int] | None = None) -> None:
    registry.ensure_live(session, "v1", {"metrics": {CARD_FIELD: histogram} if histogram else {}}, "package")


def test_endings_by_five_minutes(database: Database) -> None:
    at = now()
    with database.write() as session:
        for minutes in (0.1, 4.9, 5.1, 59.9, 60.1):
            ended(session, at - timedelta(minutes=minutes), JobState.FAILED if minutes == 4.9 else JobState.DONE)
        session.add(AuditJob(source="waits", sha256="0" * 64))

    with database.read() as session:
        found = stream_figures.endings(session, at)

    assert [each.count for each in found] == [1, *[0] * 9, 1, 2]
    assert found[-1].begins == at - timedelta(minutes=5)


def test_counting_stops(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_figures, "MOST_ENDED", 2)
    monkeypatch.setattr(stream_figures, "NEWEST_FAILURES", 3)
    with database.write() as session:
        for number in range(5):
            ended(session, now() - timedelta(seconds=number), JobState.FAILED, "empty" if number < 2 else "model_timeout")

    with database.read() as session:
        assert stream_figures.endings(session)[-1].count == 2
        assert {each.code: each.count for each in stream_figures.failures(session)} == {"empty": 2, "model_timeout": 1}
        assert len(stream_figures.failed_jobs(session, "model_timeout", 10)) == 1


def test_failures_by_code(database: Database) -> None:
    at = now()
    with database.write() as session:
        ended(session, at - timedelta(hours=2), JobState.FAILED, "decode_failed")
        ended(session, at - timedelta(hours=1), JobState.FAILED, "blob_store_unavailable")
        newest = ended(session, at, JobState.FAILED, "blob_store_unavailable")
        session.flush()
        newest_id = newest.id
        ended(session, at)

    with database.read() as session:
        found = stream_figures.failures(session)
        listed = stream_figures.failed_jobs(session, "blob_store_unavailable", 1)

    assert [(each.code, each.count, each.mendable) for each in found] == [
        ("blob_store_unavailable", 2, True),
        ("decode_failed", 1, False),
    ]
    assert found[0].newest == at
    assert [job.id for job in listed] == [newest_id]


def test_an_empty_store(database: Database) -> None:
    with database.read() as session:
        assert {each.count for each in stream_figures.endings(session)} == {0}
        assert stream_figures.failures(session) == []
        assert stream_figures.failing_webhooks(session) == []
        newest = stream_figures.newest_results(session)
    assert (sum(newest.verdicts.values()), newest.since, newest.drift) == (0, None, None)


def test_verdicts_of_the_newest(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_figures, "NEWEST_RESULTS", 3)
    with database.write() as session:
        scored(session, [0.95] * 4)
        scored(session, [0.1, 0.1])
        scored(session, [0.99], profile="wechat")

    with database.read() as session:
        newest = stream_figures.newest_results(session)

    assert newest.verdicts == {Verdict.PASS: 2, Verdict.REVIEW: 0, Verdict.FLAG: 1}


def test_drift_against_the_card(sqlite: Database) -> None:
    rng = np.random.default_rng(1)
    with sqlite.write() as session:
        live(session, [100] * 10)
        scored(session, [0.5] * 250, version="another")
        scored(session, rng.uniform(0, 1, 150).tolist())
    with sqlite.read() as session:
        few = stream_figures.newest_results(session).drift
    with sqlite.write() as session:
        scored(session, rng.uniform(0, 1, 250).tolist())
    with sqlite.read() as session:
        level = stream_figures.newest_results(session).drift
    with sqlite.write() as session:
        scored(session, [0.97] * 400)
    with sqlite.read() as session:
        moved = stream_figures.newest_results(session).drift

    assert few is not None and (few.psi, few.scores) == (None, 150)
    assert level is not None and level.psi is not None and (level.against, level.psi < 0.1) == ("card", True)
    assert moved is not None and moved.psi is not None and moved.psi > 0.25


def test_drift_without_a_histogram_goes_by_earlier_scores(sqlite: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_figures, "RECENT_SCORES", 200)
    with sqlite.write() as session:
        live(session)
        scored(session, np.random.default_rng(2).uniform(0, 0.5, 300).tolist())
        scored(session, [0.9] * 200)

    with sqlite.read() as session:
        drift = stream_figures.newest_results(session).drift

    assert drift is not None and drift.psi is not None
    assert (drift.against, drift.scores, drift.psi > 1) == ("earlier", 200, True)


def test_webhooks_that_want_looking_after(database: Database) -> None:
    with database.write() as session:
        for name, stopped in (("well", ""), ("ill", ""), ("gone", "410")):
            at = now() if stopped else None
            session.add(
                Webhook(id=name, url=f"https://{name}", secret="s", cursor=0, who="k", stopped_at=at, stopped_why=stopped)
            )
        session.flush()
        states = [("ill", DeliveryState.FAILED, 10), ("ill", DeliveryState.WAITING, 2), ("ill", DeliveryState.WAITING, 0)]
        states += [("well", DeliveryState.DELIVERED, 1), ("well", DeliveryState.WAITING, 0)]
        for number, (name, state, attempts) in enumerate(states):
            session.add(WebhookDelivery(webhook_id=name, result_id=number, state=state, attempts=attempts))

    with database.read() as session:
        found = stream_figures.failing_webhooks(session)

    assert [(each.id, each.failed, each.tried_again) for each in found] == [("gone", 0, 0), ("ill", 1, 1)]


def test_every_answer_is_read_from_an_index(sqlite: Database) -> None:
    """What reads a whole table, or sorts it, would take minutes where there are millions of rows."""
    asked: list[tuple[str, object]] = []

    def note(_connection: object, _cursor: object, statement: str, parameters: object, *_: object) -> None:
        asked.append((statement, parameters))

    event.listen(sqlite.engine, "before_cursor_execute", note)
    with sqlite.read() as session:
        for ask in (stream_figures.endings, stream_figures.failures, stream_figures.newest_results):
            ask(session)
        stream_figures.failed_jobs(session, "empty", 10)
    event.remove(sqlite.engine, "before_cursor_execute", note)

    with sqlite.engine.connect() as connection:
        for statement, parameters in asked:
            if not statement.startswith("SELECT"):
                continue
            steps = [row[3] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)]
            scans = [step for step in steps if step.startswith("SCAN audit_job") and "USING" not in step]
            assert scans == [], (statement, steps)
            # The newest results are met in the order of their numbers, which is the table's own.
            assert not any("SCAN audit_result" in step for step in steps) or not any("ORDER BY" in step for step in steps), steps
