"""Stored pictures made small, as they are or with a mask painted over: always decoded within limits and encoded anew.

So no byte that somebody sent reaches a browser, whatever it was.
"""

import hashlib
from typing import Final

from fastapi import Request, Response
from PIL import Image

from model import preprocess, render
from schemas.errors import NotFound
from schemas.tables import OWN_PICTURE, AuditJob, AuditResult, Picture
from storage.blobs import picture_key
from web.context import Context
from web.pictures import DRAWING, is_known, not_modified

SIDE_PX: Final = 320
_QUALITY: Final = 80
# Raised with every change of what is drawn.
_DRAWN_AS: Final = "1"
_CACHING: Final = {"Cache-Control": "private, no-cache"}


def small_picture(context: Context, request: Request, sha256: str, result: int | None) -> Response:
    """One picture as a small JPEG.

    Args:
        context: the stores.
        request: may say which version of it the browser has.
        sha256: of its bytes.
        result: number of a result of this picture whose mask is painted over; None for none.

    Raises:
        NotFound: it is not kept, or the result is not one of it, or its mask was purged.
        BlobMissing, PictureError
    """
    mask = _mask(context, sha256, result)
    tag = f'"{hashlib.sha256(f"{sha256} {result} {_DRAWN_AS}".encode()).hexdigest()[:40]}"'
    if is_known(request, tag):
        return not_modified(tag)
    data = context.blobs.get(picture_key(sha256), context.limits.max_bytes)
    with DRAWING.hold(preprocess.pixels_of(data, context.limits)):
        image = preprocess.decode(data, context.limits)
        image.thumbnail((SIDE_PX, SIDE_PX), Image.Resampling.BILINEAR, reducing_gap=2.0)
    if mask is not None:
        image = render.overlay(image, render.full_size_mask(render.read_mask_png(mask), *image.size))
    drawn = render.thumbnail_jpeg(image, SIDE_PX, _QUALITY)
    return Response(drawn, headers=_CACHING | {"ETag": tag}, media_type="image/jpeg")


def _mask(context: Context, sha256: str, number: int | None) -> bytes | None:
    with context.database.read() as session:
        if session.get(Picture, sha256) is None:
            raise NotFound("this picture is not kept")
        if number is None:
            return None
        found = session.get(AuditResult, number)
        job = session.get(AuditJob, found.job_id) if found is not None and found.profile == OWN_PICTURE else None
        if found is None or job is None or job.sha256 != sha256 or not found.mask_png:
            raise NotFound("there is no such mask of this picture")
        return found.mask_png
