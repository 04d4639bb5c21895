"""A student's files in the blob store, from where every worker fetches them once, and the folder where it keeps them.

`models/<version>/<sha256 of the card>/<file>`: the location in the version's row names the hash of the card and the card
names those of all other files, so nothing can be swapped in between, and another card of the same version lies elsewhere.
The card is stored last: where it can be read, the rest is there.
"""

import errno
import hashlib
import os
import re
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from pydantic import BaseModel, Field, ValidationError

from schemas.errors import BlobMissing, DiskFull, EnvironmentMissing, ModelInvalid, TooLarge
from storage.blobs import BlobStore

CARD_NAME: Final = "card.json"
SCHEME: Final = "blob:"
LARGEST_CARD_BYTES: Final = 4_000_000
LARGEST_FILE_BYTES: Final = 200_000_000
MOST_FILES: Final = 16
KEPT_FOLDERS: Final = 12
"""Fetched students kept in a cache; those used longest ago go first. A roll-back fetches what is gone again."""

_PART = r"[a-z0-9]+(?:[._-][a-z0-9]+)*"
_LOCATION = re.compile(rf"blob:(?P<folder>models/(?P<version>{_PART})/(?P<card>[0-9a-f]{{64}}))")


class _File(BaseModel):
    """One file that a card names; as in `model.card`, which storage does not import."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=128)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(gt=0, le=LARGEST_FILE_BYTES)


class _Files(BaseModel):
    """What a card says of its files; the rest of it is for `model.card`."""

    version: str
    files: dict[str, _File] = Field(max_length=MOST_FILES)


def store_student(blobs: BlobStore, folder: Path, version: str) -> str:
    """Put the files of a published student into the blob store; doing so again is harmless.

    Args:
        folder: card.json and the files it names.
        version: as in the card.

    Returns:
        The location for the version's row.

    Raises:
        ModelInvalid: a file is missing, damaged or too large, or the card is another version's.
        BlobStoreUnavailable, DiskFull
    """
    card = _read(folder / CARD_NAME, LARGEST_CARD_BYTES)
    listed = _listed(card, str(folder))
    if listed.version != version:
        raise ModelInvalid(f"{folder} holds {listed.version}, not {version}")
    place = f"models/{_key_part(version)}/{hashlib.sha256(card).hexdigest()}"
    for file in listed.files.values():
        data = _read(folder / file.name, LARGEST_FILE_BYTES)
        _check(data, file, str(folder))
        blobs.put(f"{place}/{_key_part(file.name)}", data)
    blobs.put(f"{place}/{CARD_NAME}", card)
    return SCHEME + place


def student_folder(blobs: BlobStore, location: str, cache_dir: Path) -> Path:
    """A folder on this machine with a student's files, each checked against the card.

    Many processes may ask at once: each fetches into a folder of its own, and the first one's is kept.

    Args:
        location: what `store_student` returned, or a folder, which is checked and returned as it is.
        cache_dir: keeps what was fetched. `~` is the user's home.

    Raises:
        ModelInvalid: files are missing or damaged. What the cache holds of them is removed, so that the next try fetches anew.
        EnvironmentMissing: the cache cannot be written.
        BlobStoreUnavailable, DiskFull
    """
    if not location.startswith(SCHEME):
        _verify(Path(location), None)
        return Path(location)
    found = _LOCATION.fullmatch(location)
    if found is None:
        raise ModelInvalid(f"{location!r} is no place of a student in the blob store; import it again")
    cache, card_sha256 = cache_dir.expanduser(), found["card"]
    folder = cache / found["version"] / card_sha256
    try:
        if folder.is_dir() and _usable(folder, card_sha256):
            return folder
        _fetch(blobs, found["folder"], card_sha256, folder)
        _forget_oldest(cache, folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"no space left to keep a model in {cache}; free some") from error
        raise EnvironmentMissing(
            f"cannot keep a model in {cache}: {error.strerror or error}; set TAMPERWATCH_ENGINE__MODEL_CACHE to another folder"
        ) from error
    return folder


def _usable(folder: Path, card_sha256: str) -> bool:
    """Whether a fetched folder is as it was fetched; it is removed if not. One that is, is noted as used just now."""
    try:
        _verify(folder, card_sha256)
    except ModelInvalid:
        _remove(folder)
        return False
    os.utime(folder)
    return True


def _fetch(blobs: BlobStore, place: str, card_sha256: str, folder: Path) -> None:
    """Fetch beside, check, and move into place in one step."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".fetch-"))
    try:
        card = _get(blobs, f"{place}/{CARD_NAME}", LARGEST_CARD_BYTES)
        (staging / CARD_NAME).write_bytes(card)
        for file in _listed(card, place).files.values():
            (staging / file.name).write_bytes(_get(blobs, f"{place}/{_key_part(file.name)}", file.bytes))
        _verify(staging, card_sha256)
        staging.chmod(0o755)  # mkdtemp's is for one user alone
        _move_into_place(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _move_into_place(staging: Path, folder: Path) -> None:
    try:
        staging.rename(folder)
    except OSError as error:
        # Another process was faster; its files have the same hashes.
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def _remove(folder: Path) -> None:
    """Out of everybody's sight in one step, then for good."""
    aside = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".gone-"))
    with suppress(FileNotFoundError):  # removed by another process
        folder.rename(aside / folder.name)
    shutil.rmtree(aside, ignore_errors=True)


