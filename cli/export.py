"""`tamperwatch export`: every result as CSV, JSON lines, Parquet or COCO."""

from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, BinaryIO, TypeVar

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.console import load_settings, plain, stderr
from cli.exports.coco import coco_writer
from cli.exports.parquet import parquet_writer
from cli.exports.sink import STDOUT, open_sink
from cli.exports.text import Write, csv_writer, jsonl_writer
from cli.interruption import Interruption
from cli.options import parse_profiles
from cli.patience import read_patiently
from cli.store import open_store
from schemas.errors import InvalidInput, StoreUnavailable
from schemas.states import Verdict
from schemas.tables import OWN_PICTURE
from storage import feed
from storage.database import Database
from storage.export_rows import ExportFilter, ExportRow, export_page

Answer = TypeVar("Answer")
_GIVE_UP_S = 120.0
_PROBLEMS_SHOWN = 20


class ExportFormat(StrEnum):
    """What `--format` takes."""

    CSV = "csv"
    JSONL = "jsonl"
    PARQUET = "parquet"
    COCO = "coco"


@dataclass(frozen=True)
class _Format:
    writer: Callable[[BinaryIO], AbstractContextManager[Write]]
    page: int
    masks: bool = False
    binary: bool = False


# A page is what is held at once; of Parquet it is one row group, and tiny row groups read slowly.
_FORMATS = {
    ExportFormat.CSV: _Format(csv_writer, 1000),
    ExportFormat.JSONL: _Format(jsonl_writer, 1000),
    ExportFormat.PARQUET: _Format(parquet_writer, 5000, binary=True),
    ExportFormat.COCO: _Format(coco_writer, 100, masks=True),
}


def export(
    form: Annotated[ExportFormat, typer.Option("--format", help="csv, jsonl, parquet (needs the extra [export]) or coco.")],
    out: Annotated[Path, typer.Option(help="File to write, replaced when the export is whole; - is standard output.")],
    since: Annotated[str, typer.Option(help="Stored at this time or later: 2026-11-01 or 2026-11-01T06:00+01:00.")] = "",
    until: Annotated[str, typer.Option(help="Stored before this time. A time without a zone is UTC.")] = "",
    verdict: Annotated[Verdict | None, typer.Option(help="Only this verdict.")] = None,
    model_version: Annotated[str | None, typer.Option(help="Only results of this model version.")] = None,
    profile: Annotated[str, typer.Option(help="Deliveries: none (as submitted), names, or all with none.")] = OWN_PICTURE,
    source_profile: Annotated[str | None, typer.Option(help="Only pictures taken from this network.")] = None,
    after: Annotated[int, typer.Option(min=0, help="Cursor: only what came after it, e.g. after the last export.")] = 0,
) -> None:
    """Export results, one row each, at constant memory however many there are.

    What was stored when the export began is in it, each result once; the cursor printed at the end is where the next
    one goes on (--after). Pictures that failed have no result: see `tamperwatch results --failed`. In CSV, a text that
    a spreadsheet would take for a formula has an apostrophe in front. COCO holds each mask above 0.5 at the picture's
    own size as compressed RLE, which pycocotools reads.

    \b
    Examples:
      tamperwatch export --format csv --out results.csv --since 2026-11-01 --verdict flag
      tamperwatch export --format jsonl --out - --after 1200 | gzip > new.jsonl.gz
      tamperwatch export --format parquet --out results.parquet --profile all
      tamperwatch export --format coco --out masks.json --model-version student-1
    """
    times = _time(since, "--since"), _time(until, "--until")
    wanted = ExportFilter(*times, verdict, model_version, _profiles(profile), source_profile)
    if wanted.since and wanted.until and wanted.since >= wanted.until:
        raise InvalidInput("--since is not before --until: no result can lie between them")
    chosen = _FORMATS[form]
    with closing(open_store(load_settings().database_url)) as database, Interruption() as wish:
        job = _Export(database, wanted, chosen, lambda: wish.received is not None)
        try:
            with open_sink(out, chosen.binary) as file, chosen.writer(file) as write:
                job.run(after, write)
        except _Stopped:
            _say_stopped(out, form, job)
            raise typer.Exit(wish.exit_status) from None
        except StoreUnavailable:
            _say_stopped(out, form, job)
            raise
    where = "standard output" if out == STDOUT else str(out)
    stderr.print(f"{job.rows} results to {plain(where)}; next cursor: {job.cursor}", highlight=False, soft_wrap=True)
    if job.problems:
        stderr.print(f"[yellow]left out[/]: {job.problems} pictures without a usable mask", highlight=False)
        raise typer.Exit(1)


