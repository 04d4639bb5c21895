"""`tamperwatch export` over SQLite and PostgreSQL: every format, filters, files that are whole or not there, memory."""

import csv
import dataclasses
import io
import json
import os
import signal
import tracemalloc
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyarrow import parquet
from sqlalchemy import insert

from cli import export as verb
from model import render
from schemas.errors import StoreUnavailable
from schemas.states import JobState, Verdict
from schemas.tables import AuditJob, AuditResult
from storage import export_rows
from storage.database import Database
from tests.cli.conftest import Ran, Tamperwatch

AT = datetime(2026, 11, 1, tzinfo=UTC)
MASK = np.zeros((8, 8), np.uint8)
MASK[:4] = 255


def fill(database: Database, count: int, mask_png: bytes = b"", profiles: tuple[str, ...] = ("none",)) -> None:
    """Pictures 0.jpg, 1.jpg and so on, stored a minute apart, every third flagged."""
    rows = [_rows(number, mask_png, profiles) for number in range(count)]
    with database.write() as session:
        for start in range(0, count, 1000):
            part = rows[start : start + 1000]
            session.connection().execute(insert(AuditJob), [job for job, _ in part])
            session.connection().execute(insert(AuditResult), [result for _, results in part for result in results])


def _rows(number: int, mask_png: bytes, profiles: tuple[str, ...]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    job = AuditJob(source=f"{number}.jpg", state=JobState.DONE, client_ref=f"={number}")
    job.source_profile = "weibo" if number == 5 else None
    results = [
        AuditResult(
            job_id=job.id, model_version="m1", profile=profile, score=0.5, verdict=Verdict.PASS if number % 3 else Verdict.FLAG,
            area=0.5, mask_png=mask_png, width_px=80, height_px=40, latency_ms=1.5, created_at=AT + timedelta(minutes=number),
        ).model_dump(exclude={"id"})
        for profile in profiles
    ]  # fmt: skip
    return job.model_dump(), results


def set_pages(monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    for name, form in verb._FORMATS.items():
        monkeypatch.setitem(verb._FORMATS, name, dataclasses.replace(form, page=page))


@pytest.fixture(autouse=True)
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows a page, so that a handful makes several."""
    set_pages(monkeypatch, 3)


def run(tamperwatch: Tamperwatch, database: Database, form: str, *argv: str, out: str = "-") -> Ran:
    return tamperwatch("export", "--format", form, "--out", out, *argv, DATABASE_URL=database.url)


def images(ran: Ran) -> list[str]:
    assert ran.code == 0, ran.err
    return [json.loads(line)["image"] for line in ran.out.splitlines()]


def test_csv_to_a_file(tamperwatch: Tamperwatch, database: Database, tmp_path: Path) -> None:
    fill(database, 7)
    ran = run(tamperwatch, database, "csv", out="new/results.csv")

    assert (ran.code, ran.out) == (0, "")
    assert "7 results to new/results.csv; next cursor: 7" in ran.err
    with (tmp_path / "new/results.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert [line["image"] for line in lines] == [f"{number}.jpg" for number in range(7)]
    assert lines[0]["client_ref"] == "'=0"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["results.csv"]


def test_jsonl_to_standard_output_and_on_from_the_cursor(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    fill(sqlite, 7)
    assert images(run(tamperwatch, sqlite, "jsonl")) == [f"{number}.jpg" for number in range(7)]
    nothing = run(tamperwatch, sqlite, "jsonl", "--after", "7")
    assert (images(nothing), "next cursor: 7" in nothing.err) == ([], True)
    assert images(run(tamperwatch, sqlite, "jsonl", "--after", "5")) == ["5.jpg", "6.jpg"]


def test_parquet(tamperwatch: Tamperwatch, database: Database, tmp_path: Path) -> None:
    fill(database, 7)
    ran = run(tamperwatch, database, "parquet", out="results.parquet")

    assert ran.code == 0
    table = parquet.read_table(tmp_path / "results.parquet")
    assert table.column("image").to_pylist() == [f"{number}.jpg" for number in range(7)]
    assert table.column("created_at").to_pylist()[1] == AT + timedelta(minutes=1)


def test_coco(tamperwatch: Tamperwatch, database: Database, tmp_path: Path) -> None:
    fill(database, 5, render.mask_png(MASK))
    ran = run(tamperwatch, database, "coco", out="masks.json")

    assert ran.code == 0
    coco = json.loads((tmp_path / "masks.json").read_text(encoding="utf-8"))
    assert [image["file_name"] for image in coco["images"]] == [f"{number}.jpg" for number in range(5)]
    assert {tuple(each["segmentation"]["size"]) for each in coco["annotations"]} == {(40, 80)}
    assert len(coco["annotations"]) == 5


def test_coco_names_pictures_without_a_mask(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    fill(sqlite, 5)
    ran = run(tamperwatch, sqlite, "coco")

    assert (ran.code, json.loads(ran.out)["images"]) == (1, [])
    assert "4.jpg (cursor 5): its mask is not kept any more" in ran.err
    assert "5 pictures without a usable mask" in ran.err


def test_filters(tamperwatch: Tamperwatch, sqlite: Database) -> None:
    fill(sqlite, 7, profiles=("none", "wechat"))

    def found(*argv: str) -> list[str]:
        return images(run(tamperwatch, sqlite, "jsonl", *argv))

    assert found("--verdict", "flag") == ["0.jpg", "3.jpg", "6.jpg"]
    assert found("--since", "2026-11-01T00:02", "--until", "2026-11-01T01:04+01:00") == ["2.jpg", "3.jpg"]
    assert found("--model-version", "m2") == []
    assert found("--source-profile", "weibo") == ["5.jpg"]
    assert len(found("--profile", "all")) == 14
    assert len(found("--profile", "none,wechat")) == 14
    assert len(found("--profile", "wechat")) == 7


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--since", "yesterday"), "--since 'yesterday' is not a time"),
        (("--until", "0001-01-01T00:00+14:00"), "is not a time"),
        (("--since", "2026-11-02", "--until", "2026-11-01"), "--since is not before --until"),
        (("--profile", "myspace"), "unknown profile myspace"),
        (("--out", "."), ". is a folder"),
        (("--format", "xls"), "'xls' is not one of"),
    ],
)
def test_wrong_arguments(tamperwatch: Tamperwatch, sqlite: Database, argv: tuple[str, ...], says: str) -> None:
    ran = run(tamperwatch, sqlite, "csv", *argv)
    assert ran.code == 2
    assert says in " ".join(ran.err.replace("│", " ").split())


def test_a_file_that_cannot_be_written(tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path) -> None:
    (tmp_path / "in-the-way").write_text("x")
    ran = run(tamperwatch, sqlite, "csv", out="in-the-way/results.csv")
    assert (ran.code, "cannot write in-the-way/results.csv" in " ".join(ran.err.split())) == (3, True)


def test_a_failed_export_leaves_the_older_file_and_says_how_far_it_came(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite, 7)
    (tmp_path / "results.csv").write_text("older")
    monkeypatch.setattr(verb, "_GIVE_UP_S", 0.0)

    def breaking(session: Any, wanted: Any, after: int, *rest: Any) -> list[Any]:
        if after >= 3:
            raise StoreUnavailable("the power is out")
        return export_rows.export_page(session, wanted, after, *rest)

    monkeypatch.setattr(verb, "export_page", breaking)
    ran = run(tamperwatch, sqlite, "csv", out="results.csv")
    assert (ran.code, "the power is out" in ran.err) == (3, True)
    assert (tmp_path / "results.csv").read_text() == "older"
    assert not list(tmp_path.glob(".*.part"))
    piped = run(tamperwatch, sqlite, "csv")
    assert "stopped after 3 results; go on with --after 3" in piped.err
    assert len(list(csv.DictReader(io.StringIO(piped.out)))) == 3


@pytest.mark.usefixtures("as_in_a_terminal")
def test_ctrl_c_stops_it_between_two_pages(
    tamperwatch: Tamperwatch, sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite, 7)

    def interrupted(*arguments: Any) -> list[Any]:
        os.kill(os.getpid(), signal.SIGINT)
        return export_rows.export_page(*arguments)

    monkeypatch.setattr(verb, "export_page", interrupted)
    ran = run(tamperwatch, sqlite, "parquet", out="results.parquet")
    assert ran.code == 130
    assert "results.parquet was not touched" in ran.err
    assert not [path.name for path in tmp_path.iterdir() if "parquet" in path.name]


def test_what_is_stored_meanwhile_is_left_to_the_next_export(
    tamperwatch: Tamperwatch, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(sqlite, 4)
    late = uuid.uuid4()

    def meanwhile(session: Any, wanted: Any, after: int, *rest: Any) -> list[Any]:
        if after == 0:
            with sqlite.write() as other:
                other.add(AuditJob(id=late, source="late.jpg"))
                other.flush()
                job, (result,) = _rows(9, b"", ("none",))
                other.connection().execute(insert(AuditResult), [result | {"job_id": late}])
                assert job["source"] == "9.jpg"
        return export_rows.export_page(session, wanted, after, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(verb, "export_page", meanwhile)
        first = run(tamperwatch, sqlite, "jsonl")
    assert images(first) == ["0.jpg", "1.jpg", "2.jpg", "3.jpg"]
    cursor = first.err.split()[-1]
    assert images(run(tamperwatch, sqlite, "jsonl", "--after", cursor)) == ["late.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet", "coco"])
def test_memory_does_not_grow_with_the_number_of_rows(
    tamperwatch: Tamperwatch, sqlite: Database, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    page = 100
    set_pages(monkeypatch, page)

    def peak_bytes(last: int) -> int:
        tracemalloc.start()
        try:
            assert run(tamperwatch, sqlite, form, "--until", _minute(last), out="out").code == 0
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    fill(sqlite, 8 * page, render.mask_png(MASK))
    peak_bytes(page)  # what is loaded once
    assert peak_bytes(8 * page) < 1.5 * peak_bytes(2 * page)


def _minute(number: int) -> str:
    return (AT + timedelta(minutes=number)).isoformat()
