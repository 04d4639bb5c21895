"""`tamperwatch pseudo-masks`: make what is missing of the teacher's masks now, and look at them."""

from collections import Counter
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cli.console import load_settings, plain, progress_bar, stderr, stdout
from cli.interruption import Interruption
from cli.store import open_store
from model.preprocess import PictureLimits
from schemas.errors import BlobCorrupt, BlobMissing, EnvironmentMissing, InvalidInput, PictureError
from schemas.settings import Settings
from schemas.teacher_settings import TeacherSettings
from storage.blobs import BlobStore, open_blob_store
from storage.database import Database
from storage.pseudo_masks import StoredMask

if TYPE_CHECKING:
    from model.mask_sheet import TaughtPicture
    from scheduler.teaching import Taught, Wanted

_SHEET_PICTURES = 16
_NAMED = 10  # dropped pictures on the terminal; the table counts all


def pseudo_masks(
    new: Annotated[bool, typer.Option("--new", help="Only pictures annotated since the last training run.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="Draw some of them: picture, boxes and mask, as PNG.")] = None,
) -> None:
    """Make the teacher's masks of all annotated pictures, so that the night finds them. Those that are there are kept.

    The teacher is SAM where TAMPERWATCH_TEACHER__CHECKPOINT names its file, else GrabCut. Masks that nobody used for
    TAMPERWATCH_TEACHER__KEEP_DAYS are deleted afterwards. Ctrl-C stops after the picture in hand; the same command goes
    on. Exit status 1: some pictures got no mask.

    \b
    Examples:
      tamperwatch pseudo-masks
      tamperwatch pseudo-masks --new --sheet masks.png
    """
    if sheet is not None and not sheet.absolute().parent.is_dir():
        raise InvalidInput(f"--sheet {sheet}: there is no such folder")
    _need_packages()
    settings = load_settings()
    with closing(open_store(settings.database_url)) as database, Interruption() as interruption:
        blobs = open_blob_store(settings.blobs)
        wanted = _wanted(database, new)[:limit]
        if not wanted:
            stdout.print("no pictures with boxes that people agree on")
            return
        taught = _taught(settings, database, blobs, wanted, interruption)
        _report(taught)
        if sheet is not None and taught.masks:
            _draw(sheet, taught, wanted, blobs, settings)
        if not taught.stopped:
            _forget_unused(database, blobs, settings.teacher.keep_days)
    if interruption.received is not None:
        stderr.print("stopped; run the same command again for the rest")
        raise typer.Exit(interruption.exit_status)
    if taught.dropped:
        raise typer.Exit(1)


def _need_packages() -> None:
    if find_spec("cv2") is None:
        raise EnvironmentMissing("teachers need OpenCV: pip install 'tamperwatch[train]'")


def _wanted(database: Database, new: bool) -> "list[Wanted]":
    from scheduler.teaching import annotated, last_read

    with database.read() as session:
        return annotated(session, last_read(session) if new else 0)


def _taught(
    settings: Settings, database: Database, blobs: BlobStore, wanted: "list[Wanted]", interruption: Interruption
) -> "Taught":
    from scheduler.teaching import open_teacher, teach

    teacher = open_teacher(settings.teacher)
    stderr.print(_headline(settings.teacher, len(wanted)), highlight=False)
    with progress_bar() as bar:
        task = bar.add_task("masks", total=len(wanted))
        return teach(
            database,
            blobs,
            teacher,
            wanted,
            lambda done, _: bar.update(task, completed=done),
            lambda: interruption.received is not None,
            limits=_limits(settings),
        )


def _headline(settings: TeacherSettings, count: int) -> str:
    if settings.uses_sam:
        return f"{count:,} pictures, teacher {settings.model} on {settings.device}"
    why = "" if settings.kind == "grabcut" else ": TAMPERWATCH_TEACHER__CHECKPOINT names no file of SAM"
    return f"{count:,} pictures, teacher GrabCut{why}"


def _report(taught: "Taught") -> None:
    table = Table(box=None)
    for name in ("", "pictures"):
        table.add_column(name, justify="left" if not name else "right")
    table.add_row("masks made", f"{taught.made:,}")
    table.add_row("found", f"{taught.found:,}")
    for code, count in sorted(Counter(each.code for each in taught.dropped).items()):
        table.add_row(f"dropped: {code}", f"{count:,}")
    if taught.mean_quality is not None:
        table.add_row("mean quality", f"{taught.mean_quality:.3f}")
    stdout.print(table)
    for each in taught.dropped[:_NAMED]:
        stderr.print(f"{each.sha256}: {plain(each.why)}", highlight=False, soft_wrap=True)
    if len(taught.dropped) > _NAMED:
        stderr.print(f"... and {len(taught.dropped) - _NAMED:,} more", highlight=False)


def _forget_unused(database: Database, blobs: BlobStore, keep_days: int) -> None:
    from scheduler.teaching import forget_unused

    if gone := forget_unused(database, blobs, keep_days):
        stdout.print(f"deleted: {gone:,} masks that nobody used for {keep_days} days", highlight=False)


def _draw(path: Path, taught: "Taught", wanted: "list[Wanted]", blobs: BlobStore, settings: Settings) -> None:
    """Pictures from the lowest to the highest quality, evenly spread."""
    from model.mask_sheet import sheet

    ranked = sorted((each for each in wanted if each.sha256 in taught.masks), key=lambda each: taught.masks[each.sha256].quality)
    count = min(len(ranked), _SHEET_PICTURES)
    chosen = [ranked[index * (len(ranked) - 1) // max(1, count - 1)] for index in range(count)]
    shown = [drawn for each in chosen if (drawn := _drawn(each, taught.masks[each.sha256], blobs, settings))]
    title = f"{len(shown)} of {len(ranked)} pseudo-masks, from the lowest to the highest quality: boxes, mask, both"
    try:
        path.write_bytes(sheet(shown, title))
    except OSError as error:
        raise InvalidInput(f"--sheet {path} cannot be written: {error.strerror}") from error
    stdout.print(f"sheet: {plain(str(path))}", highlight=False)


def _drawn(wanted: "Wanted", mask: StoredMask, blobs: BlobStore, settings: Settings) -> "TaughtPicture | None":
    """None where the picture is gone since its mask was made."""
    from model.mask_sheet import taught_picture
    from model.preprocess import decode
    from scheduler.teaching import mask_bytes, stored_pictures

    limits = _limits(settings)
    try:
        image = decode(stored_pictures(blobs, limits)(wanted.sha256), limits)
        return taught_picture(wanted.sha256[:12], image, wanted.boxes, mask_bytes(blobs, mask), mask.quality)
    except (BlobMissing, BlobCorrupt, PictureError) as error:
        stderr.print(f"{wanted.sha256} is not on the sheet: {plain(error.message)}", highlight=False, soft_wrap=True)
        return None


def _limits(settings: Settings) -> PictureLimits:
    return PictureLimits(settings.limits.max_bytes, settings.limits.max_pixels)
