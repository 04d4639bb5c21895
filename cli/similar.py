"""`tamperwatch similar`: stored pictures that look like one, with what was found in them."""

import hashlib
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text
from sqlmodel import Session

from cli.console import VERDICT_STYLE, load_settings, plain, stderr, stdout
from cli.store import open_store
from model import preprocess
from model.card import Card, builtin_directory
from model.picture_hash import LEAST_QUALITY, SAME_PICTURE_BITS, picture_hash
from model.preprocess import PictureLimits
from schemas.errors import InvalidInput, PictureError
from schemas.records import SimilarRecord
from schemas.settings import LimitSettings
from storage import queries
from storage.audit_records import record_of
from storage.similar import PictureBits, any_hash, find_similar, stored_hash
from web.wording import shown


def similar(
    picture: Annotated[str, typer.Argument(metavar="IMAGE|RESULT", help="A picture file, or the number of a result.")],
    within: Annotated[int, typer.Option(min=0, max=64, help="Largest distance, of 256 bits.")] = SAME_PICTURE_BITS,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="At most this many, the nearest.")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List stored pictures that look like this one, nearest first, with their newest verdicts.

    Information, not a verdict: pictures that look alike may differ in just the part that was manipulated. Workers keep
    the hashes that are compared (PDQ, 256 bits) where TAMPERWATCH_WORKER__PERCEPTUAL_HASH is on. They survive
    recompression and resizing; not crops, mirroring or turning. Nearly plain pictures are not compared.

    \b
    Examples:
      tamperwatch similar holiday.jpg
      tamperwatch similar 4711 --within 16 --json
    """
    settings = load_settings()
    with closing(open_store(settings.database_url)) as database, database.read() as session:
        wanted = _hash_of(session, picture, settings.limits)
        if wanted.quality < LEAST_QUALITY:
            stderr.print(f"{plain(picture)} is too plain to be compared (quality {wanted.quality} of 100)", highlight=False)
            raise typer.Exit(1)
        found = find_similar(session, wanted.bits, within, LEAST_QUALITY, limit)
        records = [_record(session, each.sha256, each.distance_bits) for each in found]
        nothing_kept = not found and not any_hash(session)
    _show([record for record in records if record is not None], as_json)
    if nothing_kept:
        stderr.print("no stored picture has a hash; workers keep them with TAMPERWATCH_WORKER__PERCEPTUAL_HASH=true")


def _hash_of(session: Session, picture: str, limits: LimitSettings) -> PictureBits:
    """The hash of a file, or of the picture of a result.

    Raises:
        InvalidInput: there is no such file or result, or no hash of it.
        EnvironmentMissing: a hash has to be made, and pdqhash is not installed.
    """
    path = Path(picture)
    if not path.is_file() and picture.isdecimal():
        return _hash_of_result(session, int(picture))
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InvalidInput(f"{picture} can't be read: {error.strerror}; name a picture file or the number of a result") from error
    sha256 = hashlib.sha256(data).hexdigest()
    return stored_hash(session, sha256) or _made(picture, data, sha256, limits)


def _hash_of_result(session: Session, number: int) -> PictureBits:
    audited = queries.audited_of_result(session, number)
    if audited is None:
        raise InvalidInput(f"there is no result {number}")
    known = stored_hash(session, audited.job.sha256 or "")
    if known is None:
        raise InvalidInput(f"no hash was kept of the picture of result {number}; name its file instead")
    return known


def _made(picture: str, data: bytes, sha256: str, limits: LimitSettings) -> PictureBits:
    side_px = Card.load(builtin_directory()).student.input_size
    try:
        prepared = preprocess.prepare(data, side_px, PictureLimits(limits.max_bytes, limits.max_pixels))
    except PictureError as error:
        raise InvalidInput(f"{picture}: {error.message}") from error
    made = picture_hash(prepared.pixels)
    return PictureBits(sha256, made.bits, made.quality)


def _record(session: Session, sha256: str, distance_bits: int) -> SimilarRecord | None:
    """What was found in a picture last; None if all its jobs are gone or failed."""
    audited = queries.newest_audit(session, sha256)
    if audited is None:
        return None
    return SimilarRecord.model_validate(record_of(audited).model_dump() | {"distance_bits": distance_bits})


def _show(records: list[SimilarRecord], as_json: bool) -> None:
    if as_json:
        for record in records:
            typer.echo(record.model_dump_json())
        return
    table = Table(header_style="bold", pad_edge=False, box=None, padding=(0, 2, 0, 0))
    for name, justify in (("bits apart", "right"), ("verdict", "left"), ("score", "right")):
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    table.add_column("picture", overflow="fold")
    for record in records:
        verdict = record.verdict.value if record.verdict else ""
        score = "" if record.score is None else f"{record.score:.2f}"
        # Text, not markup: names come from outside.
        style = VERDICT_STYLE.get(verdict, "")
        table.add_row(str(record.distance_bits), Text(verdict, style), score, Text(shown(record.image)))
    stdout.print(table)
