"""`tamperwatch submit`: put pictures on the queue of a running installation."""

import re
import sys
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from cli import remote
from cli.console import load_settings, progress_bar, stderr, stdout
from cli.files import nothing_in, stream_files
from cli.interruption import Interruption
from cli.options import parse_profiles
from cli.store import open_store
from model.compress import PROFILES
from schemas.errors import InvalidInput
from schemas.messages import SOURCE_PROFILE
from schemas.settings import Settings
from schemas.states import AuditQueue, JobState
from storage import queries
from storage.blobs import open_blob_store
from storage.buckets import Buckets
from storage.database import Database
from workers.app import make_app
from workers.job_manifest import manifest_sources
from workers.sources import Source, parse_s3, s3_sources
from workers.submission import Step, Submission, submit_sources

_POLL_S = 0.5


def submit(
    paths: Annotated[list[str] | None, typer.Argument(help="Files, folders to search through, s3://bucket/prefix.")] = None,
    manifest: Annotated[str | None, typer.Option(help="JSON lines that name pictures; - reads standard input.")] = None,
    queue: Annotated[AuditQueue, typer.Option(help="Queue to put them on.")] = AuditQueue.DEFAULT,
    profiles: Annotated[str, typer.Option(help="Audit as these networks would deliver it too, e.g. wechat,facebook.")] = "",
    source_profile: Annotated[str | None, typer.Option(help="The network the pictures were taken from; kept with them.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Stay until every picture has its result.")] = False,
    api: Annotated[
        str | None, typer.Option(help="Address of an installation: send files there over HTTP; the key: TAMPERWATCH_API_KEY.")
    ] = None,
) -> None:
    """Submit pictures to the workers. The same file under the same name is never audited twice.

    Any number is taken, one after the other. While TAMPERWATCH_SUBMIT__MAX_QUEUED messages wait in the queue, this waits,
    too. Stopped by Ctrl-C, or by a store that is away, it goes on where it was when it is run again.

    \b
    Examples:
      tamperwatch submit incoming/ --queue bulk
      tamperwatch submit suspicious.jpg --queue high --watch
      tamperwatch submit s3://uploads/2026/11/ --source-profile wechat
      tamperwatch submit --manifest pictures.jsonl
      tamperwatch submit incoming/ --api https://audit.example.com
    """
    if api is not None:
        if not _sent_over(api, paths or [], manifest, remote.Wanted(queue, parse_profiles(profiles), source_profile), watch):
            raise typer.Exit(1)
        return
    settings = load_settings()
    submission = _submission(settings, queue, parse_profiles(profiles), source_profile)
    with ExitStack() as stack:
        sources = _sources(paths or [], manifest, settings, stack)
        database, blobs, app = open_store(settings.database_url), open_blob_store(settings.blobs), make_app(settings)
        interruption = stack.enter_context(Interruption())
        totals = _shown(submit_sources(sources, submission, database, blobs, app), interruption)
    if totals.taken == 0 and interruption.received is None:
        raise nothing_in([Path(path) for path in paths or [manifest or ""]])
    _report(submission.id, totals)
    if interruption.received is not None:
        stderr.print("stopped; run the same command again for the rest")
        raise typer.Exit(interruption.exit_status)
    all_done = _watched(database, submission.id) if watch else totals.refused == 0
    if not all_done:
        raise typer.Exit(1)


@dataclass
class _Totals:
    """What a submission has come to so far."""

    taken: int = 0
    known: int = 0
    refused: int = 0

    def add(self, step: Step) -> None:
        self.taken += step.taken
        self.known += step.known
        self.refused += step.refused


def _sent_over(api: str, paths: list[str], manifest: str | None, wanted: remote.Wanted, watch: bool) -> bool:
    """Send files over HTTP; True if none was refused and, with `watch`, none failed.

    Raises:
        InvalidInput: something else than files and folders was named.
    """
    if not paths or manifest is not None or any(path.startswith("s3://") for path in paths):
        raise InvalidInput("with --api, name files and folders; a manifest or an S3 prefix is submitted where its pictures are")
    totals = _Totals()
    with remote.connected(api) as client, progress_bar() as bar:
        task = bar.add_task("sending", total=None)

        def sent(taken: int, refused: int) -> None:
            totals.add(Step(taken, refused=refused))
            bar.update(task, completed=totals.taken)

        audits = remote.send(client, stream_files(Path(path) for path in paths), wanted, sent)
        if totals.taken == 0:
            raise nothing_in([Path(path) for path in paths])
        bar.update(task, description="auditing" if watch else "sent", total=totals.taken)
        ended = [client.wait(audit.id) for audit in audits] if watch else audits
    failed = totals.refused + sum(audit.counts.get(JobState.FAILED, 0) for audit in ended)
    pictures = "picture" if totals.taken == 1 else "pictures"
    numbers = ", ".join(audit.id for audit in audits) or "none"
    stdout.print(f"{totals.taken} {pictures}, {failed} failed or refused; audits: {numbers}", soft_wrap=True)
    return failed == 0