def _forget_oldest(cache: Path, keep: Path) -> None:
    folders = [each for each in cache.glob("*/*") if not each.name.startswith(".") and each != keep]
    by_age = sorted(((_used_at(each), each) for each in folders), reverse=True)
    for _, each in by_age[KEPT_FOLDERS - 1 :]:
        _remove(each)


def _used_at(folder: Path) -> float:
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def _verify(folder: Path, card_sha256: str | None) -> None:
    """Check every file of a folder against its card, and the card against its hash where that is known."""
    card = _read(folder / CARD_NAME, LARGEST_CARD_BYTES)
    if card_sha256 is not None and hashlib.sha256(card).hexdigest() != card_sha256:
        raise ModelInvalid(f"{folder / CARD_NAME} is not the card that was stored; it may be damaged or replaced")
    for file in _listed(card, str(folder)).files.values():
        _check(_read(folder / file.name, LARGEST_FILE_BYTES), file, str(folder))


def _check(data: bytes, file: _File, where: str) -> None:
    if hashlib.sha256(data).hexdigest() != file.sha256:
        raise ModelInvalid(
            f"{file.name} in {where} does not match the sha256 in its card; restore the file, it may be damaged or replaced"
        )


def _listed(card: bytes, where: str) -> _Files:
    try:
        return _Files.model_validate_json(card)
    except ValidationError as error:
        raise ModelInvalid(f"{CARD_NAME} in {where} cannot be read as a model card: {error}") from error


def _read(path: Path, most_bytes: int) -> bytes:
    try:
        if path.stat().st_size > most_bytes:
            raise ModelInvalid(f"{path} is larger than {most_bytes:,} bytes, which no student's file is")
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ModelInvalid(f"{path} does not exist; a student folder holds {CARD_NAME} beside its weights") from error
    except OSError as error:
        raise ModelInvalid(f"{path} cannot be read: {error.strerror or error}") from error


def _get(blobs: BlobStore, key: str, most_bytes: int) -> bytes:
    try:
        return blobs.get(key, most_bytes)
    except BlobMissing as error:
        raise ModelInvalid(f"{key} is gone from the blob store; import the student again") from error
    except TooLarge as error:
        raise ModelInvalid(f"{key} in the blob store is larger than its card says; import the student again") from error


def _key_part(name: str) -> str:
    """A name as a part of a blob key, which knows no capitals: its hash where it has any."""
    return name if re.fullmatch(_PART, name) else f"sha256-{hashlib.sha256(name.encode()).hexdigest()}"
