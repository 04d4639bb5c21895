import io
import json
import logging
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.messages import AuditMessage
from storage import telemetry
from storage.telemetry_log import JsonLinesFormatter, TextFormatter, add_log_fields, log_fields, without_secrets

ROOT = Path(__file__).parents[2]


class Logged:
    """A logger of one test's own, and what it wrote."""

    def __init__(self, formatter: logging.Formatter) -> None:
        self.stream = io.StringIO()
        self.handler = logging.StreamHandler(self.stream)
        self.handler.setFormatter(formatter)
        self.log = logging.Logger("tests.telemetry")
        self.log.addHandler(self.handler)

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def as_json() -> Iterator[Logged]:
    yield Logged(JsonLinesFormatter())


@pytest.fixture
def as_text() -> Iterator[Logged]:
    yield Logged(TextFormatter())


def test_a_line_is_an_object_with_time_level_logger_thread_and_message(as_json: Logged) -> None:
    as_json.log.warning("grün %d\nzwei", 7)
    (line,) = as_json.lines()
    assert line.pop("time").endswith("Z")
    assert line == {
        "level": "WARNING",
        "logger": "tests.telemetry",
        "thread": "MainThread",
        "message": "grün 7\nzwei",
    }


def test_an_exception_is_one_field(as_json: Logged) -> None:
    try:
        raise ValueError("with a\nline break")
    except ValueError:
        as_json.log.exception("defect")
    (line,) = as_json.lines()
    assert line["message"] == "defect"
    assert line["exception"].startswith("Traceback") and line["exception"].endswith("ValueError: with a\nline break")
    assert "exc_info" not in line


def test_within_a_job_each_line_names_it(as_json: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry.ACTIVITY, "model_version", "student-9")
    message = AuditMessage(job_id=uuid.uuid4(), sha256="ab" * 32, source="a.jpg")
    as_json.log.warning("before")
    with telemetry.job(message):
        as_json.log.warning("taken")
        telemetry.claimed(2)
        as_json.log.warning("ours")
    as_json.log.warning("after")
    before, taken, ours, after = as_json.lines()
    job = {"job_id": str(message.job_id), "sha256": "abababababab"}
    assert job.items() <= taken.items() and "attempt" not in taken
    assert (job | {"attempt": 2, "model_version": "student-9"}).items() <= ours.items()
    assert not {"job_id", "attempt"} & {*before, *after}


def test_a_job_that_came_with_a_url_and_meets_a_swap_says_so(as_json: Logged, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry.ACTIVITY, "model_version", "student-9")
    message = AuditMessage(job_id=uuid.uuid4(), url="https://pictures.example/a.jpg", source="a.jpg")
    with telemetry.job(message):
        telemetry.claimed(1)
        as_json.log.warning("taken")
        telemetry.downloaded("cd" * 32)
        telemetry.audited_by("student-10")
        as_json.log.warning("audited")
    taken, audited = as_json.lines()
    assert "sha256" not in taken and taken["model_version"] == "student-9"
    assert (audited["sha256"], audited["model_version"], audited["attempt"]) == ("cdcdcdcdcdcd", "student-10", 1)


def test_each_thread_has_its_own_job(as_json: Logged) -> None:
    both_in = threading.Barrier(2)

    def work(number: int) -> None:
        with log_fields(job_id=number):
            both_in.wait(10)
            as_json.log.warning("%d", number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted((line["message"], line["job_id"]) for line in as_json.lines()) == [("0", 0), ("1", 1)]


def test_fields_end_with_the_block_they_were_added_in(as_text: Logged) -> None:
    add_log_fields(stray=1)
    with log_fields(job_id="j"):
        add_log_fields(attempt=3)
        as_text.log.warning("in")
    as_text.log.warning("out")
    inside, outside = as_text.stream.getvalue().splitlines()
    assert inside.endswith("WARNING tests.telemetry in [job_id=j attempt=3]")
    assert outside.endswith("WARNING tests.telemetry out")


def test_text_puts_the_traceback_behind_the_fields(as_text: Logged) -> None:
    with log_fields(job_id="j"):
        try:
            raise ValueError("why")
        except ValueError:
            as_text.log.exception("defect")
    first, *_, last = as_text.stream.getvalue().splitlines()
    assert first.endswith("defect [job_id=j]") and last == "ValueError: why"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://:hunter2@redis:6379/0 is away", "redis://:***@redis:6379/0 is away"),
        ("postgresql+psycopg://me:p%40ss@db/x", "postgresql+psycopg://me:***@db/x"),
        ("http://host:80/a and me@example.org", "http://host:80/a and me@example.org"),
        ('"redis://host:6379", "x@y"', '"redis://host:6379", "x@y"'),
        ('{"a":"redis://host:6379","b":"x@y"}', '{"a":"redis://host:6379","b":"x@y"}'),
        ("a:b@c", "a:b@c"),
    ],
)
def test_a_password_in_a_url_is_not_shown(text: str, shown: str) -> None:
    assert without_secrets(text) == shown


@pytest.mark.parametrize("formatter", [JsonLinesFormatter(), TextFormatter()])
def test_no_line_shows_a_password(formatter: logging.Formatter) -> None:
    logged = Logged(formatter)
    try:
        raise ConnectionError("redis://me:hunter2@host/0")
    except ConnectionError:
        logged.log.exception("cannot reach %s", "redis://me:hunter2@host/0")
    # In the message, in the traceback's line of source and in the exception.
    assert logged.stream.getvalue().count("me:***@host") == 3
    assert "hunter2" not in logged.stream.getvalue()


def test_a_role_logs_to_stderr_what_libraries_warn_of_too() -> None:
    code = (
        "import logging, warnings; from storage.telemetry_log import log_to_stderr; log_to_stderr(logging.INFO, 'json');"
        "logging.getLogger('x').info('hello'); logging.getLogger('x').debug('no'); warnings.warn('careful')"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["logger"] for line in lines] == ["x", "py.warnings"]
    assert "careful" in lines[1]["message"] and done.stdout == ""
