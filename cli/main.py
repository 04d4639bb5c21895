"""The command line: which verbs there are, and what their errors look like."""

import io
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from cli import (
    annotate,
    audit,
    beat,
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
    web,
    webhooks,
    worker,
)
from cli.console import stderr
from cli.report_cards import shown
from schemas.errors import InvalidInput, TamperwatchError

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
app.command()(audit.audit)
app.command()(evaluate.evaluate)
app.command()(train.train)
app.command()(worker.worker)
app.command()(web.web)
app.command()(beat.beat)
app.command()(trainer.trainer)
app.command()(submit.submit)
app.command()(status.status)
app.command()(results.results)
app.command()(export.export)
app.command()(similar.similar)
app.command()(retry.retry)
app.command()(reaudit.reaudit)
app.command()(check.check)
app.command()(purge.purge)
app.command()(migrate.migrate)
app.command()(doctor.doctor)
app.command("pseudo-masks")(pseudo_masks.pseudo_masks)
app.add_typer(annotate.app, name="annotate")
app.add_typer(keys.app, name="keys")
app.add_typer(models.app, name="models")
app.add_typer(webhooks.app, name="webhooks")
app.add_typer(retrain.app, name="retrain")


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
        # Messages quote names from outside; only their line breaks may reach the terminal.
        message = "\n".join(shown(line) for line in error.message.split("\n"))
        stderr.print(message, markup=False, highlight=False, soft_wrap=True)
        sys.exit(EXIT_USAGE if isinstance(error, InvalidInput) else EXIT_ENVIRONMENT)


if __name__ == "__main__":
    main()
