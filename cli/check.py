"""`tamperwatch check`: do the blob store and the results store agree, and what can be mended."""

from collections import Counter
from typing import Annotated

import typer

from cli.console import load_settings, stderr, stdout
from cli.options import parse_age
from cli.store import open_store
from storage import orphans
from storage.blobs import open_blob_store
from storage.orphans import Disagreement
from workers.app import make_app, send_audits
from workers.sweeper import message_of

_NAMED = 10  # of each kind on the terminal; the count is complete


def check(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    grace: Annotated[
        str, typer.Option(metavar="AGE", help="Pass over blobs younger than this: their row may be on its way.")
    ] = "1h",
    names: Annotated[bool, typer.Option("--names", help="Name every finding, one a line, instead of the first ten.")] = False,
) -> None:
    """Compare the pictures' bytes with the rows, at constant memory, while everything runs.

    Finds bytes without a row, rows whose bytes are gone, jobs that are done without a result, and results without a
    job. --repair deletes the first and the last, ends jobs that wait for lost bytes as blob_missing, and audits anew
    what has lost its result. Exit status 1: something was found and not mended.

    \b
    Examples:
      tamperwatch check
      tamperwatch check --repair --grace 1d
    """
    settings = load_settings()
    grace_s = parse_age(grace).total_seconds()
    database, blobs, app = open_store(settings.database_url), open_blob_store(settings.blobs), make_app(settings)
    found: Counter[Disagreement] = Counter()
    left = 0
    for finding in orphans.check(database, blobs, grace_s, repair):
        found[finding.kind] += 1
        left += not finding.repaired
        if finding.to_send is not None:
            send_audits(app, [message_of(finding.to_send)])
        if names or found[finding.kind] <= _NAMED:
            typer.echo(f"{finding.kind}: {finding.name}{' (mended)' if finding.repaired else ''}")
    counts = ", ".join(f"{count} {kind}" for kind, count in found.items())
    stdout.print(f"found: {counts}" if found else "both stores agree")
    if left:
        if not repair:
            stderr.print("mend it with: tamperwatch check --repair")
        raise typer.Exit(1)
