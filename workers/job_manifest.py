"""Manifests of jobs: JSON lines of any number, read one by one; a bad line is a failure under its number, never the end."""

import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from schemas.errors import InvalidMessage, TamperwatchError
from schemas.messages import MAX_URL, SOURCE_PROFILE
from schemas.records import ErrorRecord
from schemas.settings import BlobSettings
from schemas.states import AuditQueue
from storage.buckets import Buckets
from workers.sources import Content, FileContent, NamedObject, Source, parse_s3, stored_sha256

MAX_LINE_BYTES = 1 << 16
_NAME = r"^[^\x00]*$"


class ManifestLine(BaseModel):
    """One line: a picture by its path, its S3 address, the sha256 under which it is stored already, or its URL."""

    model_config = ConfigDict(extra="forbid")

    path: str | None = Field(default=None, min_length=1, max_length=2800, pattern=_NAME, description="file, or s3://bucket/key")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="of bytes that lie in the blob store")
    url: str | None = Field(
        default=None,
        max_length=MAX_URL,
        pattern=r"^(?i:https?)://[^\s\x00-\x1f]+$",
        description="where a worker finds the bytes",
    )
    name: str | None = Field(default=None, min_length=1, max_length=2800, pattern=_NAME, description="what people will see")
    client_ref: str | None = Field(default=None, min_length=1, max_length=512, pattern=_NAME)
    source_profile: str | None = Field(default=None, pattern=SOURCE_PROFILE)
    queue: AuditQueue | None = None
    profiles: tuple[str, ...] | None = Field(default=None, max_length=8)

    @model_validator(mode="after")
    def _names_one_picture(self) -> "ManifestLine":
        if [self.path, self.sha256, self.url].count(None) != 2:
            raise ValueError("give one of path, sha256 and url")
        return self


def manifest_sources(
    lines: BinaryIO, name: str, folder: Path, settings: BlobSettings, known_profiles: tuple[str, ...]
) -> Iterator[Source]:
    """The pictures a manifest names, in its order, at constant memory. Empty lines are left out.

    Args:
        lines: the manifest's bytes, UTF-8.
        name: of the manifest, for the names of bad lines.
        folder: what relative paths are relative to.
        settings: where `s3://` addresses are.
        known_profiles: simulated deliveries that a line may ask for.
    """
    # Made when the first line needs it: a manifest of files needs no S3 server.
    buckets = functools.cache(lambda: Buckets(settings))
    for number, line in _numbered_lines(lines):
        try:
            if line is None:
                raise InvalidMessage(f"longer than {MAX_LINE_BYTES:,} bytes")
            yield _source(_parsed(line, known_profiles), folder, settings, buckets)
        except TamperwatchError as error:
            yield _refused(f"{name}:{number}", line or b"", f"line {number}: {error.message}")


def _numbered_lines(lines: BinaryIO) -> Iterator[tuple[int, bytes | None]]:
    """Number and content of every line that is not blank; None for the content of one that is too long."""
    number = 0
    while line := lines.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(line) > MAX_LINE_BYTES and not line.endswith(b"\n"):
            while (rest := lines.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, None
        elif line := line.strip():
            yield number, line


def _parsed(line: bytes, known_profiles: tuple[str, ...]) -> ManifestLine:
    try:
        parsed = ManifestLine.model_validate_json(line)
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, each['loc'])) or 'line'}: {each['msg']}" for each in error.errors(include_input=False)]
        raise InvalidMessage("; ".join(wrong)) from error
    unknown = [each for each in parsed.profiles or () if each not in known_profiles]
    if unknown:
        raise InvalidMessage(f"profiles: unknown {', '.join(unknown)}; known are {', '.join(known_profiles)}")
    return parsed


def _source(line: ManifestLine, folder: Path, settings: BlobSettings, buckets: Callable[[], Buckets]) -> Source:
    sha256 = line.sha256
    content: Content | None = None
    if line.path is not None and line.path.startswith("s3://"):
        bucket, key = parse_s3(line.path)
        sha256 = stored_sha256(bucket, key, settings)
        content = None if sha256 else NamedObject(buckets(), bucket, key)
    elif line.path is not None:
        content = FileContent(folder / line.path)
    return Source(
        name=line.name or line.path or line.sha256 or (line.url or "").partition("?")[0],
        content=content,
        sha256=sha256,
        client_ref=line.client_ref,
        source_profile=line.source_profile,
        queue=line.queue,
        profiles=line.profiles,
        url=line.url,
    )


def _refused(name: str, line: bytes, why: str) -> Source:
    reference = hashlib.sha256(name.encode("utf-8", "surrogateescape") + b"\n" + line).hexdigest()
    return Source(name, error=ErrorRecord(code=InvalidMessage.code, message=why), client_ref=reference)
