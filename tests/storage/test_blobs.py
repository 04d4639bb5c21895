import errno
import hashlib
import io
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from minio import Minio
from minio.error import S3Error
from pydantic import SecretStr

from schemas.errors import BlobMissing, BlobStoreUnavailable, DiskFull, InvalidInput, TooLarge
from schemas.settings import BlobSettings
from storage.blobs import BlobStore, DirectoryBlobStore, MinioBlobStore, open_blob_store, picture_key, s3_client
from tests.local_servers import free_ports
from tests.servers import S3Server
from tests.waiting import wait_for

DATA = bytes(range(256)) * 100
KEY = picture_key(hashlib.sha256(DATA).hexdigest())
LIMIT = 1_000_000


@pytest.fixture(params=["directory", pytest.param("minio", marks=pytest.mark.slow)])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """Each backend in turn: what holds for one holds for the other."""
    if request.param == "directory":
        return open_blob_store(BlobSettings(directory=tmp_path / "not yet there"))
    return open_blob_store(request.getfixturevalue("s3_settings"))


def test_what_was_put_is_got(blobs: BlobStore) -> None:
    assert blobs.exists(KEY) is False
    blobs.put(KEY, DATA)
    assert blobs.exists(KEY) is True
    assert blobs.get(KEY, LIMIT) == DATA


def test_a_file_is_put_and_read_a_piece_at_a_time(blobs: BlobStore) -> None:
    large = DATA * 30  # several pieces
    file = io.BytesIO(b"skipped" + large)
    file.seek(len(b"skipped"))
    blobs.put_file("pictures/aa/large", file, len(large))
    pieces = list(blobs.read("pictures/aa/large"))
    assert b"".join(pieces) == large
    assert len(pieces) > 1 and max(map(len, pieces)) <= 1 << 18


def test_reading_what_is_not_there(blobs: BlobStore) -> None:
    with pytest.raises(BlobMissing):
        next(blobs.read(KEY))


def test_no_bytes_are_bytes_too(blobs: BlobStore) -> None:
    blobs.put(KEY, b"")
    assert blobs.get(KEY, LIMIT) == b""


def test_putting_twice_is_harmless(blobs: BlobStore) -> None:
    blobs.put(KEY, DATA)
    blobs.put(KEY, DATA)
    assert blobs.get(KEY, LIMIT) == DATA


def test_the_first_of_two_to_put_a_new_key_wins(blobs: BlobStore) -> None:
    assert blobs.put_new(KEY, b"first") is True
    assert blobs.put_new(KEY, b"second") is False
    assert blobs.get(KEY, LIMIT) == b"first"
    blobs.delete(KEY)
    assert blobs.put_new(KEY, b"third") is True
    assert blobs.get(KEY, LIMIT) == b"third"


def test_of_writers_at_once_one_wins_with_all_its_bytes(blobs: BlobStore) -> None:
    """Each key is fought for by eight threads that start together."""
    start = threading.Barrier(8)

    def put(number: int) -> list[bool]:
        won = []
        for key in range(6):
            start.wait(60)
            won.append(blobs.put_new(f"fought/{key}", bytes([number]) * 50_000))
        return won

    with ThreadPoolExecutor(8) as threads:
        won = list(threads.map(put, range(8)))
    for key in range(6):
        winners = [number for number in range(8) if won[number][key]]
        assert len(winners) == 1
        assert blobs.get(f"fought/{key}", LIMIT) == bytes(winners) * 50_000


def test_what_is_not_there_is_named(blobs: BlobStore) -> None:
    with pytest.raises(BlobMissing, match=KEY):
        blobs.get(KEY, LIMIT)


def test_deleting_forgets_and_deleting_again_is_no_error(blobs: BlobStore) -> None:
    blobs.put(KEY, DATA)
    blobs.delete(KEY)
    assert blobs.exists(KEY) is False
    blobs.delete(KEY)


def test_the_limit_is_inclusive_and_checked(blobs: BlobStore) -> None:
    blobs.put(KEY, DATA)
    assert blobs.get(KEY, len(DATA)) == DATA
    with pytest.raises(TooLarge, match="25,600 bytes; the limit is 25,599"):
        blobs.get(KEY, len(DATA) - 1)


