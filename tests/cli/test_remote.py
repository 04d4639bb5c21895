"""`submit` and `results` over HTTP, against a web process; and what they say where there is none."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlmodel import select

from schemas.tables import AuditJob
from tests.cli.conftest import Tamperwatch
from tests.pictures import picture_bytes
from tests.web.process import Web

ADDRESS = "http://127.0.0.1:1"


@pytest.fixture
def web(tmp_path: Path, sqlite_url: str) -> Iterator[Web]:
    made = Web(tmp_path, sqlite_url, {"BLOBS__DIRECTORY": str(tmp_path / "blobs"), "BROKER_URL": "redis://127.0.0.1:1/0"})
    yield made
    made.close()


@pytest.mark.slow
def test_files_are_sent_once_and_results_are_read(tamperwatch: Tamperwatch, web: Web, tmp_path: Path) -> None:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for seed in range(1, 19):
        (folder / "deep" / f"{seed}.jpg").write_bytes(picture_bytes(seed))
    (folder / "notes.txt").write_text("no picture")
    argv = ("submit", str(folder), "--api", web.address, "--queue", "bulk", "--profiles", "wechat")
    first = tamperwatch(*argv, API_KEY=web.token)
    assert (first.code, "19 pictures, 1 failed or refused" in first.out) == (1, True), first
    again = tamperwatch(*argv, API_KEY=web.token)
    assert "19 pictures" in again.out
    with web.database.read() as session:
        jobs = [job for job in session.exec(select(AuditJob)) if job.error_code is None]
    assert {job.source for job in jobs} == {f"{seed}.jpg" for seed in range(1, 19)}
    assert (len(jobs), {job.queue for job in jobs}, jobs[0].profiles) == (18, {"bulk"}, ["wechat"])
    read = tamperwatch("results", "--api", web.address, "--json", "--since", "0", API_KEY=web.token)
    assert (read.code, read.out, "next cursor: 0" in read.err) == (0, "", True)


@pytest.mark.slow
def test_results_over_http_are_those_of_the_store(tamperwatch: Tamperwatch, web: Web, sqlite_url: str) -> None:
    from tests.web.test_process import add_result

    numbers = [add_result(web, f"{number}.jpg") for number in range(3)]
    over = tamperwatch("results", "--api", web.address, "--json", "--limit", "2", API_KEY=web.token)
    assert [json.loads(line)["id"] for line in over.out.splitlines()] == numbers[:2]
    assert f"next cursor: {numbers[1]}" in over.err
    own = tamperwatch("results", DATABASE_URL=sqlite_url)
    assert tamperwatch("results", "--api", web.address, API_KEY=web.token).out == own.out
    refused = tamperwatch("results", "--api", web.address, API_KEY="tw_nonsense")
    assert (refused.code, "TAMPERWATCH_API_KEY" in refused.err) == (2, True)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (("submit", "--api", ADDRESS), "name files and folders"),
        (("submit", "s3://b/k", "--api", ADDRESS), "name files and folders"),
        (("submit", ".", "--manifest", "x", "--api", ADDRESS), "name files and folders"),
        (("submit", "missing", "--api", ADDRESS), "no such file"),
        (("submit", ".", "--api", "audit.example.com"), "give an address"),
        (("results", "--failed", "--api", ADDRESS), "--failed reads the store itself"),
    ],
)
def test_what_does_not_go_over_http_is_told(tamperwatch: Tamperwatch, argv: tuple[str, ...], words: str) -> None:
    ran = tamperwatch(*argv)
    assert (ran.code, words in " ".join(ran.err.split())) == (2, True), ran


def test_an_empty_folder_is_told(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("submit", ".", "--api", ADDRESS)
    assert (ran.code, "nothing to audit" in ran.err) == (2, True)