def _submission(settings: Settings, queue: AuditQueue, profiles: tuple[str, ...], source_profile: str | None) -> Submission:
    chosen = settings.submit
    by_queue = {each: parse_profiles(getattr(chosen, f"profiles_{each.value}")) for each in AuditQueue}
    if source_profile is not None and not re.fullmatch(SOURCE_PROFILE, source_profile):
        raise InvalidInput(f"--source-profile {source_profile!r}: use up to 32 small letters, digits, '_', '.' and '-'")
    return Submission(
        uuid.uuid4().hex,
        settings.limits.max_bytes,
        queue,
        profiles,
        queue_profiles=by_queue,
        source_profile=source_profile,
        max_queued=chosen.max_queued,
        threads=chosen.threads,
        digests=Path(chosen.digests).expanduser() if chosen.digests else None,
    )


def _sources(paths: list[str], manifest: str | None, settings: Settings, stack: ExitStack) -> Iterator[Source]:
    """All that was named, one after the other.

    Raises:
        InvalidInput: nothing was named, or a file, address or manifest is not there.
    """
    if not paths and manifest is None:
        raise InvalidInput("name files, folders, s3://bucket/prefix or a --manifest; see: tamperwatch submit --help")
    uris = [path for path in paths if path.startswith("s3://")]
    for uri in uris:
        parse_s3(uri)
    if uris:
        Buckets(settings.blobs)  # missing keys are named now, not after a million files
    files = stream_files(Path(path) for path in paths if not path.startswith("s3://"))
    parts: list[Iterator[Source]] = [(file.source for file in files), *(s3_sources(uri, settings.blobs) for uri in uris)]
    if manifest is not None:
        lines, folder = _opened(manifest, stack)
        parts.append(manifest_sources(lines, manifest, folder, settings.blobs, tuple(PROFILES)))
    return chain.from_iterable(parts)


def _opened(manifest: str, stack: ExitStack) -> tuple[BinaryIO, Path]:
    """A manifest's bytes, and the folder that its relative paths are relative to."""
    if manifest == "-":
        return sys.stdin.buffer, Path()
    path = Path(manifest)
    try:
        return stack.enter_context(path.open("rb")), path.parent
    except OSError as error:
        raise InvalidInput(f"cannot read the manifest {manifest}: {error.strerror or error}") from error


def _shown(steps: Generator[Step, None, None], interruption: Interruption) -> _Totals:
    """Follow a submission on a progress bar, until its end or until Ctrl-C."""
    totals = _Totals()
    with progress_bar() as bar, closing(steps):
        task = bar.add_task("submitting", total=None)
        for step in steps:
            totals.add(step)
            pause = f"paused: {step.waiting:,} messages wait in the queue" if step.waiting is not None else "submitting"
            bar.update(task, completed=totals.taken, description=pause)
            if interruption.received is not None:
                break
        else:
            bar.update(task, total=totals.taken)
    return totals


def _report(submission: str, totals: _Totals) -> None:
    parts = [f"{totals.taken} {'picture' if totals.taken == 1 else 'pictures'}"]
    parts += [f"{totals.known} known before"] if totals.known else []
    parts += [f"{totals.refused} refused (see: tamperwatch results --failed)"] if totals.refused else []
    stdout.print(f"submission {submission}: {', '.join(parts)}; follow with: tamperwatch status --submission {submission}")


def _watched(database: Database, submission: str) -> bool:
    """Wait for every picture's end; True if all have a result."""
    with progress_bar() as bar:
        task = bar.add_task("audited", total=None)
        while True:
            with database.read() as session:
                counts = queries.job_counts(session, submission)
            ended = counts[JobState.DONE] + counts[JobState.FAILED]
            bar.update(task, completed=ended, total=sum(counts.values()))
            if ended >= sum(counts.values()):
                break
            time.sleep(_POLL_S)
    if counts[JobState.FAILED]:
        stderr.print(f"{counts[JobState.FAILED]} failed; see: tamperwatch results --failed")
    return counts[JobState.FAILED] == 0