def test_what_is_known_without_reading(blobs: BlobStore) -> None:
    assert blobs.stat(KEY) is None
    before = datetime.now(UTC)
    blobs.put(KEY, DATA)
    found = blobs.stat(KEY)
    assert found is not None
    assert (found.key, found.bytes) == (KEY, len(DATA))
    assert abs((found.put_at - before).total_seconds()) < 60


def test_a_listing_names_every_key_of_the_folder_in_order(blobs: BlobStore) -> None:
    assert list(blobs.list("pictures")) == []
    keys = ["pictures/00/00aa", "pictures/00/00ab", "pictures/a/b", "pictures/ff/ff"]
    for number, key in enumerate([*reversed(keys), "models/x", "pictures2"]):
        blobs.put(key, bytes(number))
    listed = list(blobs.list("pictures"))
    assert [found.key for found in listed] == keys
    for found in listed:
        alone = blobs.stat(found.key)  # S3 says the time of one object in whole seconds
        assert alone is not None and alone.bytes == found.bytes and abs((alone.put_at - found.put_at).total_seconds()) <= 1


@pytest.mark.slow
def test_a_listing_longer_than_one_answer_of_s3(s3_settings: BlobSettings) -> None:
    store = open_blob_store(s3_settings)
    keys = [f"pictures/{number % 7}/{number:04}" for number in range(1100)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda key: store.put(key, b"x"), keys))
    assert [found.key for found in store.list("pictures")] == sorted(keys)


def test_putting_again_makes_a_blob_young(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put(KEY, DATA)
    if isinstance(blobs, DirectoryBlobStore):
        (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
        os.utime(path, (0, 0))
    else:
        wait_for(lambda: (datetime.now(UTC) - put_at(blobs)).total_seconds() > 1.1, "second gone by, which is what S3 counts in")
    before = put_at(blobs)
    blobs.put(KEY, DATA)
    assert put_at(blobs) > before


def put_at(blobs: BlobStore) -> datetime:
    found = blobs.stat(KEY)
    assert found is not None
    return found.put_at


BAD_KEYS = [
    "",
    "/etc/passwd",
    "../up",
    "a/../../b",
    "a//b",
    "a/",
    "./a",
    "a/.b",
    "a\\b",
    "a b",
    "A",
    "a\x00b",
    "a\n",
    "ü",
    "a%2e%2e",
]


@pytest.mark.parametrize("key", BAD_KEYS)
def test_a_key_that_could_be_a_path_elsewhere_is_refused_everywhere(blobs: BlobStore, key: str) -> None:
    operations: list[Callable[[], object]] = [
        lambda: blobs.put(key, b"x"), lambda: blobs.get(key, 1), lambda: blobs.exists(key), lambda: blobs.delete(key),
        lambda: blobs.stat(key), lambda: blobs.put_new(key, b"x"),
    ]  # fmt: skip
    if key:  # an empty prefix is that of every key
        operations.append(lambda: list(blobs.list(key)))
    for operation in operations:
        with pytest.raises(ValueError, match="not a blob key"):
            operation()


def test_many_threads_put_and_get(blobs: BlobStore) -> None:
    def round_trip(number: int) -> bool:
        key, data = f"thread/{number % 4}", bytes([number % 4]) * 1000
        blobs.put(key, data)
        return blobs.get(key, LIMIT) == data

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(round_trip, range(32)))


def test_a_full_directory_is_named_and_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DirectoryBlobStore(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "replace", full)
        with pytest.raises(DiskFull, match="no space left to write"):
            store.put(KEY, DATA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    store.put(KEY, DATA)
    assert store.get(KEY, LIMIT) == DATA


def test_a_full_directory_takes_nothing_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "link", full)
    with pytest.raises(DiskFull, match="no space left to write"):
        DirectoryBlobStore(tmp_path).put_new(KEY, DATA)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_device_that_is_really_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def on_full_device(**_: object) -> tuple[int, str]:
        return os.open("/dev/full", os.O_WRONLY), str(tmp_path / "beside")

    monkeypatch.setattr("storage.blobs.tempfile.mkstemp", on_full_device)
    with pytest.raises(DiskFull):
        DirectoryBlobStore(tmp_path).put(KEY, DATA)


def test_a_root_that_is_a_file_is_an_unavailable_store(tmp_path: Path) -> None:
    root = tmp_path / "file"
    root.write_bytes(b"")
    store = DirectoryBlobStore(root)
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        store.put(KEY, DATA)
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        store.get(KEY, LIMIT)
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        store.delete(KEY)
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        store.stat(KEY)
    with pytest.raises(BlobStoreUnavailable, match="cannot use"):
        list(store.list("pictures"))


@pytest.mark.slow
def test_a_new_key_signed_with_a_wrong_secret_is_refused(s3_settings: BlobSettings, s3_server: S3Server) -> None:
    store = MinioBlobStore(s3_settings)
    store._client = s3_client(s3_settings, SecretStr(s3_server.access_key), SecretStr("not the secret"))
    with pytest.raises(BlobStoreUnavailable, match=f"refused {KEY}: HTTP status 403"):
        store.put_new(KEY, DATA)


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [([409, 200], True), ([409, 412], False), ([409, 409, 409], BlobStoreUnavailable), ([507], DiskFull)],
)
def test_what_a_conditional_put_is_answered(
    monkeypatch: pytest.MonkeyPatch, answers: list[int], outcome: bool | type[Exception]
) -> None:
    """A conflict is what AWS answers while another writer is at the same key."""
    monkeypatch.setattr(Minio, "bucket_exists", lambda *_: True)
    store = MinioBlobStore(_settings("127.0.0.1:1"))
    left = [SimpleNamespace(status=status) for status in answers]
    monkeypatch.setattr(store._pool, "request", lambda *_, **__: left.pop(0))
    if isinstance(outcome, bool):
        assert store.put_new(KEY, DATA) is outcome
    else:
        with pytest.raises(outcome):
            store.put_new(KEY, DATA)
    assert left == []


