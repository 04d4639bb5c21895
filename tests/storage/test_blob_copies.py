import hashlib
from collections import Counter
from pathlib import Path

import pytest

from schemas.settings import BlobSettings
from storage.blob_copies import Copy, copy_blobs
from storage.blobs import BlobStore, DirectoryBlobStore, open_blob_store, picture_key

LIMIT = 10**6


@pytest.fixture(params=["directory", pytest.param("minio", marks=pytest.mark.slow)])
def stored(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    """A store with some of everything."""
    minio = request.param == "minio"
    store = open_blob_store(request.getfixturevalue("s3_settings") if minio else BlobSettings(directory=tmp_path / "blobs"))
    for number in range(3):
        put_picture(store, b"picture %d" % number)
    store.put("models/v/abc/card.json", b"{}")
    store.put("retrain/ledgers/1.json", b"")
    return store


@pytest.fixture
def backup(tmp_path: Path) -> BlobStore:
    return DirectoryBlobStore(tmp_path / "backup")


def put_picture(store: BlobStore, data: bytes) -> str:
    key = picture_key(hashlib.sha256(data).hexdigest())
    store.put(key, data)
    return key


def copied(source: BlobStore, target: BlobStore, mirror: bool = False) -> Counter[Copy]:
    return Counter(each.outcome for each in copy_blobs(source, target, mirror))


def content(store: BlobStore) -> dict[str, bytes]:
    return {blob.key: store.get(blob.key, LIMIT) for blob in store.list("")}


def test_everything_goes_over_and_comes_back(stored: BlobStore, backup: BlobStore, tmp_path: Path) -> None:
    before = content(stored)
    assert len(before) == 5
    assert copied(stored, backup) == {Copy.COPIED: 5}
    assert content(backup) == before
    assert copied(backup, DirectoryBlobStore(tmp_path / "new")) == {Copy.COPIED: 5}
    for key in before:
        stored.delete(key)
    assert copied(backup, stored) == {Copy.COPIED: 5}
    assert content(stored) == before


def test_a_second_time_only_what_is_new_or_of_another_length(stored: BlobStore, backup: BlobStore) -> None:
    copied(stored, backup)
    new, cut = put_picture(stored, b"new"), picture_key(hashlib.sha256(b"picture 1").hexdigest())
    backup.delete(cut)
    backup.put(cut, b"pict")
    assert copied(stored, backup) == {Copy.THERE: 4, Copy.COPIED: 2}
    assert (backup.get(new, LIMIT), backup.get(cut, LIMIT)) == (b"new", b"picture 1")


def test_a_picture_that_rotted_is_named_and_not_carried_over(stored: BlobStore, backup: BlobStore) -> None:
    key = picture_key("0" * 64)
    stored.put(key, b"something else")
    found = {each.key: each.outcome for each in copy_blobs(stored, backup)}
    assert found[key] is Copy.CORRUPT and not backup.exists(key)
    assert Counter(found.values()) == {Copy.COPIED: 5, Copy.CORRUPT: 1}


def test_what_was_forgotten_goes_from_a_mirror_alone(stored: BlobStore, backup: BlobStore) -> None:
    copied(stored, backup)
    gone = picture_key(hashlib.sha256(b"picture 0").hexdigest())
    stored.delete(gone)
    assert copied(stored, backup) == {Copy.THERE: 4}
    assert backup.exists(gone)
    assert copied(stored, backup, mirror=True) == {Copy.THERE: 4, Copy.DELETED: 1}
    assert not backup.exists(gone)


class Forgetful(DirectoryBlobStore):
    """Lists what has been deleted since."""

    def list(self, prefix: str):  # type: ignore[no-untyped-def]
        for blob in super().list(prefix):
            self.delete(blob.key)
            yield blob


def test_what_is_deleted_meanwhile_is_no_error(tmp_path: Path, backup: BlobStore) -> None:
    put_picture(DirectoryBlobStore(tmp_path / "blobs"), b"x")
    assert copied(Forgetful(tmp_path / "blobs"), backup) == {Copy.GONE: 1}
    assert content(backup) == {}


def test_an_empty_store_is_copied_too(tmp_path: Path, backup: BlobStore) -> None:
    assert copied(DirectoryBlobStore(tmp_path / "none"), backup, mirror=True) == {}
