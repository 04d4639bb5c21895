"""A student's files: into the blob store, out of it again, damaged on the way, and asked for by many at once."""

import errno
import hashlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from schemas.errors import BlobStoreUnavailable, DiskFull, EnvironmentMissing, ModelInvalid
from storage import model_files
from storage.blobs import BlobStore, DirectoryBlobStore
from storage.model_files import CARD_NAME, store_student, student_folder


@pytest.fixture
def student(tmp_path: Path) -> Callable[..., Path]:
    """Makes a student folder whose weights are a few bytes."""

    def make(version: str = "night-7", weights: bytes = b"weights", name: str = "student.bin") -> Path:
        folder = tmp_path / f"{version}-{hashlib.sha256(weights).hexdigest()[:6]}"
        folder.mkdir()
        (folder / name).write_bytes(weights)
        record = {"name": name, "sha256": hashlib.sha256(weights).hexdigest(), "bytes": len(weights)}
        card = {"version": version, "files": {"openvino_bin": record}, "notes": ["whatever"]}
        (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
        return folder

    return make


class Counting(DirectoryBlobStore):
    """Counts what is fetched; unreachable when told so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.gets: list[str] = []
        self.away = False

    def get(self, key: str, max_bytes: int) -> bytes:
        if self.away:
            raise BlobStoreUnavailable("switched off by the test")
        self.gets.append(key)
        return super().get(key, max_bytes)


@pytest.fixture
def counting(tmp_path: Path) -> Counting:
    return Counting(tmp_path / "blobs")


def names(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def leftovers(cache: Path) -> list[Path]:
    return [path for path in cache.glob("*/.*")]


def test_what_is_stored_comes_out_the_same(blobs: BlobStore, student: Callable[..., Path], tmp_path: Path) -> None:
    source = student(weights=os.urandom(300_000))
    location = store_student(blobs, source, "night-7")
    assert location.startswith("blob:models/night-7/")
    assert store_student(blobs, source, "night-7") == location
    folder = student_folder(blobs, location, tmp_path / "cache")
    assert names(folder) == names(source)
    assert leftovers(tmp_path / "cache") == []


def test_a_second_time_nothing_is_fetched(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    location = store_student(counting, student(), "night-7")
    first = student_folder(counting, location, tmp_path / "cache")
    counting.away = True
    assert student_folder(counting, location, tmp_path / "cache") == first


def test_names_with_capitals_and_another_card_of_the_same_version_lie_apart(
    counting: Counting, student: Callable[..., Path], tmp_path: Path
) -> None:
    one = student("Night__7", b"one", "Student.BIN")
    other = student("Night__7", b"other", "Student.BIN")
    places = [store_student(counting, folder, "Night__7") for folder in (one, other)]
    assert len(set(places)) == 2
    folders = [student_folder(counting, place, tmp_path / "cache") for place in places]
    assert [names(folder) for folder in folders] == [names(one), names(other)]


def test_a_damaged_cache_is_fetched_anew(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    location = store_student(counting, student(), "night-7")
    folder = student_folder(counting, location, tmp_path / "cache")
    (folder / "student.bin").write_bytes(b"w3ights")
    assert (student_folder(counting, location, tmp_path / "cache") / "student.bin").read_bytes() == b"weights"
    (folder / CARD_NAME).write_text((folder / CARD_NAME).read_text() + " ")
    assert student_folder(counting, location, tmp_path / "cache") == folder
    (folder / "student.bin").unlink()
    counting.away = True
    with pytest.raises(BlobStoreUnavailable):
        student_folder(counting, location, tmp_path / "cache")
    assert not folder.exists()
    assert leftovers(tmp_path / "cache") == []


@pytest.mark.parametrize("name", ["student.bin", CARD_NAME])
def test_what_was_damaged_in_the_store_is_refused_until_it_is_mended(
    counting: Counting, student: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    location = store_student(counting, student(), "night-7")
    path = tmp_path / "blobs" / location.removeprefix("blob:") / name
    good = path.read_bytes()
    path.write_bytes(good.replace(b"e", b"3"))
    with pytest.raises(ModelInvalid):
        student_folder(counting, location, tmp_path / "cache")
    assert list((tmp_path / "cache").glob("*/*")) == []
    path.write_bytes(good)
    assert student_folder(counting, location, tmp_path / "cache").is_dir()


def test_what_is_gone_from_the_store_is_named(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    location = store_student(counting, student(), "night-7")
    counting.delete(f"{location.removeprefix('blob:')}/student.bin")
    with pytest.raises(ModelInvalid, match=r"student\.bin is gone from the blob store"):
        student_folder(counting, location, tmp_path / "cache")


def test_nothing_larger_than_its_card_says_is_read(
    counting: Counting, student: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = store_student(counting, student(), "night-7")
    (tmp_path / "blobs" / location.removeprefix("blob:") / "student.bin").write_bytes(b"x" * 10_000)
    with pytest.raises(ModelInvalid, match="larger than its card says"):
        student_folder(counting, location, tmp_path / "cache")
    monkeypatch.setattr(model_files, "LARGEST_FILE_BYTES", 3)
    with pytest.raises(ModelInvalid, match="larger than 3 bytes"):
        store_student(counting, student(weights=b"other"), "night-7")


def test_only_a_whole_student_is_stored(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    with pytest.raises(ModelInvalid, match=r"card\.json does not exist"):
        store_student(counting, tmp_path, "night-7")
    with pytest.raises(ModelInvalid, match="holds night-7, not night-8"):
        store_student(counting, student(), "night-8")
    broken = student(weights=b"broken")
    (broken / "student.bin").write_bytes(b"brok3n")
    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        store_student(counting, broken, "night-7")
    (broken / CARD_NAME).write_text('{"version": "night-7", "files": {"x": {"name": "../x", "sha256": "", "bytes": 1}}}')
    with pytest.raises(ModelInvalid, match="cannot be read as a model card"):
        store_student(counting, broken, "night-7")
    assert not list((tmp_path / "blobs").rglob(CARD_NAME))  # the card comes last


@pytest.mark.parametrize("location", ["blob:", "blob:models/x", "blob:models/../" + "0" * 64, "blob:pictures/aa/" + "0" * 64])
def test_other_places_in_the_store_are_refused(counting: Counting, tmp_path: Path, location: str) -> None:
    with pytest.raises(ModelInvalid, match="no place of a student"):
        student_folder(counting, location, tmp_path)


def test_a_folder_is_checked_where_it_lies(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    folder = student()
    assert student_folder(counting, str(folder), tmp_path / "cache") == folder
    (folder / "student.bin").write_bytes(b"w3ights")
    with pytest.raises(ModelInvalid, match="does not match the sha256"):
        student_folder(counting, str(folder), tmp_path / "cache")
    assert folder.exists()


def test_a_cache_that_cannot_be_written_says_which_setting_names_it(
    counting: Counting, student: Callable[..., Path], tmp_path: Path
) -> None:
    location = store_student(counting, student(), "night-7")
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(EnvironmentMissing, match="TAMPERWATCH_ENGINE__MODEL_CACHE"):
        student_folder(counting, location, tmp_path / "cache")


def test_many_workers_at_once_share_one_folder(counting: Counting, student: Callable[..., Path], tmp_path: Path) -> None:
    location = store_student(counting, student(weights=os.urandom(200_000)), "night-7")
    together = threading.Barrier(8)

    def ask(_: int) -> tuple[Path, dict[str, bytes]]:
        together.wait(30)
        folder = student_folder(counting, location, tmp_path / "cache")
        return folder, names(folder)

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(8)))
    assert len({folder for folder, _ in answers}) == 1
    assert all(found == answers[0][1] for _, found in answers)
    assert leftovers(tmp_path / "cache") == []


def test_the_cache_keeps_those_used_last(
    counting: Counting, student: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model_files, "KEPT_FOLDERS", 2)
    places = [store_student(counting, student(f"night-{number}"), f"night-{number}") for number in range(3)]
    cache = tmp_path / "cache"
    oldest, middle = (student_folder(counting, place, cache) for place in places[:2])
    os.utime(oldest, (1, 1))
    os.utime(middle, (2, 2))
    assert student_folder(counting, places[0], cache) == oldest  # used again
    newest = student_folder(counting, places[2], cache)
    assert [folder.exists() for folder in (oldest, middle, newest)] == [True, False, True]
    shutil.rmtree(cache)
    assert student_folder(counting, places[1], cache) == middle


def test_a_full_disk_says_so_and_leaves_nothing_behind(
    counting: Counting, student: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = store_student(counting, student(), "night-7")

    def full(_: Path, __: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(DiskFull, match="no space left to keep a model"):
            student_folder(counting, location, tmp_path / "cache")
    assert list((tmp_path / "cache").rglob("*.bin")) == leftovers(tmp_path / "cache") == []
    assert student_folder(counting, location, tmp_path / "cache").is_dir()
