"""Pictures sent as multipart/form-data: read a piece at a time, onto disk where they are large, and checked by their headers."""

import hashlib
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from model.preprocess import PictureLimits, check_header
from schemas.errors import DiskFull, InvalidRequest, PictureError
from schemas.records import ErrorRecord
from schemas.states import AuditQueue
from web import examples
from web.references import ClientRef, SourceProfile, Wishes

_MOST_FIELDS: Final = 64
_FIELD_BYTES: Final = 4096
_NAME_CHARACTERS: Final = 255
_UNSHOWN: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class UploadForm(BaseModel):
    """The form of an upload: pictures, and how they are audited."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"example": examples.UPLOAD})

    file: list[str] = Field(
        min_length=1,
        description="the pictures, each with a file name",
        json_schema_extra={"items": {"type": "string", "format": "binary"}},
    )
    client_ref: list[ClientRef] | None = Field(default=None, description="your own names, as many as pictures, in their order")
    queue: AuditQueue = AuditQueue.DEFAULT
    profiles: str | None = Field(default=None, description="comma separated; as in a list of references", examples=["wechat"])
    source_profile: SourceProfile | None = None


@dataclass(frozen=True)
class Upload:
    """One picture that was sent.

    Attributes:
        file: at its beginning; closed with the form it came in.
        sha256: of its bytes; None where it is refused.
        error: why it is refused.
    """

    name: str
    file: BinaryIO
    size_bytes: int
    sha256: str | None
    error: PictureError | None = None

    @property
    def error_record(self) -> ErrorRecord | None:
        return None if self.error is None else ErrorRecord(code=self.error.code, message=self.error.message)


@dataclass(frozen=True)
class Form:
    """A whole upload, spooled and checked."""

    uploads: Sequence[Upload]
    client_refs: Sequence[str] | None
    wishes: Wishes

    @property
    def fingerprint(self) -> str:
        """What was sent, whatever boundary it was sent with."""
        pictures = [(each.name, each.sha256, each.size_bytes) for each in self.uploads]
        said = (pictures, self.client_refs, self.wishes.model_dump(mode="json"))
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()


class _Parser(MultiPartParser):
    # Of each file; what is larger lies on disk. With TAMPERWATCH_WEB__MAX_FILES it bounds what an upload holds in memory.
    spool_max_size = 1 << 18


async def read_form(request: Request, limits: PictureLimits, max_files: int, closing: ExitStack) -> Form:
    """Take in an upload.

    Args:
        closing: closes the spooled files.

    Raises:
        InvalidRequest: it is no form, or a field is wrong.
        DiskFull: no room to spool it.
    """
    parser = _Parser(request.headers, request.stream(), max_files=max_files, max_fields=_MOST_FIELDS, max_part_size=_FIELD_BYTES)
    try:
        data = await parser.parse()
    except (MultiPartException, UnicodeError) as error:
        raise InvalidRequest(f"the form cannot be read: {getattr(error, 'message', error)}") from error
    except OSError as error:
        raise DiskFull(f"no room in {tempfile.gettempdir()} for an upload: {error.strerror or error}") from error
    files = []
    for _, value in data.multi_items():
        if isinstance(value, UploadFile):
            closing.callback(value.file.close)
            files.append(value)
    wishes, client_refs = _wishes(data.multi_items(), len(files))
    uploads = await run_in_threadpool(lambda: [_checked(each, limits) for each in files])
    return Form(uploads, client_refs, wishes)


def _wishes(items: Sequence[tuple[str, object]], n_files: int) -> tuple[Wishes, list[str] | None]:
    """The fields beside the pictures.

    Raises:
        InvalidRequest
    """
    fields: dict[str, list[str]] = {}
    for name, value in items:
        if isinstance(value, UploadFile) != (name == "file"):
            raise InvalidRequest("pictures come as `file`, each with a file name, and all else as plain fields")
        if isinstance(value, str):
            fields.setdefault(name, []).append(value)
    if n_files == 0:
        raise InvalidRequest("no picture was sent: give at least one `file`")
    refs = fields.pop("client_ref", None)
    if repeated := [name for name, values in fields.items() if len(values) > 1]:
        raise InvalidRequest(f"{repeated[0]}: given more than once")
    given: dict[str, object] = {name: values[0] for name, values in fields.items()}
    if isinstance(names := given.get("profiles"), str):
        given["profiles"] = tuple(each.strip() for each in names.split(",") if each.strip())
    with _invalid_fields():
        if refs is not None:
            refs = TypeAdapter(list[ClientRef]).validate_python(refs)
        wishes = Wishes.model_validate(given)
    if refs is not None and (len(refs) != n_files or len(set(refs)) != n_files):
        raise InvalidRequest(f"client_ref: {n_files} different ones are needed, one for each picture")
    return wishes, refs


@contextmanager
def _invalid_fields() -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        words = [f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors(include_input=False)]
        raise InvalidRequest("; ".join(words)) from error


def _checked(upload: UploadFile, limits: PictureLimits) -> Upload:
    """A spooled file held against the limits, and hashed."""
    name, size_bytes, file = safe_name(upload.filename or ""), upload.size or 0, upload.file
    file.seek(0)
    try:
        check_header(file, size_bytes, limits)
    except PictureError as error:
        return Upload(name, file, size_bytes, None, error)
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(1 << 18):
        digest.update(piece)
    file.seek(0)
    return Upload(name, file, size_bytes, digest.hexdigest())


def safe_name(filename: str) -> str:
    """The last part of a file's name, without characters that cannot be shown; it is only ever shown."""
    last = re.split(r"[/\\]", filename)[-1]
    shown = _UNSHOWN.sub("", last).strip()[:_NAME_CHARACTERS]
    return shown if shown.strip(".") else "upload"
