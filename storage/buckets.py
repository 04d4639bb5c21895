"""Objects in any bucket of the configured S3 server: pictures that others keep there, to list and to read."""

from collections.abc import Iterator
from dataclasses import dataclass

import urllib3
from minio.error import S3Error
from minio.helpers import DictType

from schemas.errors import InvalidInput, TooLarge, UnreadableFile
from schemas.settings import BlobSettings
from storage.blobs import s3_client, s3_errors

_CHUNK_BYTES = 1 << 20
# What is wrong with one object, not with the server.
_OBJECT_CODES = {
    "AccessDenied": "access denied",
    "NoSuchKey": "there is no such object",
    "NoSuchBucket": "there is no such bucket",
    "PreconditionFailed": "it changed while it was read; submit it again",
    "InvalidObjectState": "it is archived; restore it first",
    "InvalidBucketName": "that is no bucket's name",
}


@dataclass(frozen=True)
class S3Object:
    """One version of an object: what the server said of it when asked."""

    bucket: str
    key: str
    etag: str
    bytes: int

    @property
    def uri(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class Buckets:
    """The buckets that the configured credentials may read."""

    def __init__(self, settings: BlobSettings) -> None:
        if settings.access_key is None or settings.secret_key is None:
            names = "TAMPERWATCH_BLOBS__ENDPOINT, TAMPERWATCH_BLOBS__ACCESS_KEY and TAMPERWATCH_BLOBS__SECRET_KEY"
            raise InvalidInput(f"to read s3:// set {names}, also where the blob store is a directory")
        try:
            self._client = s3_client(settings, settings.access_key, settings.secret_key)
        except ValueError as error:
            raise InvalidInput(f"TAMPERWATCH_BLOBS__ENDPOINT is wrong (host:port, without http://): {error}") from error

    def objects(self, bucket: str, prefix: str) -> Iterator[S3Object]:
        """Every object whose key begins with `prefix`, in the order of keys, listed page by page as they are taken.

        The empty objects that some tools make for folders are left out.

        Raises:
            InvalidInput: there is no such bucket, or it may not be listed.
            BlobStoreUnavailable
        """
        with s3_errors(f"s3://{bucket}/{prefix}"):
            try:
                for found in self._client.list_objects(bucket, prefix=prefix, recursive=True):
                    if not found.object_name.endswith("/"):
                        yield S3Object(bucket, found.object_name, found.etag or "", found.size or 0)
            except S3Error as error:
                raise _not_listed(bucket, _OBJECT_CODES.get(error.code or "")) or error from error
            except ValueError as error:
                raise InvalidInput(f"s3://{bucket} cannot be listed: {error}") from error

    def stat(self, bucket: str, key: str) -> S3Object:
        """Ask for one object's size and ETag.

        Raises:
            UnreadableFile: it is not there, or may not be read.
            BlobStoreUnavailable
        """
        uri = f"s3://{bucket}/{key}"
        with s3_errors(uri):
            try:
                found = self._client.stat_object(bucket, key)
            except (S3Error, ValueError) as error:
                raise _unreadable(uri, error) or error from error
            return S3Object(bucket, key, found.etag or "", found.size or 0)

    def read(self, wanted: S3Object, max_bytes: int) -> bytes:
        """The bytes of exactly this version of an object; nothing is read of one that is too large.

        Raises:
            TooLarge
            UnreadableFile: it is gone, changed, or may not be read.
            BlobStoreUnavailable
        """
        if wanted.bytes > max_bytes:
            raise TooLarge(f"{wanted.bytes:,} bytes; the limit is {max_bytes:,} (TAMPERWATCH_LIMITS__MAX_BYTES)")
        with s3_errors(wanted.uri):
            try:
                same: DictType = {"If-Match": f'"{wanted.etag}"'} if wanted.etag else {}
                response = self._client.get_object(wanted.bucket, wanted.key, request_headers=same)
            except (S3Error, ValueError) as error:
                raise _unreadable(wanted.uri, error) or error from error
            try:
                return _read_at_most(response, max_bytes)
            finally:
                response.close()
                response.release_conn()


def _read_at_most(response: urllib3.BaseHTTPResponse, max_bytes: int) -> bytes:
    data = bytearray()
    for chunk in response.stream(_CHUNK_BYTES):
        data += chunk
        if len(data) > max_bytes:
            raise TooLarge(f"more than {max_bytes:,} bytes, the limit (TAMPERWATCH_LIMITS__MAX_BYTES)")
    return bytes(data)


def _not_listed(bucket: str, why: str | None) -> InvalidInput | None:
    return InvalidInput(f"s3://{bucket} cannot be listed: {why}") if why else None


def _unreadable(uri: str, error: S3Error | ValueError) -> UnreadableFile | None:
    """The picture's own error; None where it is the server's."""
    why = _OBJECT_CODES.get(error.code or "") if isinstance(error, S3Error) else str(error) or "that is no object's name"
    return UnreadableFile(f"cannot read {uri}: {why}") if why else None
