import hashlib
from pathlib import Path

from storage.blobs import DirectoryBlobStore, picture_key
from tests.cli.conftest import Tamperwatch


def put(folder: Path, data: bytes, name: str | None = None) -> Path:
    key = picture_key(name or hashlib.sha256(data).hexdigest())
    DirectoryBlobStore(folder).put(key, data)
    return folder / key


def test_there_and_back(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    path = put(tmp_path / "store", b"12345")
    saved = tamperwatch("blobs", "save", "backup", BLOBS__DIRECTORY=str(tmp_path / "store"))
    assert (saved.code, saved.out) == (0, "1 blobs copied, 5 bytes\n")
    path.unlink()
    loaded = tamperwatch("blobs", "load", "backup", BLOBS__DIRECTORY=str(tmp_path / "store"))
    assert (loaded.code, loaded.out, path.read_bytes()) == (0, "1 blobs copied, 5 bytes\n", b"12345")
    again = tamperwatch("blobs", "save", "backup", "--mirror", BLOBS__DIRECTORY=str(tmp_path / "store"))
    assert (again.code, again.out) == (0, "1 blobs there already, 5 bytes\n")


def test_a_damaged_picture_is_named(tamperwatch: Tamperwatch, tmp_path: Path) -> None:
    put(tmp_path / "store", b"x", name="a" * 64)
    ran = tamperwatch("blobs", "save", "backup", BLOBS__DIRECTORY=str(tmp_path / "store"))
    assert ran.code == 1
    assert "a" * 64 in ran.err and "submit it again" in ran.err


def test_a_backup_that_is_not_there(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("blobs", "load", "nowhere")
    assert ran.code == 2 and "blobs save" in ran.err


def test_nothing_to_save(tamperwatch: Tamperwatch) -> None:
    ran = tamperwatch("blobs", "save", "backup")
    assert (ran.code, ran.out) == (0, "there are no blobs\n")
