"""`tamperwatch models promote|reject|rollback`: a person decides which version is live, and says why."""

import sys
from contextlib import closing
from typing import Annotated

import typer

from cli.console import load_settings, plain, stdout
from cli.options import By, person
from cli.store import open_store
from schemas.errors import InvalidInput
from schemas.settings import Settings
from storage import registry
from storage.blobs import open_blob_store
from storage.database import Database
from workers.student_files import directory_of

Reason = Annotated[str, typer.Option(help="Why; kept with the decision.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask first.")]


def promote(
    version: Annotated[str, typer.Argument(help="The version to make live.")],
    reason: Reason,
    by: By = None,
    override: Annotated[bool, typer.Option("--override", help="Although it was rejected; recorded as such.")] = False,
    yes: Yes = False,
) -> None:
    """Make a version live. Workers take it over between two pictures, without a restart.

    The promotion rule does this by itself for a candidate that measures better. This is a person's decision in its place: it
    is recorded with its reason, and against a rejection it needs --override.

    \b
    Examples:
      tamperwatch models promote student-3-1f0c9a77 --reason "fewer false alarms in a week of shadow mode"
      tamperwatch models promote student-3-1f0c9a77 --override --reason "the rule had too few pictures" --by anna --yes
    """
    who, settings = person(by), load_settings()
    with closing(open_store(settings.database_url)) as database:
        with database.read() as session:
            row, live = registry.get(session, version), registry.live(session)
            refusal = registry.rejection(session, version)
        if live is not None and live.version == version:
            stdout.print(f"{plain(version)} is live already")
            return
        if refusal is not None and not override:
            raise InvalidInput(
                f"{version} was rejected by {refusal.who}: {refusal.reason}\nTo promote it all the same: --override"
            )
        directory_of(row, settings, open_blob_store(settings.blobs))  # no worker could take over what cannot be had
        before = live.version if live else None
        _ask(yes, f"make {version} live" + (f" in place of {before}" if before else ""))
        with database.write() as session:
            registry.promote(session, version, who, reason, from_version=before, override=override)
    _told(version, before, settings)


def reject(
    version: Annotated[str, typer.Argument(help="A version that is not live.")], reason: Reason, by: By = None, yes: Yes = False
) -> None:
    """Retire a version for good: only --override makes it live again, and no roll-back leads to it.

    \b
    Example:
      tamperwatch models reject student-3-1f0c9a77 --reason "marks watermarks"
    """
    who = person(by)
    with closing(open_store(load_settings().database_url)) as database:
        with database.read() as session:
            registry.get(session, version)
        _ask(yes, f"reject {version}")
        with database.write() as session:
            registry.reject(session, version, who, reason)
    stdout.print(f"{plain(version)} is rejected")


def rollback(
    reason: Reason,
    to: Annotated[str | None, typer.Option(help="A certain version that was live once; the one before if left out.")] = None,
    by: By = None,
    yes: Yes = False,
) -> None:
    """Make the version live that was live before; again, and it is the one before that.

    What was rolled back from is not gone back to, nor is what was rejected since; --to names it all the same, if it was not
    rejected.

    \b
    Examples:
      tamperwatch models rollback --reason "misses faces since this morning"
      tamperwatch models rollback --to student-3-38496d2f --reason "last good one" --yes
    """
    who, settings = person(by), load_settings()
    with closing(open_store(settings.database_url)) as database:
        target, before = _target(database, to)
        _ask(yes, f"go back from {before} to {target}")
        with database.write() as session:
            registry.rollback(session, who, reason, target, from_version=before)
    _told(target, before, settings)


def _target(database: Database, to: str | None) -> tuple[str, str | None]:
    """The version to go back to, and the one that is live."""
    with database.read() as session:
        target, live = registry.rollback_target(session, to), registry.live(session)
    return target, live.version if live else None


def _ask(yes: bool, what: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InvalidInput(f"this would {what}, and nobody is there to be asked; give --yes")
    typer.confirm(f"{what[:1].upper()}{what[1:]}?", abort=True)


def _told(version: str, before: str | None, settings: Settings) -> None:
    retired = f"; {plain(before)} is retired, `tamperwatch models rollback` brings it back" if before else ""
    stdout.print(f"[bold green]{plain(version)}[/] is live{retired}", highlight=False, soft_wrap=True)
    stdout.print(f"workers take it over within {settings.worker.model_poll_s:g} s, and no job is lost", highlight=False)
