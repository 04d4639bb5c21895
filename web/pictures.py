"""A result's pictures as bytes: drawn when they are asked for, under tags that are known before anything is drawn."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import PIL
from fastapi import Request, Response
from PIL import Image
from starlette.responses import StreamingResponse

from model import preprocess, render
from model.budget import PixelBudget
from schemas.errors import BlobMissing, NotFound, OutputFailed
from schemas.tables import AuditResult
from storage import queries
from storage.blobs import picture_key
from storage.queries import AuditedJob
from web.context import Context

# Level 1 is four times as fast as zlib's default and a tenth larger; people wait for these files.
_PNG_LEVEL: Final = 1
# A picture, its mask, its overlay and what is in between take some 20 bytes a pixel.
DRAWING: Final = PixelBudget(80_000_000)
# Raised with every change of what is drawn, so that no cache keeps the old one.
_DRAWN_AS: Final = f"1 pillow {PIL.__version__}"
_HEAD_BYTES: Final = 32
_SHOWN_BY_ALL: Final = frozenset({"image/jpeg", "image/png", "image/webp"})
# May be kept, must be asked for again: a purged picture is gone for everybody. Opened by itself it can do nothing: said here
# too, whatever a page around it is allowed.
_HEADERS: Final = {
    "Cache-Control": "private, no-cache",
    "Content-Security-Policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
}
# By what the bytes are, never by what anybody called them.
_TYPES: Final = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"BM", "image/bmp"),
    (b"II", "image/tiff"),
    (b"MM", "image/tiff"),
)


@dataclass(frozen=True)
class Shown:
    """A result and its job."""

    audited: AuditedJob
    own: AuditResult

    @property
    def sha256(self) -> str:
        """Of the picture.

        Raises:
            NotFound: its bytes were never stored.
        """
        if self.audited.job.sha256 is None:
            raise NotFound("the bytes of this picture are not stored")
        return self.audited.job.sha256


def find(context: Context, number: int) -> Shown:
    """A result by its number.

    Raises:
        NotFound
    """
    with context.database.read() as session:
        audited = queries.result_numbered(session, number)
    if audited is None or audited.own is None:
        raise NotFound(f"no result {number}; it may have been purged")
    return Shown(audited, audited.own)


def mask(context: Context, request: Request, number: int) -> Response:
    """The 8-bit probability mask in the picture's own size.

    Raises:
        NotFound
        OutputFailed: it was purged.
    """
    shown = find(context, number)
    own = shown.own
    tag = _tag("mask", _stored_mask(own), f"{own.width_px} x {own.height_px}".encode())
    if is_known(request, tag):
        return not_modified(tag)
    with DRAWING.hold(own.width_px * own.height_px):
        return _png(_full_mask(own), tag)


def overlay(context: Context, request: Request, number: int) -> Response:
    """The picture with the mask painted over it.

    Raises:
        NotFound, BlobMissing
        OutputFailed: the mask was purged.
    """
    shown = find(context, number)
    own = shown.own
    tag = _tag("overlay", _stored_mask(own), shown.sha256.encode())
    if is_known(request, tag):
        return not_modified(tag)
    with DRAWING.hold(own.width_px * own.height_px):
        image = preprocess.decode(context.blobs.get(picture_key(shown.sha256), context.limits.max_bytes), context.limits)
        if image.size != (own.width_px, own.height_px):
            raise OutputFailed("the stored picture has not the size that was audited")
        return _png(render.overlay(image, _full_mask(own)), tag)


def picture(context: Context, request: Request, number: int) -> Response:
    """The picture's own bytes, a piece at a time.

    Raises:
        NotFound, BlobMissing
    """
    sha256 = find(context, number).sha256
    tag = f'"{sha256}"'
    if is_known(request, tag):
        return not_modified(tag)
    found = context.blobs.stat(picture_key(sha256))
    if found is None:
        raise BlobMissing("the bytes of this picture are not in the blob store any more")
    pieces = context.blobs.read(picture_key(sha256))
    first = next(pieces, b"")
    headers = _HEADERS | {"ETag": tag, "Content-Length": str(found.bytes)}
    media_type = media_type_of(first[:_HEAD_BYTES])
    if media_type is None:
        # A foreign producer may have stored anything; a browser is only ever to save it.
        media_type, shown_as, ending = "application/octet-stream", "attachment", "bin"
    else:
        shown_as, ending = "inline", media_type.partition("/")[2]
    # Saved under a name of ours: theirs may end in anything.
    headers["Content-Disposition"] = f'{shown_as}; filename="result-{number}.{ending}"'
    return StreamingResponse(_from(first, pieces), headers=headers, media_type=media_type)


def network_mask(context: Context, request: Request, number: int) -> Response:
    """The mask as the network gave it, a few kB; stretched over the picture it is the full-size one.

    Raises:
        NotFound
        OutputFailed: it was purged.
    """
    data = _stored_mask(find(context, number).own)
    tag = _tag("network mask", data)
    if is_known(request, tag):
        return not_modified(tag)
    return Response(data, headers=_HEADERS | {"ETag": tag}, media_type="image/png")


def upright(context: Context, request: Request, number: int) -> Response:
    """The picture for a browser: its own bytes where every browser shows them upright, a lossless copy otherwise.

    Raises:
        NotFound, BlobMissing
        DecodeFailed: no longer what was audited.
    """
    shown = find(context, number)
    tag = _tag("upright", shown.sha256.encode())
    if is_known(request, tag):
        return not_modified(tag)
    data = context.blobs.get(picture_key(shown.sha256), context.limits.max_bytes)
    media_type = media_type_of(data[:_HEAD_BYTES])
    if media_type in _SHOWN_BY_ALL and preprocess.shows_as_stored(data, context.limits):
        return Response(data, headers=_HEADERS | {"ETag": tag}, media_type=media_type)
    with DRAWING.hold(shown.own.width_px * shown.own.height_px):
        return _png(preprocess.decode(data, context.limits), tag)


def media_type_of(head: bytes) -> str | None:
    """What a picture file is, by how it begins; None for what is no picture of ours."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    return next((media_type for start, media_type in _TYPES if head.startswith(start)), None)


def _from(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


def _stored_mask(own: AuditResult) -> bytes:
    if not own.mask_png:
        raise OutputFailed("the mask was purged from the store; score and verdict are still there")
    return own.mask_png


def _full_mask(own: AuditResult) -> Image.Image:
    return render.full_size_mask(render.read_mask_png(own.mask_png), own.width_px, own.height_px)


def _tag(kind: str, *parts: bytes) -> str:
    """A strong tag: the same inputs, drawn by the same code, are the same bytes."""
    digest = hashlib.sha256(f"{kind} {_DRAWN_AS}".encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return f'"{digest.hexdigest()[:40]}"'


def is_known(request: Request, tag: str) -> bool:
    """If-None-Match, RFC 9110, 13.1.2: weak comparison."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or tag in (each.strip().removeprefix("W/") for each in given.split(","))


def not_modified(tag: str) -> Response:
    return Response(status_code=304, headers=_HEADERS | {"ETag": tag})


def _png(image: Image.Image, tag: str) -> Response:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=_PNG_LEVEL)
    return Response(buffer.getvalue(), headers=_HEADERS | {"ETag": tag}, media_type="image/png")
