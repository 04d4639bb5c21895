import os
import time
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.errors import InvalidInput
from schemas.settings import BlobSettings
from workers.sources import FileContent, parse_s3, stored_sha256

SHA = "ab" * 32
OURS = BlobSettings(backend="minio", bucket="ours", access_key=SecretStr("a"), secret_key=SecretStr("s"))


def settled(path: Path, data: bytes, age_s: float = 60) -> Path:
    path.write_bytes(data)
    at = time.time() - age_s
    os.utime(path, (at, at))
    return path


def test_a_stamp_changes_with_the_bytes(tmp_path: Path) -> None:
    path = settled(tmp_path / "a", b"one")
    first = FileContent(path).stamp()
    assert first is not None and first == FileContent(path).stamp()
    others = {FileContent(settled(path, b"longer")).stamp(), FileContent(settled(path, b"two", age_s=30)).stamp()}
    (tmp_path / "b").hardlink_to(path)
    others.add(FileContent(tmp_path / "b").stamp())
    assert first not in others and None not in others and len(others) == 3


def test_a_file_written_just_now_has_no_stamp(tmp_path: Path) -> None:
    """Written twice within one tick of the clock it would look unchanged."""
    assert FileContent(settled(tmp_path / "a", b"x", age_s=0)).stamp() is None
    assert FileContent(settled(tmp_path / "a", b"x", age_s=-3600)).stamp() is None
    assert FileContent(tmp_path / "missing").stamp() is None


def test_the_same_file_has_one_stamp_by_whatever_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settled(tmp_path / "a", b"x")
    monkeypatch.chdir(tmp_path)
    assert FileContent(Path("a")).stamp() == FileContent(tmp_path / "a").stamp()


@pytest.mark.parametrize(
    ("uri", "parts"),
    [("s3://b", ("b", "")), ("s3://b/", ("b", "")), ("s3://b/a/ü.jpg", ("b", "a/ü.jpg")), ("s3://b//a", ("b", "/a"))],
)
def test_an_address_has_a_bucket_and_a_prefix(uri: str, parts: tuple[str, str]) -> None:
    assert parse_s3(uri) == parts


@pytest.mark.parametrize("uri", ["s3://", "s3:///key", "http://b/k", "b/k"])
def test_another_address_is_refused(uri: str) -> None:
    with pytest.raises(InvalidInput, match="s3://bucket/prefix"):
        parse_s3(uri)


def test_only_our_own_stored_pictures_are_referenced() -> None:
    key = f"pictures/ab/{SHA}"
    assert stored_sha256("ours", key, OURS) == SHA
    assert stored_sha256("theirs", key, OURS) is None
    assert stored_sha256("ours", key, BlobSettings(bucket="ours")) is None  # our store is a directory
    for other in (f"x/{key}", f"{key}.jpg", f"pictures/cd/{SHA}", f"pictures/ab/{SHA[:-1]}", key.upper()):
        assert stored_sha256("ours", other, OURS) is None
