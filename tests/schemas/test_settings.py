from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from schemas.settings import BlobSettings, Settings, WorkerSettings

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def _leaves(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from _leaves(kind, f"{prefix}{name.upper()}__")
        else:
            yield f"{prefix}{name.upper()}", field


SETTINGS = dict(_leaves(Settings, "TAMPERWATCH_"))


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SETTINGS:
        monkeypatch.delenv(name, raising=False)


def test_the_environment_is_read_with_nesting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMPERWATCH_DATABASE_URL", "sqlite:///x.db")
    monkeypatch.setenv("TAMPERWATCH_WORKER__MAX_BATCH", "4")
    monkeypatch.setenv("TAMPERWATCH_BLOBS__DIRECTORY", "/srv/blobs")
    settings = Settings()
    assert settings.database_url == "sqlite:///x.db"
    assert settings.worker.max_batch == 4
    assert settings.blobs.directory == Path("/srv/blobs")
    assert settings.limits.max_pixels == 80_000_000


@pytest.mark.parametrize(
    ("name", "value", "location"),
    [
        ("TAMPERWATCH_WORKER__MAX_BATCH", "many", ("worker", "max_batch")),
        ("TAMPERWATCH_WORKER__MAX_BATCH", "-1", ("worker", "max_batch")),
        ("TAMPERWATCH_WORKER__RETRY_BACKOFF_S", "-1", ("worker", "retry_backoff_s")),
        ("TAMPERWATCH_WORKER__STABILITY_BAND", "-0.1", ("worker", "stability_band")),
        ("TAMPERWATCH_LIMITS__MAX_BYTES", "0", ("limits", "max_bytes")),
        ("TAMPERWATCH_ENGINE__NAME", "abacus", ("engine", "name")),
        ("TAMPERWATCH_FETCH__ALLOWED_HOSTS", "https://example.org", ("fetch", "allowed_hosts")),
        ("TAMPERWATCH_FETCH__ALLOWED_HOSTS", "good.org,*", ("fetch", "allowed_hosts")),
        ("TAMPERWATCH_FETCH__ALLOWED_HOSTS", "*.*.org", ("fetch", "allowed_hosts")),
        ("TAMPERWATCH_FETCH__ALLOWED_NETWORKS", "10.0.0.1/8", ("fetch", "allowed_networks")),
        ("TAMPERWATCH_FETCH__TIMEOUT_S", "0", ("fetch", "timeout_s")),
        ("TAMPERWATCH_BLOBS__BACKEND", "tape", ("blobs", "backend")),
        ("TAMPERWATCH_WORKER__MAX_BACH", "4", ("worker", "max_bach")),
    ],
)
def test_a_wrong_setting_is_named(monkeypatch: pytest.MonkeyPatch, name: str, value: str, location: tuple[str, str]) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError) as raised:
        Settings()
    assert [each["loc"] for each in raised.value.errors()] == [location]


def test_s3_without_keys_is_refused_and_says_which_to_set() -> None:
    with pytest.raises(ValidationError, match="TAMPERWATCH_BLOBS__SECRET_KEY"):
        BlobSettings(backend="minio", access_key=SecretStr("a"))


def test_a_retry_that_outwaits_its_message_is_refused() -> None:
    with pytest.raises(ValidationError, match="visibility_timeout_s must exceed"):
        WorkerSettings(visibility_timeout_s=60, retry_backoff_max_s=60)


def test_no_secret_has_a_default() -> None:
    secrets = {name: field for name, field in SETTINGS.items() if "SecretStr" in str(field.annotation)}
    assert set(secrets) == {"TAMPERWATCH_BLOBS__ACCESS_KEY", "TAMPERWATCH_BLOBS__SECRET_KEY"}
    assert [field.default for field in secrets.values()] == [None, None]


def test_no_secret_is_ever_printed() -> None:
    shown = BlobSettings(backend="minio", access_key=SecretStr("open"), secret_key=SecretStr("sesame"))
    for text in (repr(shown), str(shown), shown.model_dump_json()):
        assert "open" not in text and "sesame" not in text


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_says_what_it_does(name: str) -> None:
    assert SETTINGS[name].description


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_stands_in_the_operations_manual(name: str) -> None:
    assert f"`{name}`" in OPERATIONS.read_text(encoding="utf-8")
