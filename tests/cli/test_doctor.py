"""`tamperwatch doctor`: every part checked, what is missing named with its cure, and no secret shown."""

from pathlib import Path

import pytest

from schemas.errors import BrokerUnavailable, EnvironmentMissing, ModelInvalid
from storage.database import Database
from tests.cli.conftest import Ran, Tamperwatch


@pytest.fixture
def broker_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare a test the seconds for which the Redis client tries again."""

    def refuse(_: object) -> None:
        raise BrokerUnavailable("Redis does not answer")

    monkeypatch.setattr("cli.doctor.queue_depths", refuse)


def findings(ran: Ran) -> dict[str, tuple[str, str]]:
    """Each part's mark and words."""
    rows = [line for line in ran.out.splitlines() if line[8:24].strip()]
    return {line[8:24].strip(): (line[:8].strip(), line[25:].strip()) for line in rows}


@pytest.mark.usefixtures("broker_away")
def test_a_machine_without_services_can_audit(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("doctor")

    found = findings(ran)
    assert ran.code == 0
    assert found["student"][0] == "ok" and "openvino" in found["student"][1]
    assert found["redis-server"][0] == "ok" and found["redis-server"][1][0].isdigit()
    assert found["results store"][0] == "not set" and "tamperwatch migrate" in found["results store"][1]
    assert found["broker"] == ("not set", "Redis does not answer")
    assert {"python", "blob store", "extra [gpu]", "extra [train]"} <= set(found)


def test_what_answers_is_said_to(tamperwatch: Tamperwatch, sqlite: Database, broker_url: str, tmp_path: Path) -> None:
    found = findings(tamperwatch("doctor", DATABASE_URL=sqlite.url, BROKER_URL=broker_url, BLOBS__DIRECTORY=str(tmp_path)))

    assert found["results store"][0] == "ok"
    assert found["broker"] == ("ok", "0 messages waiting")
    assert found["blob store"] == ("ok", f"directory at {tmp_path}")


@pytest.mark.usefixtures("broker_away")
@pytest.mark.parametrize(
    ("broken", "error", "part"),
    [
        ("cli.doctor.redis_server", EnvironmentMissing("no redis-server: pip install [x]"), "redis-server"),
        ("cli.doctor.Predictor.load", ModelInvalid("card.json is damaged"), "student"),
    ],
)
def test_what_audit_needs_fails_the_command(
    tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch, broken: str, error: Exception, part: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(broken, fail)

    ran = tamperwatch("doctor")

    assert ran.code == 3
    assert findings(ran)[part] == ("missing", str(error))


@pytest.mark.usefixtures("broker_away")
def test_an_extra_that_is_missing_is_named_with_its_cure(tamperwatch: Tamperwatch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cli.doctor._EXTRAS", {"gpu": ("torch_that_is_not_there",)})

    found = findings(tamperwatch("doctor"))

    assert found["extra [gpu]"] == ("not set", "lacks torch_that_is_not_there: pip install 'tamperwatch[gpu]'")


@pytest.mark.slow
def test_a_password_is_not_shown(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch(
        "doctor",
        DATABASE_URL="postgresql+psycopg://user:hunter2@127.0.0.1:1/db",
        BLOBS__BACKEND="minio",
        BLOBS__ENDPOINT="127.0.0.1:1",
        BLOBS__ACCESS_KEY="key",
        BLOBS__SECRET_KEY="hunter2",
        BROKER_URL="redis://:hunter2@127.0.0.1:1/0",
    )

    assert ran.code == 0
    assert {name for name, (mark, _) in findings(ran).items() if mark == "not set"} >= {"results store", "broker", "blob store"}
    assert "hunter2" not in ran.out + ran.err
