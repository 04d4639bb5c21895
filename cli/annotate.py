"""`tamperwatch annotate`: what people say of pictures, which is what the model learns from."""

import heapq
import json
import re
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from cli.annotation_files import AnnotationFile, FileFormat, read_annotation_file
from cli.annotation_import import ImportPlan, Step, import_words
from cli.annotation_tables import SHORT_SHA256, history_table, picture_json, pictures_table, reviews_table
from cli.console import load_settings, plain, progress_bar, stderr, stdout
from cli.interruption import Interruption
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.settings import Settings
from schemas.states import AnnotationOrigin, ReviewDecision
from storage import annotation_queries, annotations, pictures, reviews
from storage.annotation_checks import text_problems
from storage.blobs import open_blob_store
from storage.consensus import Outcome
from storage.database import Database

_REFUSALS_SHOWN = 200
_LEAST_PREFIX = 6
_LARGEST = 2**63 - 1

By = Annotated[str, typer.Option("--by", help="Whose word it is.")]
app = typer.Typer(help="Boxes and reviews by people: what the next model learns from.", no_args_is_help=True)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(help="CSV (image,x0,y0,x1,y1) or COCO.")],
    by: By,
    file_format: Annotated[FileFormat | None, typer.Option("--format", help="By default, .json is COCO, else CSV.")] = None,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the pictures; those not kept yet are stored to train on.")
    ] = None,
    source_column: Annotated[
        str | None, typer.Option(help="Column or image field naming the scene, campaign or account.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Also what was changed or taken back since.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be stored.")] = False,
) -> None:
    """Store boxes that were drawn elsewhere. Importing a file twice adds nothing.

    A picture is named by its sha256, the client reference or source of a job, or a file. CSV has a line a box, x1 and y1
    exclusive, in pixels of the upright picture; `authentic` in a column kind says that a picture is not manipulated, as
    "kind": "authentic" does for an image in COCO. Other columns: width,height,sha256,source_id,note. A picture with a wrong
    line is left out whole, named, and the exit status is 1.

    \b
    Examples:
      tamperwatch annotate import boxes.csv --by anna
      tamperwatch annotate import boxes.json --by anna --images pictures/ --dry-run
      tamperwatch annotate import night.csv --by anna --source-column campaign
    """
    if images is not None and not images.is_dir():
        raise InvalidInput(f"--images {images} is not a folder")
    if problems := text_problems({"annotator": by}):
        raise InvalidInput(f"--by: {'; '.join(problems)}")
    settings = load_settings()
    content = read_annotation_file(file, file_format, source_column)
    plan = ImportPlan(by.strip(), images, settings.limits.max_bytes, again, dry_run)
    with closing(open_store(settings.database_url)) as database, Interruption() as interruption:
        total = _imported(content, plan, settings, database, interruption)
    _report(content, total, dry_run)
    if interruption.received is not None:
        stderr.print("stopped; run the same command again for the rest")
        raise typer.Exit(interruption.exit_status)
    if total.refusals:
        raise typer.Exit(1)


