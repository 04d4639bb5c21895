"""`tamperwatch submit`: put pictures on the queue of a running installation."""

import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from cli.console import load_settings, progress_bar, stderr, stdout
from cli.files import list_files
from cli.options import parse_profiles
from cli.store import open_store
from schemas.states import AuditQueue, JobState
from storage import queries
from storage.blobs import open_blob_store
from storage.database import Database
from workers.app import make_app
from workers.submission import SourceFile, Submission, submit_files

_POLL_S = 0.5


def submit(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched through.")],
    queue: Annotated[AuditQueue, typer.Option(help="Queue to put them on.")] = AuditQueue.DEFAULT,
    profiles: Annotated[str, typer.Option(help="Audit as these networks would deliver it too, e.g. wechat,facebook.")] = "",
    watch: Annotated[bool, typer.Option("--watch", help="Stay until every picture has its result.")] = False,
) -> None:
    """Submit pictures to the workers. The same file under the same name is never audited twice.

    \b
    Examples:
      tamperwatch submit incoming/ --queue bulk
      tamperwatch submit suspicious.jpg --queue high --watch
    """
    settings = load_settings()
    submission = Submission(uuid.uuid4().hex, settings.limits.max_bytes, queue, parse_profiles(profiles))
    database, blobs, app = open_store(settings.database_url), open_blob_store(settings.blobs), make_app(settings)
    files = list_files(paths)
    with progress_bar() as bar:
        task = bar.add_task("submitting", total=len(files))
        for count in submit_files(files, submission, database, blobs, app):
            bar.advance(task, count)
    stdout.print(
        f"submission {submission.id}: {len(files)} pictures; follow with: tamperwatch status --submission {submission.id}"
    )
    if watch and not _watched(database, submission.id, files):
        raise typer.Exit(1)


def _watched(database: Database, submission: str, files: list[SourceFile]) -> bool:
    """Wait for every picture's end; True if all have a result."""
    with progress_bar() as bar:
        task = bar.add_task("audited", total=len(files))
        while True:
            with database.read() as session:
                counts = queries.job_counts(session, submission)
            ended = counts[JobState.DONE] + counts[JobState.FAILED]
            bar.update(task, completed=ended)
            if ended >= sum(counts.values()):
                break
            time.sleep(_POLL_S)
    if counts[JobState.FAILED]:
        stderr.print(f"{counts[JobState.FAILED]} failed; see: tamperwatch results --failed")
    return counts[JobState.FAILED] == 0
