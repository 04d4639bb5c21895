import os
from pathlib import Path

import pytest
from pydantic import ValidationError

from cli.console import load_settings
from schemas.errors import InvalidInput
from schemas.settings import SECRETS_DIR_VARIABLE, Settings


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("TAMPERWATCH_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(tmp_path))
    return tmp_path


def _write(folder: Path, **values: str) -> None:
    for name, value in values.items():
        (folder / f"TAMPERWATCH_{name}").write_text(value, encoding="utf-8")


def test_a_file_holds_the_value_of_the_variable_it_is_named_after(folder: Path) -> None:
    _write(folder, DATABASE_URL="postgresql+psycopg://u:p@db/t\n", BLOBS__ACCESS_KEY="key\n", BLOBS__SECRET_KEY="secret")
    settings = Settings()
    assert settings.database_url == "postgresql+psycopg://u:p@db/t"
    assert settings.blobs.access_key is not None and settings.blobs.access_key.get_secret_value() == "key"
    assert settings.blobs.secret_key is not None and settings.blobs.secret_key.get_secret_value() == "secret"
    assert settings.blobs.backend == "directory"


def test_a_group_is_filled_from_variables_and_files_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAMPERWATCH_BLOBS__BACKEND", "minio")
    monkeypatch.setenv("TAMPERWATCH_BLOBS__ACCESS_KEY", "of the variable")
    _write(folder, BLOBS__ACCESS_KEY="of the file", BLOBS__SECRET_KEY="secret")
    settings = Settings()
    assert settings.blobs.backend == "minio"
    assert settings.blobs.access_key is not None and settings.blobs.access_key.get_secret_value() == "of the variable"


def test_a_mounted_kubernetes_secret_is_read(folder: Path) -> None:
    """Such a volume holds links to a hidden folder that is swapped as a whole."""
    (folder / "..2026").mkdir()
    (folder / "..2026" / "TAMPERWATCH_BROKER_URL").write_text("redis://r/0", encoding="utf-8")
    (folder / "..data").symlink_to("..2026")
    (folder / "TAMPERWATCH_BROKER_URL").symlink_to("..data/TAMPERWATCH_BROKER_URL")
    assert Settings().broker_url == "redis://r/0"


def test_other_files_are_left_alone_and_misspelt_ones_of_a_group_are_not(folder: Path) -> None:
    (folder / "grafana_password").write_text("x", encoding="utf-8")
    assert Settings().broker_url == "redis://localhost:6379/0"
    _write(folder, BLOBS__SECRET_KAY="x")
    with pytest.raises(ValidationError, match="secret_kay"):
        Settings()


def test_without_the_variable_no_file_is_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(folder, BROKER_URL="redis://r/0")
    monkeypatch.delenv(SECRETS_DIR_VARIABLE)
    monkeypatch.chdir(folder)
    assert Settings().broker_url == "redis://localhost:6379/0"


def test_a_folder_that_is_not_there_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRETS_DIR_VARIABLE, str(folder / "away"))
    with pytest.raises(InvalidInput, match=r"away.* does not exist$"):
        load_settings()


def test_a_file_that_is_no_text_is_said(folder: Path) -> None:
    (folder / "TAMPERWATCH_BROKER_URL").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="TAMPERWATCH_SECRETS_DIR cannot be read"):
        load_settings()