class _Stopped(Exception):
    """A person wants to stop; leaves the blocks that write, so that half a file is not taken for a whole one."""


class _Export:
    """One run over the pages, and how far it came."""

    def __init__(self, database: Database, wanted: ExportFilter, form: _Format, stopped: Callable[[], bool]) -> None:
        self._database = database
        self._wanted = wanted
        self._form = form
        self._stopped = stopped
        self.rows = 0
        self.problems = 0
        self.cursor = 0

    def run(self, after: int, write: Write) -> None:
        """Write every wanted result from the cursor `after` up to the newest one at this moment.

        Raises:
            _Stopped: a person wants to stop.
            StoreUnavailable: the store was away for too long.
        """
        self.cursor = after
        last = self._read(self._newest)
        with _progress() as bar:
            task = bar.add_task("exporting", total=max(0, last - after), rows=0)
            while rows := self._read(lambda: self._page(last)):
                problems = write(rows)
                self._say(problems)
                self.rows += len(rows) - len(problems)
                self.cursor = rows[-1].cursor
                bar.update(task, completed=self.cursor - after, rows=self.rows)
            self.cursor = max(after, last)
            bar.update(task, completed=self.cursor - after)

    def _read(self, read: Callable[[], Answer]) -> Answer:
        answer = read_patiently(read, self._stopped, _GIVE_UP_S)
        if answer is None:
            raise _Stopped
        return answer

    def _newest(self) -> int:
        with self._database.read() as session:
            return feed.newest_result(session)

    def _page(self, last: int) -> list[ExportRow]:
        with self._database.read() as session:
            return export_page(session, self._wanted, self.cursor, last, self._form.page, self._form.masks)

    def _say(self, problems: list[str]) -> None:
        for problem in problems[: max(0, _PROBLEMS_SHOWN - self.problems)]:
            stderr.print(f"[yellow]left out[/]: {plain(problem)}", highlight=False, soft_wrap=True)
        self.problems += len(problems)


def _progress() -> Progress:
    """How far the cursor has come: counting the rows beforehand would take as long as some exports."""
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]} results"))
    return Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=stderr)


def _say_stopped(out: Path, form: ExportFormat, job: _Export) -> None:
    if out != STDOUT:
        stderr.print(f"stopped: {plain(str(out))} was not touched", highlight=False, soft_wrap=True)
    elif form in (ExportFormat.CSV, ExportFormat.JSONL):
        stderr.print(f"stopped after {job.rows} results; go on with --after {job.cursor}", highlight=False)
    else:
        stderr.print("stopped: what was written is not a whole file", highlight=False)


def _time(text: str, option: str) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise InvalidInput(f"{option} {text!r} is not a time; write 2026-11-01 or 2026-11-01T06:00:00Z") from error


def _profiles(names: str) -> tuple[str, ...] | None:
    """Profiles to keep from a comma-separated list; None keeps every one."""
    chosen = {name.strip().lower() for name in names.split(",") if name.strip()}
    if "all" in chosen:
        return None
    own = (OWN_PICTURE,) if OWN_PICTURE in chosen or not chosen else ()
    return own + parse_profiles(",".join(sorted(chosen - {OWN_PICTURE})))
