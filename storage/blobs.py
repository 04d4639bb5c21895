"""Bytes under keys: a directory or an S3 server behind one small protocol.

Keys are written once: the content of a key never changes, so putting it twice is harmless. Where several writers may have
different bytes for one key, `put_new` lets the first one win.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from pydantic import SecretStr

from schemas.errors import BlobMissing, BlobStoreUnavailable, DiskFull, InvalidInput, TooLarge
from schemas.settings import BlobSettings

_KEY = re.compile(r"[a-z0-9]+(?:[/._-][a-z0-9]+)*")
_MISSING_CODES = frozenset({"NoSuchKey", "NoSuchObject"})
_BUCKET_IS_THERE_CODES = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})
_CONDITIONAL_PUT_TRIES = 3
_PRESIGNED_FOR = timedelta(minutes=5)
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class StoredBlob:
    """A key that holds bytes.

    Attributes:
        put_at: when they were put last. Putting the same bytes again makes a blob young, so that nothing that
            removes old blobs takes one from under a job that was submitted just now.
    """

    key: str
    bytes: int
    put_at: datetime


class BlobStore(Protocol):
    """Where picture bytes live."""

    def put(self, key: str, data: bytes) -> None:
        """Store bytes under a key.

        Raises:
            BlobStoreUnavailable, DiskFull
        """
        ...

    def put_file(self, key: str, file: BinaryIO, size_bytes: int) -> None:
        """Store what is left to read of a file, `size_bytes`, under a key, a piece at a time.

        Raises:
            BlobStoreUnavailable, DiskFull
        """
        ...

    def put_new(self, key: str, data: bytes) -> bool:
        """Store bytes under a key that has none yet. Of writers who come at once, one wins, and a reader sees all of its bytes.

        Returns:
            False where the key is there; its bytes stay as they are. After a lost connection to S3 these may be our own.

        Raises:
            BlobStoreUnavailable, DiskFull
        """
        ...

    def get(self, key: str, max_bytes: int) -> bytes:
        """Read the bytes of a key, refusing before reading when they are more than `max_bytes`.

        Raises:
            BlobMissing, TooLarge, BlobStoreUnavailable
        """
        ...

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of a key, a piece at a time; the key is looked for when the first one is taken.

        Raises:
            BlobMissing, BlobStoreUnavailable
        """
        ...

    def exists(self, key: str) -> bool: ...

    def delete(self, key: str) -> None:
        """Forget a key; no error if it is not there."""
        ...

    def stat(self, key: str) -> StoredBlob | None:
        """What is known of a key without reading it; None if it is not there."""
        ...

    def list(self, prefix: str) -> Iterator[StoredBlob]:
        """Everything in the folder `prefix`, or at all where that is empty, in the order of the keys and at constant memory.

        What is put or deleted meanwhile may be missing or listed: ask `stat` before acting on it. (SeaweedFS sorts folder
        by folder, S3 by whole keys; for keys that all lie equally deep the two are the same.)
        """
        ...


def picture_key(sha256: str) -> str:
    """The key of a picture's bytes."""
    return f"pictures/{sha256[:2]}/{sha256}"


def open_blob_store(settings: BlobSettings) -> BlobStore:
    """The backend that the settings name. The S3 backend makes its bucket if it is missing."""
    if settings.backend == "directory":
        return DirectoryBlobStore(settings.directory)
    return MinioBlobStore(settings)