@app.command("list")
def list_pictures(
    disputed: Annotated[bool, typer.Option("--disputed", help="Only pictures that people do not agree on.")] = False,
    by: Annotated[str | None, typer.Option("--by", help="Only pictures with a word of this person.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """List annotated pictures, newest word first, with what their annotators agree on.

    With several annotators a box counts where more than half of them have it, and agreement is the mean overlap (IoU) of
    what they marked. Disputed pictures train nothing until someone settles them.

    \b
    Examples:
      tamperwatch annotate list --disputed
      tamperwatch annotate list --by anna --json
    """
    with closing(open_store(load_settings().database_url)) as database, database.read() as session:
        wanted = (
            picture
            for picture in annotation_queries.judged_pictures(session)
            if (not disputed or picture.consensus.outcome is Outcome.DISPUTED)
            and (by is None or any(each.annotator == by for each in picture.annotations))
        )
        newest = heapq.nlargest(limit, wanted, key=lambda picture: picture.newest_id)
        names = pictures.names_of(session, [each.sha256 for each in newest])
    if as_json:
        for picture in newest:
            typer.echo(json.dumps(picture_json(picture, names.get(picture.sha256)), ensure_ascii=False))
    elif newest:
        stdout.print(pictures_table(newest, names))
    else:
        stderr.print("no such pictures")


@app.command("show")
def show_picture(picture: Annotated[str, typer.Argument(help="sha256, or its beginning; or the number of a result.")]) -> None:
    """Show everything that was ever said of a picture, and by whom.

    \b
    Examples:
      tamperwatch annotate show 9f86d081884c
      tamperwatch annotate show 1207
    """
    with closing(open_store(load_settings().database_url)) as database:
        sha256 = _picture(database, picture)
        with database.read() as session:
            history = annotation_queries.history(session, sha256)
            standing = annotation_queries.standing(session, [sha256]).get(sha256, [])
            decisions = reviews.reviews_of_picture(session, sha256)
            name = pictures.names_of(session, [sha256]).get(sha256, "")
    stdout.print(f"[bold]{sha256}[/]  {plain(name)}", highlight=False, soft_wrap=True)
    if standing:
        stdout.print(pictures_table([annotation_queries.judged(sha256, standing)], {}))
    if history:
        stdout.print(history_table(history, {row.id for row in standing}))
    if decisions:
        stdout.print(reviews_table(decisions))
    if not history and not decisions:
        stdout.print("nobody has said anything of this picture yet")


@app.command("undo")
def undo(
    number: Annotated[
        int, typer.Argument(metavar="ID", min=1, max=_LARGEST, help="Of the annotation; `annotate show` names it.")
    ],
    by: By,
    reason: Annotated[str, typer.Option(help="Why; kept with it.")],
) -> None:
    """Take an annotation back. It stays in the history, and trains nothing any more.

    What it had replaced does not come back; say it again if it was right.

    \b
    Example:
      tamperwatch annotate undo 42 --by anna --reason "wrong picture"
    """
    with closing(open_store(load_settings().database_url)) as database, database.write() as session:
        row = annotations.retract(session, number, by, reason, AnnotationOrigin.CLI)
        told = f"annotation {number} of {row.sha256[:SHORT_SHA256]} is taken back (as {row.id})"
    stdout.print(told, highlight=False)


@app.command("review")
def review(
    result: Annotated[int, typer.Argument(min=1, max=_LARGEST, help="Number of the result.")],
    decision: Annotated[ReviewDecision, typer.Option(help="What you decided.")],
    by: By,
    note: Annotated[str, typer.Option(help="Why; kept with it.")] = "",
) -> None:
    """Record what a moderator decided about a result. A later decision by the same person takes its place.

    \b
    Example:
      tamperwatch annotate review 1207 --decision manipulated --by anna
    """
    with closing(open_store(load_settings().database_url)) as database, database.write() as session:
        row = reviews.add_review(session, result, decision, by, note)
        told = f"result {result}: {row.decision.value}, by {row.reviewer} (review {row.id})"
    stdout.print(told, highlight=False, markup=False)


def _imported(
    content: AnnotationFile, plan: ImportPlan, settings: Settings, database: Database, interruption: Interruption
) -> Step:
    total = Step(refusals=list(content.refusals))
    with progress_bar() as bar:
        task = bar.add_task("importing", total=len(content.words))
        for step in import_words(content.words, plan, database, open_blob_store(settings.blobs)):
            total.add(step)
            bar.update(task, completed=total.taken)
            if interruption.received is not None:
                break
    return total


def _report(content: AnnotationFile, total: Step, dry_run: bool) -> None:
    for refusal in total.refusals[:_REFUSALS_SHOWN]:
        stderr.print(f"[yellow]{refusal.where}[/]: {plain(refusal.why)}", highlight=False, soft_wrap=True)
    if len(total.refusals) > _REFUSALS_SHOWN:
        stderr.print(f"... and {len(total.refusals) - _REFUSALS_SHOWN:,} more; correct these and run it again", highlight=False)
    parts = [f"{total.added:,} {'would be added' if dry_run else 'added'}", f"{total.known:,} known before"]
    parts += [f"{total.stored:,} pictures {'would be stored' if dry_run else 'stored'}"] if total.stored else []
    parts += [f"{len(total.refusals):,} problems"] if total.refusals else []
    stdout.print(f"annotations: {', '.join(parts)}", highlight=False)
    if total.unkept:
        stderr.print(
            f"{total.unkept:,} pictures cannot train, because their bytes are not kept; --images FOLDER stores them",
            highlight=False,
        )
    if content.silent:
        stderr.print(f"{content.silent:,} images have neither a box nor kind authentic; nothing is said of them", highlight=False)


def _picture(database: Database, name: str) -> str:
    """The sha256 that a person means.

    Raises:
        InvalidInput: it names no picture, or several.
    """
    wanted = name.strip().lower()
    with database.read() as session:
        if wanted.isdecimal() and len(wanted) < SHORT_SHA256:
            sha256 = reviews.picture_of(session, int(wanted)).sha256
            found = [sha256] if sha256 else []
        elif re.fullmatch(rf"[0-9a-f]{{{_LEAST_PREFIX},64}}", wanted):
            found = pictures.pictures_beginning(session, wanted)
        else:
            raise InvalidInput(f"{name!r} is neither a result's number nor at least {_LEAST_PREFIX} digits of a sha256")
    if len(found) != 1:
        raise InvalidInput(
            f"{name} is the beginning of {len(found)} pictures; give more digits" if found else f"no picture {name}"
        )
    return found[0]
