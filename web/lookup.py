"""What a named picture stands for here, and whether it may be had: hosts, buckets and stored bytes."""

from schemas.errors import InvalidInput, TamperwatchError, UrlRefused
from schemas.records import ErrorRecord
from web.context import Context
from web.references import PictureReference
from workers.sources import NamedObject, Source, parse_s3, stored_sha256
from workers.web_addresses import AllowList, WebAddress


def source_of(reference: PictureReference, client_ref: str, context: Context) -> Source:
    """A reference as a picture to submit. What is not allowed becomes a refused picture, and its neighbours go on."""
    try:
        name, sha256, content = _found(reference, context)
    except TamperwatchError as refused:
        error = ErrorRecord(code=refused.code, message=refused.message)
        return Source(_name(reference), error=error, client_ref=client_ref, queue=reference.queue)
    return Source(
        name=name,
        content=content,
        sha256=sha256,
        url=reference.url,
        client_ref=client_ref,
        source_profile=reference.source_profile,
        queue=reference.queue,
        profiles=reference.profiles,
    )


def _found(reference: PictureReference, context: Context) -> tuple[str, str | None, NamedObject | None]:
    """The name of a picture, its sha256 where the bytes are stored, and where they are otherwise, unless that is a URL.

    Raises:
        UrlRefused: no worker would fetch it.
        InvalidInput: the bucket is not one to read from.
    """
    name = _name(reference)
    if reference.url is not None:
        AllowList.of(context.settings.fetch).check(WebAddress.parse(reference.url))
    if reference.s3 is None:
        return name, reference.sha256, None
    bucket, key = parse_s3(reference.s3)
    sha256 = stored_sha256(bucket, key, context.settings.blobs)
    if sha256 is not None:
        return name, sha256, None
    # The credentials may read more than whoever holds an API key should see.
    if bucket not in context.settings.web.buckets:
        raise InvalidInput(f"pictures are not read from the bucket {bucket!r} (TAMPERWATCH_WEB__S3_BUCKETS)")
    return name, None, NamedObject(context.buckets(), bucket, key)


def _name(reference: PictureReference) -> str:
    """What people will see. Of a URL without its query, which may hold secrets."""
    if reference.name is not None:
        return reference.name
    if reference.url is not None:
        try:
            return str(WebAddress.parse(reference.url))
        except UrlRefused:
            return "a URL that cannot be read"
    return reference.s3 or reference.sha256 or ""