class DirectoryBlobStore:
    """Files below one root. Written beside and moved into place, so that a reader never sees half a file."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, BytesIO(data), len(data))

    def put_file(self, key: str, file: BinaryIO, size_bytes: int) -> None:  # noqa: ARG002
        path = self._path(key)
        try:
            with suppress(FileNotFoundError):
                os.utime(path)
                return
            with _written_beside(path, file) as temporary:
                os.replace(temporary, path)
        except OSError as error:
            raise _disk_error(error, path) from error

    def put_new(self, key: str, data: bytes) -> bool:
        path = self._path(key)
        try:
            if path.exists():
                return False
            with _written_beside(path, BytesIO(data)) as temporary:
                os.link(temporary, path)  # unlike a rename, it refuses a name that is taken
        except FileExistsError:
            return False
        except OSError as error:
            raise _disk_error(error, path) from error
        return True

    def get(self, key: str, max_bytes: int) -> bytes:
        path = self._path(key)
        try:
            with path.open("rb") as file:
                _check_size(key, os.fstat(file.fileno()).st_size, max_bytes)
                return file.read()
        except FileNotFoundError as error:
            raise BlobMissing(f"no blob {key} in {self._root}") from error
        except OSError as error:
            raise _disk_error(error, path) from error

    def read(self, key: str) -> Iterator[bytes]:
        path = self._path(key)
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    yield piece
        except FileNotFoundError as error:
            raise BlobMissing(f"no blob {key} in {self._root}") from error
        except OSError as error:
            raise _disk_error(error, path) from error

    def exists(self, key: str) -> bool:
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        path = self._path(key)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _disk_error(error, path) from error

    def stat(self, key: str) -> StoredBlob | None:
        path = self._path(key)
        try:
            return _stored(key, path.stat())
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _disk_error(error, path) from error

    def list(self, prefix: str) -> Iterator[StoredBlob]:
        folder = self._path(prefix) if prefix else self._root
        try:
            # One folder at a time; keys are spread over many. What is being written begins with a dot.
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in sorted((each for each in entries if not each.name.startswith(".")), key=_listing_order):
                    key = f"{prefix}/{entry.name}" if prefix else entry.name
                    if entry.is_dir(follow_symlinks=False):
                        yield from self.list(key)
                    else:
                        with suppress(FileNotFoundError):  # deleted since
                            yield _stored(key, entry.stat())
        except OSError as error:
            raise _disk_error(error, folder) from error

    def _path(self, key: str) -> Path:
        return self._root / _checked(key)


class MinioBlobStore:
    """Objects in one bucket of an S3 server, through the minio SDK."""

    def __init__(self, settings: BlobSettings) -> None:
        if settings.access_key is None or settings.secret_key is None:
            raise InvalidInput("the minio backend needs TAMPERWATCH_BLOBS__ACCESS_KEY and TAMPERWATCH_BLOBS__SECRET_KEY")
        self._bucket = settings.bucket
        try:
            self._pool = s3_pool()
            self._client = s3_client(settings, settings.access_key, settings.secret_key, self._pool)
            self._make_bucket()
        except ValueError as error:
            names = "TAMPERWATCH_BLOBS__ENDPOINT (host:port, without http://) or TAMPERWATCH_BLOBS__BUCKET"
            raise InvalidInput(f"{names} is wrong: {error}") from error

    def put(self, key: str, data: bytes) -> None:
        self.put_file(key, BytesIO(data), len(data))

    def put_file(self, key: str, file: BinaryIO, size_bytes: int) -> None:
        with s3_errors(key):
            self._client.put_object(self._bucket, _checked(key), file, size_bytes)

    def put_new(self, key: str, data: bytes) -> bool:
        # The SDK has no way to say If-None-Match; over a URL that it has signed, we say it ourselves.
        with s3_errors(key):
            url = self._client.get_presigned_url("PUT", self._bucket, _checked(key), _PRESIGNED_FOR)
            for _ in range(_CONDITIONAL_PUT_TRIES):
                answer = self._pool.request("PUT", url, body=data, headers={"If-None-Match": "*"})
                if answer.status != HTTPStatus.CONFLICT:  # another writer was at it: only asking again tells how that ended
                    break
        if answer.status == HTTPStatus.INSUFFICIENT_STORAGE:
            raise DiskFull("the S3 server has no space left")
        if answer.status not in (HTTPStatus.OK, HTTPStatus.PRECONDITION_FAILED):
            raise BlobStoreUnavailable(f"the S3 server refused {key}: HTTP status {answer.status}")
        return answer.status == HTTPStatus.OK

    def get(self, key: str, max_bytes: int) -> bytes:
        with s3_errors(key):
            response = self._client.get_object(self._bucket, _checked(key))
            try:
                _check_size(key, int(response.headers["Content-Length"]), max_bytes)
                return response.read()
            finally:
                response.close()
                response.release_conn()

    def read(self, key: str) -> Iterator[bytes]:
        with s3_errors(key):
            response = self._client.get_object(self._bucket, _checked(key))
            try:
                yield from response.stream(_PIECE_BYTES)
            finally:
                response.close()
                response.release_conn()

    def exists(self, key: str) -> bool:
        try:
            with s3_errors(key):
                self._client.stat_object(self._bucket, _checked(key))
        except BlobMissing:
            return False
        return True

    def delete(self, key: str) -> None:
        with s3_errors(key):
            self._client.remove_object(self._bucket, _checked(key))

    def stat(self, key: str) -> StoredBlob | None:
        try:
            with s3_errors(key):
                found = self._client.stat_object(self._bucket, _checked(key))
        except BlobMissing:
            return None
        return _stored_object(key, found)

    def list(self, prefix: str) -> Iterator[StoredBlob]:
        with s3_errors(prefix):
            folder = f"{_checked(prefix)}/" if prefix else ""
            for found in self._client.list_objects(self._bucket, folder, recursive=True):
                yield _stored_object(str(found.object_name), found)

    def _make_bucket(self) -> None:
        with s3_errors(self._bucket):
            try:
                if not self._client.bucket_exists(self._bucket):
                    self._client.make_bucket(self._bucket)
            except S3Error as error:
                # Another worker was faster.
                if error.code not in _BUCKET_IS_THERE_CODES:
                    raise


def _stored(key: str, status: os.stat_result) -> StoredBlob:
    return StoredBlob(key, status.st_size, datetime.fromtimestamp(status.st_mtime, UTC))


def _stored_object(key: str, found: Any) -> StoredBlob:
    return StoredBlob(key, found.size or 0, found.last_modified)


def _listing_order(entry: os.DirEntry[str]) -> str:
    """By whole keys, as S3 sorts them."""
    return f"{entry.name}/" if entry.is_dir(follow_symlinks=False) else entry.name


def s3_pool() -> urllib3.PoolManager:
    """Connections with time-outs; none is open yet."""
    return urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=5, read=30), retries=urllib3.Retry(total=2, backoff_factor=0.2), maxsize=32
    )


def s3_client(
    settings: BlobSettings, access_key: SecretStr, secret_key: SecretStr, pool: urllib3.PoolManager | None = None
) -> Minio:
    """A client of the S3 server that the settings name, with time-outs; nothing is connected yet."""
    return Minio(
        settings.endpoint,
        access_key=access_key.get_secret_value(),
        secret_key=secret_key.get_secret_value(),
        secure=settings.secure,
        region=settings.region,
        http_client=pool or s3_pool(),
    )


def _checked(key: str) -> str:
    """Only keys that no file system or S3 server can read as a path elsewhere."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key!r}")
    return key


