import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from schemas.states import Verdict
from schemas.tables import AuditResult
from storage import jobs
from storage.database import Database
from storage.export_rows import ExportFilter, ExportRow, export_page
from storage.jobs import NewJob

AT = datetime(2026, 11, 1, tzinfo=UTC)
ALL = 1_000_000


@pytest.fixture
def filled(database: Database, new_job: Callable[..., NewJob], new_result: Callable[..., AuditResult]) -> Database:
    """Five pictures stored an hour apart, the odd ones flagged by another model, the last from wechat; all delivered too."""
    with database.write() as session:
        for number in range(5):
            (job,) = jobs.add_jobs(session, [new_job(f"{number}", source_profile="wechat" if number == 4 else None)])
            odd = {"verdict": Verdict.FLAG, "model_version": "m2", "reused_from": 1} if number % 2 else {}
            at = {"created_at": AT + timedelta(hours=number)}
            session.add_all([new_result(job.id, **odd, **at), new_result(job.id, "wechat", **odd, **at)])
            session.flush()
    return database


def page(database: Database, after: int = 0, last: int = ALL, limit: int = 100, **wanted: object) -> list[ExportRow]:
    with database.read() as session:
        return export_page(session, ExportFilter(**wanted), after, last, limit)  # type: ignore[arg-type]


def test_pages_meet_every_row_once_in_order(filled: Database) -> None:
    rows, after = [], 0
    while found := page(filled, after, limit=3):
        rows += found
        after = found[-1].cursor
    assert [row.cursor for row in rows] == sorted({row.cursor for row in rows})
    assert sorted((row.image, row.profile) for row in rows) == [(f"{n}.jpg", p) for n in range(5) for p in ("none", "wechat")]
    assert page(filled, last=rows[3].cursor) == rows[:4]


def test_a_row_says_what_is_stored(filled: Database) -> None:
    row = page(filled, profiles=("none",))[1]
    assert (row.image, row.client_ref, row.submission, row.sha256) == ("1.jpg", "1", "s", "ab" * 32)
    assert (row.verdict, row.model_version, row.score, row.width, row.height) == (Verdict.FLAG, "m2", 0.25, 4, 3)
    assert (row.created_at, row.stable, row.mask_png) == (AT + timedelta(hours=1), None, b"")
    assert isinstance(row.job_id, uuid.UUID)
    last = page(filled, profiles=("none",))[4]
    assert [(each.source_profile, each.reused_from) for each in (row, last)] == [(None, 1), ("wechat", None)]


def test_filters(filled: Database) -> None:
    def images(**wanted: object) -> list[str]:
        return [row.image for row in page(filled, profiles=("none",), **wanted)]

    assert images(verdict=Verdict.FLAG) == ["1.jpg", "3.jpg"]
    assert images(model_version="m1") == ["0.jpg", "2.jpg", "4.jpg"]
    assert images(since=AT + timedelta(hours=1), until=AT + timedelta(hours=3)) == ["1.jpg", "2.jpg"]
    assert {row.profile for row in page(filled, profiles=("wechat",))} == {"wechat"}
    assert images(verdict=Verdict.REVIEW) == images(source_profile="wei") == []
    assert images(source_profile="wechat") == ["4.jpg"]


def test_masks_only_where_they_are_wanted(filled: Database) -> None:
    with filled.read() as session:
        (row,) = export_page(session, ExportFilter(), 0, ALL, 1, masks=True)
    assert row.mask_png == b"\x89PNG\x00"