@pytest.mark.slow
def test_a_wrong_secret_is_refused(s3_settings: BlobSettings) -> None:
    with pytest.raises(BlobStoreUnavailable, match="refused"):
        open_blob_store(s3_settings.model_copy(update={"secret_key": SecretStr("not the secret")}))


def test_an_s3_server_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    with pytest.raises(BlobStoreUnavailable, match="does not answer"):
        open_blob_store(_settings(f"127.0.0.1:{free_ports(1)[0]}"))


def test_an_endpoint_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidInput, match="TAMPERWATCH_BLOBS__ENDPOINT"):
        open_blob_store(_settings("http://host:9000/path"))


@pytest.mark.slow
def test_two_workers_may_make_the_bucket_at_once(s3_settings: BlobSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    MinioBlobStore(s3_settings)
    monkeypatch.setattr(Minio, "bucket_exists", lambda *_: False)
    store = MinioBlobStore(s3_settings)
    store.put(KEY, DATA)
    assert store.get(KEY, LIMIT) == DATA


@pytest.mark.slow
def test_a_bucket_that_vanished_is_not_the_fault_of_the_picture(s3_settings: BlobSettings, s3_server: S3Server) -> None:
    store = MinioBlobStore(s3_settings)
    s3_server.client().remove_bucket(s3_settings.bucket)
    with pytest.raises(BlobStoreUnavailable, match="NoSuchBucket"):
        store.get(KEY, LIMIT)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("NoSuchKey", BlobMissing),
        ("XMinioStorageFull", DiskFull),
        ("SlowDown", BlobStoreUnavailable),
        ("AccessDenied", BlobStoreUnavailable),
    ],
)
def test_what_s3_answers_is_said_in_our_words(monkeypatch: pytest.MonkeyPatch, code: str, expected: type[Exception]) -> None:
    monkeypatch.setattr(Minio, "bucket_exists", lambda *_: True)
    store = MinioBlobStore(_settings("127.0.0.1:1"))

    def refuse(*_: Any) -> None:
        raise S3Error(None, code, "says the server", "resource", "request", "host")  # type: ignore[arg-type]

    monkeypatch.setattr(Minio, "put_object", refuse)
    with pytest.raises(expected):
        store.put(KEY, DATA)


def _settings(endpoint: str) -> BlobSettings:
    keys = {"access_key": SecretStr("a"), "secret_key": SecretStr("b")}
    return BlobSettings(backend="minio", endpoint=endpoint, secure=False, **keys)
