"""What can be submitted: files, S3 objects, and pictures whose bytes are stored already; each read only when it is needed."""

import os
import re
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from schemas.errors import InvalidInput, TamperwatchError, TooLarge, UnreadableFile
from schemas.records import ErrorRecord
from schemas.settings import BlobSettings
from schemas.states import AuditQueue
from storage.blobs import picture_key
from storage.buckets import Buckets, S3Object

# A file written this recently may change again without its modification time showing it.
_SETTLED_S = 2.0
_PICTURE_KEY = re.compile(r"pictures/[0-9a-f]{2}/([0-9a-f]{64})")


class Content(Protocol):
    """Bytes that lie somewhere else than in the blob store."""

    def stamp(self) -> str | None:
        """A text that changes when the bytes do, had without reading them; None if there is none to trust."""
        ...

    def read(self, max_bytes: int) -> bytes:
        """The bytes.

        Raises:
            TooLarge, UnreadableFile, BlobStoreUnavailable
        """
        ...


@dataclass(frozen=True)
class Source:
    """One picture to submit. Exactly one of `content`, `sha256`, `url` and `error` is given.

    Attributes:
        name: what people will see, valid Unicode.
        content: where its bytes are.
        sha256: of bytes that lie in the blob store already.
        url: where a worker fetches the bytes; nothing is read now.
        error: why it is refused before anything is read.
        client_ref: the submitter's own name for this request; by default made of name, bytes and question.
        source_profile: the network it was taken from.
        queue, profiles: where they are not the submission's.
    """

    name: str
    content: Content | None = None
    sha256: str | None = None
    error: ErrorRecord | None = None
    client_ref: str | None = None
    source_profile: str | None = None
    queue: AuditQueue | None = None
    profiles: tuple[str, ...] | None = None
    url: str | None = None


@dataclass(frozen=True)
class SourceFile:
    """A file to submit, under the name people will see (valid Unicode, also where the file's own is not)."""

    path: Path
    name: str

    @property
    def source(self) -> Source:
        return Source(self.name, FileContent(self.path))


@dataclass(frozen=True)
class FileContent:
    """A file's bytes."""

    path: Path

    def stamp(self) -> str | None:
        try:
            status = self.path.stat()
        except OSError:
            return None
        if time.time() - status.st_mtime < _SETTLED_S:
            return None
        return f"file\n{os.path.realpath(self.path)}\n{status.st_size}\n{status.st_mtime_ns}\n{status.st_ino}"

    def read(self, max_bytes: int) -> bytes:
        try:
            status = self.path.stat()
            if not stat.S_ISREG(status.st_mode):
                # Reading a pipe or a device could wait for ever.
                raise UnreadableFile(f"{self.path.name} is not a regular file")
            if status.st_size > max_bytes:
                raise TooLarge(f"{status.st_size:,} bytes; the limit is {max_bytes:,} (TAMPERWATCH_LIMITS__MAX_BYTES)")
            return self.path.read_bytes()
        except OSError as error:
            raise UnreadableFile(f"cannot read {self.path.name}: {error.strerror or error}") from error


@dataclass(frozen=True)
class ObjectContent:
    """An S3 object's bytes."""

    buckets: Buckets
    found: S3Object

    def stamp(self) -> str | None:
        return f"{self.found.uri}\n{self.found.bytes}\n{self.found.etag}" if self.found.etag else None

    def read(self, max_bytes: int) -> bytes:
        return self.buckets.read(self.found, max_bytes)


class NamedObject:
    """An S3 object that was named, not listed: the server is asked about it, once, when its turn comes."""

    def __init__(self, buckets: Buckets, bucket: str, key: str) -> None:
        self._buckets, self._bucket, self._key = buckets, bucket, key
        self._found: ObjectContent | None = None

    def stamp(self) -> str | None:
        try:
            return self._asked().stamp()
        except TamperwatchError:
            return None  # reading it will say why

    def read(self, max_bytes: int) -> bytes:
        return self._asked().read(max_bytes)

    def _asked(self) -> ObjectContent:
        if self._found is None:
            self._found = ObjectContent(self._buckets, self._buckets.stat(self._bucket, self._key))
        return self._found


def s3_sources(uri: str, settings: BlobSettings) -> Iterator[Source]:
    """Every object below `s3://bucket/prefix`, listed as it is taken.

    Objects of our own blob store that are stored pictures are referenced, not copied.

    Raises:
        InvalidInput: the address is no `s3://bucket/prefix`, or there is no such bucket.
        BlobStoreUnavailable: the server went away; what was taken is in.
    """
    bucket, prefix = parse_s3(uri)
    buckets = Buckets(settings)
    for found in buckets.objects(bucket, prefix):
        sha256 = stored_sha256(found.bucket, found.key, settings)
        yield Source(found.uri, content=None if sha256 else ObjectContent(buckets, found), sha256=sha256)


def parse_s3(uri: str) -> tuple[str, str]:
    """Bucket and key, or prefix, of an `s3://` address.

    Raises:
        InvalidInput
    """
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    if not uri.startswith("s3://") or not bucket:
        raise InvalidInput(f"not an address of the form s3://bucket/prefix: {uri}")
    return bucket, key


def stored_sha256(bucket: str, key: str, settings: BlobSettings) -> str | None:
    """The sha256 of a picture whose object is one of our blob store's own."""
    found = _PICTURE_KEY.fullmatch(key)
    ours = settings.backend == "minio" and bucket == settings.bucket
    return found[1] if ours and found and key == picture_key(found[1]) else None
