"""The card: what it refuses to read, and that a file is trusted only by its hash."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from model.card import CARD_NAME, Calibration, Card, FileRecord, builtin_directory, sha256_of
from model.config import StudentConfig
from schemas.errors import ModelInvalid

CONTENT = b"weights, or so we say"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A card beside one file."""
    weights = tmp_path / "student.safetensors"
    weights.write_bytes(CONTENT)
    card = Card(
        name="drawn",
        version="drawn-1",
        created="2030-01-01T00:00:00+00:00",
        student=StudentConfig(input_size=64),
        files={"safetensors": FileRecord.of(weights)},
        calibration=Calibration(
            temperature=1,
            bias=0,
            review_threshold=0.5,
            flag_threshold=0.7,
            review_false_alarm_rate=0.05,
            flag_false_alarm_rate=0.01,
        ),
        licence="made by a test",
        notes=["für Menschen lesbar"],
    )
    card.save(tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / CARD_NAME
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | changes), encoding="utf-8")


def test_a_card_comes_back_as_it_was_saved(folder: Path) -> None:
    card = Card.load(folder)

    assert card.version == "drawn-1"
    assert card.files["safetensors"].bytes == len(CONTENT)
    assert card.verified_path(folder, "safetensors") == folder / "student.safetensors"
    assert "für Menschen" in (folder / CARD_NAME).read_text(encoding="utf-8")
    before = (folder / CARD_NAME).read_bytes()
    card.save(folder)
    assert (folder / CARD_NAME).read_bytes() == before


def test_a_changed_file_is_refused(folder: Path) -> None:
    (folder / "student.safetensors").write_bytes(CONTENT[:-1] + b"!")

    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        Card.load(folder).verified_path(folder, "safetensors")


def test_a_missing_file_is_named(folder: Path) -> None:
    (folder / "student.safetensors").unlink()

    with pytest.raises(ModelInvalid, match=r"student\.safetensors is missing"):
        Card.load(folder).verified_path(folder, "safetensors")


def test_a_folder_in_a_files_place_is_not_a_file(folder: Path) -> None:
    (folder / "student.safetensors").unlink()
    (folder / "student.safetensors").mkdir()

    with pytest.raises(ModelInvalid, match="is missing"):
        Card.load(folder).verified_path(folder, "safetensors")


def test_a_file_that_cannot_be_read_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> str:
        raise PermissionError(13, os.strerror(13))

    monkeypatch.setattr("model.card.sha256_of", refuse)

    with pytest.raises(ModelInvalid, match="cannot be read: Permission denied"):
        Card.load(folder).verified_path(folder, "safetensors")


def test_a_file_the_card_does_not_list(folder: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"carries no 'openvino_xml' file \(it has: safetensors\)"):
        Card.load(folder).verified_path(folder, "openvino_xml")


def test_no_card(tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match="does not exist"):
        Card.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"{}", b"not json", b"\xff\xfe", b"[1, 2]"])
def test_a_damaged_card(tmp_path: Path, content: bytes) -> None:
    (tmp_path / CARD_NAME).write_bytes(content)

    with pytest.raises(ModelInvalid, match="cannot be read as a model card"):
        Card.load(tmp_path)


def test_a_card_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / CARD_NAME).mkdir()

    with pytest.raises(ModelInvalid):
        Card.load(tmp_path)


def test_a_card_of_a_later_format(folder: Path) -> None:
    rewrite(folder, format=2)

    with pytest.raises(ModelInvalid, match="card format 2; this release reads format 1, upgrade"):
        Card.load(folder)


def test_a_later_format_is_recognised_even_where_its_fields_differ(folder: Path) -> None:
    rewrite(folder, format=3, calibration={"kind": "isotonic"}, files=[])

    with pytest.raises(ModelInvalid, match="card format 3"):
        Card.load(folder)


@pytest.mark.parametrize(
    "name", ["../student.bin", "/etc/passwd", "a/b", "..", ".hidden", "", "a\\b", "x\n", "x\0", "-rf", "ünï.bin", "a b"]
)
def test_a_name_never_leads_out_of_the_folder(folder: Path, name: str) -> None:
    with pytest.raises(ValidationError):
        FileRecord(name=name, sha256="0" * 64, bytes=1)
    rewrite(folder, files={"safetensors": {"name": name, "sha256": "0" * 64, "bytes": 1}})
    with pytest.raises(ModelInvalid, match="cannot be read as a model card"):
        Card.load(folder)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64])
def test_a_hash_is_sixty_four_lower_hex_digits(sha256: str) -> None:
    with pytest.raises(ValidationError):
        FileRecord(name="student.bin", sha256=sha256, bytes=1)


@pytest.mark.parametrize("version", ["", "../x", "a b", "x" * 65, "v\n"])
def test_a_version_is_a_plain_name(folder: Path, version: str) -> None:
    rewrite(folder, version=version)

    with pytest.raises(ModelInvalid):
        Card.load(folder)


def test_sha256_of_nothing_and_of_more_than_one_piece(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"")
    assert sha256_of(path) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path.write_bytes(bytes(3 << 20))
    assert sha256_of(path) == "bbd05cf6097ac9b1f89ea29d2542c1b7b67ee46848393895f5a9e43fa1f621e5"


def test_the_student_that_ships_matches_its_card() -> None:
    directory = builtin_directory()
    card = Card.load(directory)

    for key in ("safetensors", "openvino_xml", "openvino_bin"):
        path = card.verified_path(directory, key)
        assert path.stat().st_size == card.files[key].bytes <= 15_000_000
    assert card.calibration.review_threshold <= card.calibration.flag_threshold
