"""The command line as a whole: every verb explained and documented, every mistake one readable line, no traceback."""

import io
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
import typer

from cli import main
from cli.console import load_settings, stdout
from schemas.errors import DiskFull, InvalidInput, StoreUnavailable, TamperwatchError
from tests.cli.conftest import Tamperwatch

ROOT = Path(__file__).resolve().parents[2]


def verbs(command: click.Command, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every verb, groups descended into."""
    if isinstance(command, typer.core.TyperGroup):
        for name, inner in command.commands.items():
            yield from verbs(inner, (*prefix, name))
    else:
        yield prefix


VERBS = sorted(verbs(typer.main.get_command(main.app)))


def test_the_verbs_of_this_release() -> None:
    assert {verb[0] for verb in VERBS} == {
        *("audit", "check", "doctor", "evaluate", "export", "migrate", "models", "purge", "results", "retry", "status", "submit"),
        *(
            "annotate",
            "audit-log",
            "beat",
            "blobs",
            "keys",
            "pseudo-masks",
            "reaudit",
            "retrain",
            "similar",
            "train",
            "trainer",
            "up",
            "users",
            "web",
            "webhooks",
            "worker",
        ),
    }
    assert ("models", "list") in VERBS and ("models", "show") in VERBS


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_explains_itself_with_an_example(tamperwatch: Tamperwatch, verb: tuple[str, ...]) -> None:
    ran = tamperwatch(*verb, "--help")

    assert ran.code == 0
    lines = [line.strip() for line in ran.out.splitlines()]
    assert "Example:" in lines or "Examples:" in lines
    assert any(f"tamperwatch {' '.join(verb)}" in line for line in lines[lines.index(next(filter(_heads_examples, lines))) :])


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_is_documented(verb: tuple[str, ...]) -> None:
    pages = [(ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "docs/operations.md")]

    assert any(f"tamperwatch {' '.join(verb)}" in page or f"`{' '.join(verb)}`" in page for page in pages)


def test_help_names_every_verb_and_the_exit_status(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("--help")

    assert ran.code == 0
    assert all(verb[0] in ran.out for verb in VERBS)
    assert "0 ok, 1 some items failed, 2 usage, 3 environment" in " ".join(ran.out.split())


def test_no_verb_at_all_shows_the_help(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch()

    assert ran.code == 2
    assert "audit" in ran.out + ran.err


def test_the_version(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("--version")

    assert ran.code == 0
    assert ran.out.startswith("tamperwatch")


@pytest.mark.parametrize(
    "argv",
    [
        ("nonsense",),
        ("audit",),
        ("audit", "x", "--workers", "0"),
        ("audit", "x", "--workers", "many"),
        ("audit", "x", "--no-such-option"),
        ("submit", "x", "--queue", "urgent"),
        ("worker", "--queues", "urgent"),
        ("audit", "nowhere"),
        ("audit", "x" * 300),
        ("audit", "[/] \x1b[31m"),
        ("audit", ".", "--profiles", "myspace"),
        ("audit", ".", "--out", "."),
        ("audit", "."),
        ("submit", "."),
        ("evaluate",),
        ("evaluate", "--manifest", "nowhere.csv"),
        ("train", "--config", "nowhere.toml", "--images", ".", "--out", "run"),
    ],
    ids=lambda argv: ascii(" ".join(argv))[:40],
)
def test_a_wrong_call_is_usage(tamperwatch: Tamperwatch, argv: tuple[str, ...], tmp_path: Path) -> None:
    ran = tamperwatch(*argv, DATABASE_URL=f"sqlite:///{tmp_path / '.hidden.db'}")

    if argv[0] == "submit" and ran.code == 3:
        assert "no results store" in ran.err  # what is asked first does not matter
    else:
        assert ran.code == 2, ran.err
    assert "Traceback" not in ran.err
    assert "\x1b" not in ran.err
    assert ran.out == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == []  # nothing was begun


def test_an_empty_folder_says_so(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()

    ran = tamperwatch("audit", "pictures")

    assert ran.code == 2
    assert "nothing to audit: no visible file in pictures" in ran.err


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"LIMITS__MAX_BYTES": "many"}, "TAMPERWATCH_LIMITS__MAX_BYTES: Input should be a valid integer"),
        ({"LIMITS__MAX_BYTES": "-1"}, "TAMPERWATCH_LIMITS__MAX_BYTES: Input should be greater than 0"),
        ({"LIMITS__MAX_BITES": "1"}, "TAMPERWATCH_LIMITS__MAX_BITES"),
        ({"LIMITS": "junk"}, "limits"),
        ({"ENGINE__NAME": "onnx", "WORKER__MAX_BATCH": "-1"}, "TAMPERWATCH_ENGINE__NAME"),
        ({"BLOBS__BACKEND": "minio"}, "TAMPERWATCH_BLOBS__ACCESS_KEY"),
        ({"BROKER_URL": "amqp://host"}, "TAMPERWATCH_BROKER_URL must be redis://"),
        ({"BROKER_URL": "redis://host:port/0"}, "TAMPERWATCH_BROKER_URL must be redis://"),
        ({"BROKER_URL": ""}, "TAMPERWATCH_BROKER_URL must be redis://"),
        ({"WORKER__VISIBILITY_TIMEOUT_S": "10"}, "visibility_timeout_s must exceed"),
    ],
    ids=lambda value: ascii(value)[:50] if isinstance(value, dict) else "",
)
@pytest.mark.parametrize("verb", ["audit", "status"])
def test_wrong_variables_are_named(tamperwatch: Tamperwatch, verb: str, variables: dict[str, str], words: str) -> None:
    ran = tamperwatch(*(("audit", ".") if verb == "audit" else (verb,)), **variables)

    assert (ran.code, ran.out) == (2, "")
    assert words in ran.err
    assert "Traceback" not in ran.err


def test_every_wrong_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMPERWATCH_ENGINE__NAME", "onnx")
    monkeypatch.setenv("TAMPERWATCH_WORKER__MAX_BATCH", "-1")

    with pytest.raises(InvalidInput) as refused:
        load_settings()

    assert len(refused.value.message.splitlines()) == 3


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "redis://h:6379/3",
        "rediss://u:p@h:1/0",
        "redis+socket:///tmp/a b/redis.sock",
        "redis+socket:///tmp/x.sock?virtual_host=1",
    ],
)
def test_broker_urls_that_are_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("TAMPERWATCH_BROKER_URL", url)

    assert load_settings().broker_url == url


@pytest.mark.parametrize(
    ("error", "code"),
    [(InvalidInput("wrong"), 2), (StoreUnavailable("away"), 3), (DiskFull("no space left to write report.html"), 3)],
)
def test_errors_of_ours_become_one_line(
    tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch, error: TamperwatchError, code: int
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(main, "app", fail)

    ran = tamperwatch()

    assert (ran.code, ran.out, ran.err) == (code, "", f"error ({error.code}): {error.message}\n")


def test_long_paths_in_errors_stay_whole(tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/a" * 150

    def fail() -> None:
        raise InvalidInput(f"cannot read {path}\n  second\tline\x1b[2J")

    monkeypatch.setattr(main, "app", fail)

    ran = tamperwatch()

    assert ran.err.splitlines() == [f"error (invalid_input): cannot read {path}", "  second    line\N{REPLACEMENT CHARACTER}[2J"]


def test_ctrl_c_is_no_traceback(tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("cli.doctor.load_settings", interrupted)

    ran = tamperwatch("doctor")

    assert ran.code == 130
    assert "Traceback" not in ran.err


def test_an_old_terminal_gets_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii", write_through=True))
    monkeypatch.setattr(main, "app", lambda: stdout.print("12,3 – 45,6"))

    main.main()

    assert written.getvalue() == b"12,3 \\u2013 45,6\n"


def _heads_examples(line: str) -> bool:
    return line in ("Example:", "Examples:")
