"""A request that changes something must come from a page of ours: it brings a token that other sites cannot read.

The token is derived from what the browser's cookie holds, so nothing is stored. Scripts send it as a header, forms as a field.
"""

import hashlib
import hmac
from typing import Final

from fastapi import Request

from schemas.errors import Forbidden

HEADER: Final = "X-CSRF-Token"
FIELD: Final = "csrf_token"
_SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")
# What browsers say of a request's origin by themselves; older ones say nothing, and then the token alone decides.
_OWN_SITES: Final = frozenset({"same-origin", "none"})


def token_of(secret: str) -> str:
    """The token that belongs to a cookie's secret."""
    return hmac.new(secret.encode("utf-8", "surrogatepass"), b"tamperwatch csrf", hashlib.sha256).hexdigest()


async def check(request: Request, secret: str) -> None:
    """Refuse a request that changes something and is not from a page that had this secret's token.

    Raises:
        Forbidden
    """
    if request.method in _SAFE_METHODS:
        return
    if request.headers.get("sec-fetch-site", "same-origin") not in _OWN_SITES:
        raise Forbidden("this request comes from another site's page")
    if not hmac.compare_digest((await _given(request)).encode("utf-8", "surrogatepass"), token_of(secret).encode()):
        raise Forbidden("this page is too old, or is not ours; load it anew and try again")


async def _given(request: Request) -> str:
    header = request.headers.get(HEADER)
    if header is not None:
        return header
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() not in _FORMS:
        return ""
    field = (await request.form()).get(FIELD)
    return field if isinstance(field, str) else ""
