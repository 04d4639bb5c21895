import io
import json
import tracemalloc
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from pydantic import SecretStr

from schemas.settings import BlobSettings
from schemas.states import AuditQueue
from workers.job_manifest import MAX_LINE_BYTES, manifest_sources
from workers.sources import FileContent, NamedObject, Source

SHA = "ab" * 32
NO_S3 = BlobSettings()
S3 = BlobSettings(
    backend="minio", endpoint="127.0.0.1:1", bucket="ours", secure=False, access_key=SecretStr("a"), secret_key=SecretStr("s")
)


def read(*lines: bytes | dict[str, object], settings: BlobSettings = NO_S3) -> list[Source]:
    content = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    return list(manifest_sources(io.BytesIO(content), "jobs.jsonl", Path("/data"), settings, ("wechat", "weibo")))


def problem(source: Source) -> str:
    assert source.error is not None and source.content is None and source.sha256 is None
    assert source.error.code == "invalid_message"
    return source.error.message


def test_a_line_names_a_picture_and_what_is_asked_of_it() -> None:
    (full, least, absolute) = read(
        {
            "path": "sub/ü.jpg", "name": "shown", "client_ref": "r-1", "source_profile": "telegram", "queue": "high",
            "profiles": ["wechat"],
        },
        {"path": "a.jpg"},
        {"path": "/tmp/b.jpg"},
    )  # fmt: skip
    assert full == Source(
        "shown",
        FileContent(Path("/data/sub/ü.jpg")),
        client_ref="r-1",
        source_profile="telegram",
        queue=AuditQueue.HIGH,
        profiles=("wechat",),
    )
    assert least == Source("a.jpg", FileContent(Path("/data/a.jpg")))
    assert absolute.content == FileContent(Path("/tmp/b.jpg"))


def test_a_url_is_left_to_the_worker() -> None:
    unnamed, named = read({"url": "https://a.org/x.jpg?token=1"}, {"url": "HTTP://a.org/x.jpg", "name": "x", "client_ref": "r"})
    assert unnamed == Source("https://a.org/x.jpg", url="https://a.org/x.jpg?token=1")
    assert named == Source("x", url="HTTP://a.org/x.jpg", client_ref="r")


def test_stored_pictures_are_referenced() -> None:
    ours = f"s3://ours/pictures/ab/{SHA}"
    by_sha, by_uri, elsewhere, other = read(
        {"sha256": SHA}, {"path": ours}, {"path": ours.replace("ours", "theirs")}, {"path": "s3://b/k/é.jpg"}, settings=S3
    )
    assert (by_sha.name, by_sha.sha256, by_sha.content) == (SHA, SHA, None)
    assert (by_uri.name, by_uri.sha256, by_uri.content) == (ours, SHA, None)
    for copied in (elsewhere, other):
        assert copied.sha256 is None and isinstance(copied.content, NamedObject)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b"nonsense", "line"),
        (b"[]", "line"),
        (b"{}", "one of path, sha256 and url"),
        ({"path": "a", "sha256": SHA}, "one of path, sha256 and url"),
        ({"path": ""}, "path"),
        ({"path": "a\x00b"}, "path"),
        ({"path": "x" * 2801}, "path"),
        (b'{"path": "\\ud800"}', "line"),
        (b'{"path": "\xff"}', "line"),
        ({"path": 5}, "path"),
        ({"sha256": "AB" * 32}, "sha256"),
        ({"url": "https://a.org/", "sha256": SHA}, "one of path, sha256 and url"),
        ({"url": "a.org/x.jpg"}, "url"),
        ({"url": "file:///etc/passwd"}, "url"),
        ({"url": "https://a.org/x y"}, "url"),
        ({"url": "https://a.org/" + "x" * 2048}, "url"),
        ({"path": "a", "queue": "urgent"}, "queue"),
        ({"path": "a", "client_ref": "x" * 513}, "client_ref"),
        ({"path": "a", "source_profile": "We Chat"}, "source_profile"),
        ({"path": "a", "profiles": ["myspace"]}, "unknown myspace; known are wechat, weibo"),
        ({"path": "a", "profile": "wechat"}, "profile"),
        ({"path": "s3:///key"}, "s3://bucket"),
        ({"path": "s3://bucket/key"}, "TAMPERWATCH_BLOBS__ACCESS_KEY"),
        (b'{"path": "' + b"x" * MAX_LINE_BYTES + b'"}', "longer than"),
        (b"[" * 50_000, "line"),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_a_bad_line_fails_under_its_number_and_the_rest_goes_on(line: bytes | dict[str, object], words: str) -> None:
    before, bad, after = read({"path": "1.jpg"}, b"", b"  ", line, {"path": "5.jpg"})
    assert (before.error, after.error, after.name) == (None, None, "5.jpg")
    assert bad.name == "jobs.jsonl:4"
    assert problem(bad).startswith("line 4: ")
    assert words in problem(bad)
    assert len(problem(bad)) < 1000


def test_a_bad_line_read_again_is_the_same_failure() -> None:
    first, again, other = read(b"nonsense")[0], read(b"nonsense")[0], read(b"nonsens")[0]
    assert first.client_ref == again.client_ref != other.client_ref


def test_windows_line_ends_and_a_last_line_without_one() -> None:
    assert [source.name for source in read(b'{"path": "a"}\r', b'{"path": "b"}')] == ["a", "b"]


def test_a_manifest_without_end_is_read_at_constant_memory() -> None:
    class Endless(io.RawIOBase):
        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            line = b'{"path": "a.jpg"}\n'
            buffer[: len(line)] = line
            return len(line)

    sources: Iterator[Source] = manifest_sources(io.BufferedReader(Endless()), "-", Path(), NO_S3, ())
    list(islice(sources, 1000))
    tracemalloc.start()
    for _ in islice(sources, 5000):
        pass
    grown, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 100_000