def _check_size(key: str, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise TooLarge(f"{size_bytes:,} bytes; the limit is {max_bytes:,} (blob {key})")


@contextmanager
def _written_beside(path: Path, source: BinaryIO) -> Iterator[str]:
    """The name of a file with these bytes in the folder of `path`, gone again unless it was moved."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".put-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            shutil.copyfileobj(source, file, _PIECE_BYTES)
        yield temporary
    finally:
        Path(temporary).unlink(missing_ok=True)


def _disk_error(error: OSError, path: Path) -> BlobStoreUnavailable | DiskFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(f"no space left to write {path}; free some and run again")
    return BlobStoreUnavailable(f"cannot use {path}: {error.strerror or error}")


@contextmanager
def s3_errors(key: str) -> Iterator[None]:
    """What the minio SDK raises over `key`, as errors of ours."""
    try:
        yield
    except S3Error as error:
        if error.code in _MISSING_CODES:
            raise BlobMissing(f"no blob {key} in the bucket") from error
        if error.code in ("XMinioStorageFull", "InsufficientStorage"):
            raise DiskFull("the S3 server has no space left") from error
        raise BlobStoreUnavailable(f"the S3 server refused {key}: {error.code}: {error.message}") from error
    except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
        raise BlobStoreUnavailable(f"the S3 server does not answer: {error}") from error
