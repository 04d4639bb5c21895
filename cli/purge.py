"""`tamperwatch purge`: forget pictures, masks or rows, by age, by count, or of one person."""

import re
from collections import Counter
from dataclasses import replace
from typing import Annotated

import typer

from cli.console import load_settings, progress_bar, stderr, stdout
from cli.options import parse_age
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.tables import now
from storage import retention
from storage.blobs import open_blob_store
from storage.database import Database
from storage.retention import Plan, Purged, Selection


def purge(
    older_than: Annotated[str | None, typer.Option(metavar="AGE", help="What ended longer ago than 12h, 90d …")] = None,
    keep: Annotated[int | None, typer.Option(min=0, help="All but what the newest so many jobs need.")] = None,
    sha256: Annotated[list[str] | None, typer.Option(help="Only this picture; may be given several times.")] = None,
    source: Annotated[str | None, typer.Option(metavar="PREFIX", help="Only pictures whose source begins so.")] = None,
    pictures: Annotated[bool, typer.Option("--pictures", help="Delete the pictures' bytes.")] = False,
    masks: Annotated[bool, typer.Option("--masks", help="Delete the masks; scores and verdicts stay.")] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Delete jobs, results and the pictures only they need.")] = False,
    pseudo_masks: Annotated[
        bool, typer.Option("--pseudo-masks", help="Delete pseudo-masks that no training used for so long.")
    ] = False,
    annotated: Annotated[bool, typer.Option("--annotated", help="By age, also the bytes of pictures people annotated.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be deleted.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
) -> None:
    """Delete what has been kept long enough. Says what it will delete, and asks, before it does.

    Jobs that have not ended are never touched. Conditions add up: a job must meet all of them. With --sha256 or
    --source alone everything known of those pictures goes, what people said of them and their pseudo-masks too, unless
    --pictures, --masks or --pseudo-masks says less. Bytes that another job needs stay. By age or number, pictures that
    people annotated stay as well: the next model learns from them.

    \b
    Examples:
      tamperwatch purge --older-than 90d --pictures --masks
      tamperwatch purge --older-than 90d --pseudo-masks
      tamperwatch purge --keep 1000000 --rows --dry-run
      tamperwatch purge --source users/4711/ --yes
    """
    if older_than and keep is not None:
        raise InvalidInput("give --older-than or --keep, not both")
    if not (older_than or keep is not None or sha256 or source):
        raise InvalidInput("say what to delete: --older-than, --keep, --sha256 or --source")
    asked = {Purged.PICTURES: pictures, Purged.MASKS: masks, Purged.ROWS: rows, Purged.PSEUDO_MASKS: pseudo_masks}
    chosen = {kind for kind, wanted in asked.items() if wanted}
    if not chosen and not (sha256 or source):
        raise InvalidInput("say what to delete of it: --pictures, --masks, --rows or --pseudo-masks")
    if pseudo_masks and keep is not None:
        raise InvalidInput("--pseudo-masks goes with --older-than, --sha256 or --source; --keep counts jobs")
    kinds = frozenset(chosen or {Purged.ROWS})
    settings = load_settings()
    database = open_store(settings.database_url)
    selection = _selection(database, older_than, keep, sha256 or [], source or "", annotated)
    if selection is None:
        stdout.print(f"there are no more than {keep} ended jobs; nothing to delete")
        return
    with database.read() as session:
        plan = retention.plan(session, selection, kinds)
    stdout.print(_words(plan), highlight=False)
    if dry_run:
        return
    if not yes and not typer.confirm("Delete this for good?", err=True):
        raise typer.Exit(1)
    gone: Counter[Purged] = Counter()
    with progress_bar() as bar:
        known = plan.pseudo_masks + plan.annotations + plan.reviews + plan.shadow_scores
        task = bar.add_task("deleting", total=plan.pictures + known + (plan.jobs or plan.masks))
        for kind, count in retention.purge(database, open_blob_store(settings.blobs), selection, kinds):
            gone[kind] += count
            bar.advance(task, count)
    stdout.print("deleted: " + (", ".join(f"{count:,} {kind}" for kind, count in gone.items()) or "nothing"), highlight=False)


def _selection(
    database: Database, older_than: str | None, keep: int | None, sha256: list[str], source: str, annotated: bool
) -> Selection | None:
    """The jobs that the options name; None if --keep leaves all of them."""
    if wrong := [each for each in sha256 if not re.fullmatch(r"\s*[0-9a-fA-F]{64}\s*", each)]:
        raise InvalidInput(f"--sha256 takes 64 hexadecimal digits, not {wrong[0]!r}")
    named = Selection(None, tuple(each.strip().lower() for each in sha256), source, annotated)
    if older_than:
        return replace(named, up_to=retention.older_than(now() - parse_age(older_than)))
    if keep is None:
        return named
    with database.read() as session:
        up_to = retention.beyond_newest(session, keep)
    return replace(named, up_to=up_to) if up_to else None


def _words(plan: Plan) -> str:
    if plan.unfinished:
        stderr.print(f"{plan.unfinished} jobs have not ended; they and their pictures stay. Run this again when they have.")
    if plan.annotated:
        stderr.print(f"{plan.annotated:,} pictures stay because people annotated them; --annotated deletes them too")
    words = [
        f"to delete: {plan.jobs:,} jobs with {plan.results:,} results",
        f"{plan.masks:,} masks ({plan.mask_bytes:,} bytes)",
        f"{plan.pictures:,} pictures ({plan.picture_bytes:,} bytes)",
    ]
    known = ((plan.annotations, "annotations"), (plan.reviews, "reviews"), (plan.pseudo_masks, "pseudo-masks"))
    words += [f"{count:,} {name}" for count, name in (*known, (plan.shadow_scores, "scores of candidates")) if count]
    return ", ".join(words)
