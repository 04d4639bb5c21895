"""The command line: which verbs there are, and what their errors look like."""

import io
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from cli import (
    annotate,
    audit,
    audit_log,
    beat,
    blobs,
    check,
    doctor,
    evaluate,
    export,
    keys,
    migrate,
    models,
    pseudo_masks,
    purge,
    reaudit,
    results,
    retrain,
    retry,
    similar,
    status,
    submit,
    train,
    trainer,
    up,
    users,
    web,
    webhooks,
    worker,
)
from cli.console import stderr
from schemas.errors import InvalidInput, TamperwatchError
from web.wording import shown

EXIT_SOME_FAILED = 1
EXIT_USAGE = 2
EXIT_ENVIRONMENT = 3

app = typer.Typer(
    name="tamperwatch",
    help="Was this picture manipulated, and where? Start with: tamperwatch audit PICTURES",
    epilog="Exit status: 0 ok, 1 some items failed, 2 usage, 3 environment.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

_TRY, _STREAM, _REPAIR, _LEARN, _ROLES = "Try it", "The stream", "Repair", "Learning", "Roles and access"
app.command(rich_help_panel=_TRY)(audit.audit)
app.command(rich_help_panel=_TRY)(up.up)
app.command(rich_help_panel=_TRY)(evaluate.evaluate)
app.command(rich_help_panel=_TRY)(doctor.doctor)
app.command(rich_help_panel=_STREAM)(submit.submit)
app.command(rich_help_panel=_STREAM)(status.status)
app.command(rich_help_panel=_STREAM)(results.results)
app.command(rich_help_panel=_STREAM)(export.export)
app.command(rich_help_panel=_STREAM)(similar.similar)
app.command(rich_help_panel=_REPAIR)(retry.retry)
app.command(rich_help_panel=_REPAIR)(reaudit.reaudit)
app.command(rich_help_panel=_REPAIR)(check.check)
app.command(rich_help_panel=_REPAIR)(purge.purge)
app.add_typer(blobs.app, name="blobs", rich_help_panel=_REPAIR)
app.add_typer(annotate.app, name="annotate", rich_help_panel=_LEARN)
app.command("pseudo-masks", rich_help_panel=_LEARN)(pseudo_masks.pseudo_masks)
app.add_typer(retrain.app, name="retrain", rich_help_panel=_LEARN)
app.add_typer(models.app, name="models", rich_help_panel=_LEARN)
app.command(rich_help_panel=_LEARN)(train.train)
app.command(rich_help_panel=_ROLES)(worker.worker)
app.command(rich_help_panel=_ROLES)(web.web)
app.command(rich_help_panel=_ROLES)(beat.beat)
app.command(rich_help_panel=_ROLES)(trainer.trainer)
app.command(rich_help_panel=_ROLES)(migrate.migrate)
app.add_typer(users.app, name="users", rich_help_panel=_ROLES)
app.add_typer(keys.app, name="keys", rich_help_panel=_ROLES)
app.add_typer(webhooks.app, name="webhooks", rich_help_panel=_ROLES)
app.add_typer(audit_log.app, name="audit-log", rich_help_panel=_ROLES)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"tamperwatch {version('tamperwatch')}")
        except PackageNotFoundError:
            typer.echo("tamperwatch, run from its sources without being installed")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Was this picture manipulated, and where?"""


def main() -> None:
    """Run one verb; an error of ours becomes one readable line and an exit status, never a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        # Names and dashes that an old terminal's encoding lacks are written as escapes, as Python does on stderr.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
    except TamperwatchError as error:
        stderr.print(f"[bold red]error[/] ({error.code}): ", end="")
        # Messages quote names from outside; only their line breaks, and tabs as spaces, may reach the terminal.
        message = "\n".join(shown(line) for line in error.message.expandtabs(4).split("\n"))
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_ENVIRONMENT)


if __name__ == "__main__":
    main()
