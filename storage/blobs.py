"""Bytes under keys: a directory or an S3 server behind one small protocol.

Keys are written once: the content of a key never changes, so putting it twice is harmless.
"""

import errno
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import urllib3
from minio import Minio
from minio.error import MinioException, S3Error
from pydantic import SecretStr

from schemas.errors import BlobMissing, BlobStoreUnavailable, DiskFull, InvalidInput, TooLarge
from schemas.settings import BlobSettings

_KEY = re.compile(r"[a-z0-9]+(?:[/._-][a-z0-9]+)*")
_MISSING_CODES = frozenset({"NoSuchKey", "NoSuchObject"})
_BUCKET_IS_THERE_CODES = frozenset({"BucketAlreadyOwnedByYou", "BucketAlreadyExists"})


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

    def get(self, key: str, max_bytes: int) -> bytes:
        """Read the bytes of a key, refusing before reading when they are more than `max_bytes`.

        Raises:
            BlobMissing, TooLarge, BlobStoreUnavailable
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
        """Everything in the folder `prefix`, in the order of the keys and at constant memory.

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
        path = self._path(key)
        try:
            with suppress(FileNotFoundError):
                os.utime(path)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=".put-")
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(data)
                os.replace(temporary, path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as error:
            raise _disk_error(error, path) from error

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
        folder = self._path(prefix)
        try:
            # One folder at a time; keys are spread over many. What is being written begins with a dot.
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in sorted((each for each in entries if not each.name.startswith(".")), key=_listing_order):
                    key = f"{prefix}/{entry.name}"
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
            self._client = s3_client(settings, settings.access_key, settings.secret_key)
            self._make_bucket()
        except ValueError as error:
            names = "TAMPERWATCH_BLOBS__ENDPOINT (host:port, without http://) or TAMPERWATCH_BLOBS__BUCKET"
            raise InvalidInput(f"{names} is wrong: {error}") from error

    def put(self, key: str, data: bytes) -> None:
        with s3_errors(key):
            self._client.put_object(self._bucket, _checked(key), BytesIO(data), len(data))

    def get(self, key: str, max_bytes: int) -> bytes:
        with s3_errors(key):
            response = self._client.get_object(self._bucket, _checked(key))
            try:
                _check_size(key, int(response.headers["Content-Length"]), max_bytes)
                return response.read()
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
            for found in self._client.list_objects(self._bucket, f"{_checked(prefix)}/", recursive=True):
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


def s3_client(settings: BlobSettings, access_key: SecretStr, secret_key: SecretStr) -> Minio:
    """A client of the S3 server that the settings name, with time-outs; nothing is connected yet."""
    return Minio(
        settings.endpoint,
        access_key=access_key.get_secret_value(),
        secret_key=secret_key.get_secret_value(),
        secure=settings.secure,
        region=settings.region,
        http_client=urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=5, read=30), retries=urllib3.Retry(total=2, backoff_factor=0.2), maxsize=32
        ),
    )


def _checked(key: str) -> str:
    """Only keys that no file system or S3 server can read as a path elsewhere."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"not a blob key: {key!r}")
    return key


def _check_size(key: str, size_bytes: int, max_bytes: int) -> None:
    if size_bytes > max_bytes:
        raise TooLarge(f"{size_bytes:,} bytes; the limit is {max_bytes:,} (blob {key})")


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
