"""`tamperwatch audit`: the whole pipeline over files and folders, with nothing to install."""

import time
import uuid
from pathlib import Path
from typing import Annotated

import typer

from cli.audit_run import AuditRun
from cli.console import load_settings, stderr, stdout
from cli.embedded_page import login_address, place_to_listen, start_page, stay
from cli.files import list_files
from cli.options import parse_profiles
from cli.output import writing
from cli.packages import need_web_packages
from cli.records import write_jsonl
from cli.report import ReportSummary, write_report
from cli.stack import EmbeddedStack
from cli.table import by_urgency, results_table
from model.card import Card, builtin_directory
from schemas.records import AuditRecord
from schemas.tables import now
from web.wording import shown
from workers.runtime import live_version
from workers.submission import Submission

_TABLE_ROWS = 30


def audit(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders; folders are searched through.", metavar="PATH…")],
    out: Annotated[Path, typer.Option(help="Where masks, overlays, results.jsonl and report.html go.")] = Path("tamperwatch-out"),
    as_json: Annotated[bool, typer.Option("--json", help="Print results.jsonl's lines instead of a table.")] = False,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")] = 1,
    profiles: Annotated[str, typer.Option(help="Also as these networks deliver it: facebook,weibo,wechat,whatsapp or all.")] = "",
    page: Annotated[bool, typer.Option("--open", help="Then show the pictures in the review page, until Ctrl-C.")] = False,
) -> None:
    """Audit pictures: was each manipulated, and where?

    Starts a private Redis, a worker and a SQLite store, and stops them again. Masks and overlays are written beside
    results.jsonl and report.html in the --out folder. Running the same command again continues where it stopped.

    \b
    Examples:
      tamperwatch audit holiday.jpg
      tamperwatch audit incoming/ more/ --out audit-1 --profiles wechat,facebook
      tamperwatch audit incoming/ --open
      tamperwatch audit incoming/ --json | jq 'select(.verdict == "flag")'
    """
    started = time.monotonic()
    if page:
        need_web_packages()
    settings = load_settings()
    wanted = parse_profiles(profiles)
    files = list_files(paths, exclude=out)
    with EmbeddedStack(out / ".tamperwatch", settings, workers) as stack:
        version = live_version(stack.database).version
        submission = Submission(uuid.uuid4().hex, settings.limits.max_bytes, profiles=wanted, model_version=version)
        with AuditRun(stack, submission, out) as run:
            records = run.finish(files)
            _show(records, as_json)  # before anything is written: a full disk must not hide what was found
            with writing(out / "results.jsonl"):
                write_jsonl(records, out / "results.jsonl")
            with writing(out / "report.html"):
                _write_report(run, records, out, paths, started)
        if not as_json:
            _show_places(out, stack.settings.database_url)
        if page:
            _stay_open(stack)
    if any(record.status == "failed" for record in records):
        raise typer.Exit(1)


def _write_report(run: AuditRun, records: list[AuditRecord], out: Path, paths: list[Path], started: float) -> None:
    card = Card.load(builtin_directory())
    title = ", ".join(path.resolve().name or str(path) for path in paths)
    summary = ReportSummary(
        source=", ".join(str(path) for path in paths),
        created=now(),
        model_version=card.version,
        calibration=card.calibration,
        elapsed_s=time.monotonic() - started,
    )
    write_report(records, out / "report.html", title, summary, run.thumbnails)


def _show(records: list[AuditRecord], as_json: bool) -> None:
    """Every record as a line of JSON, or the most urgent ones as a table and the counts."""
    if as_json:
        for record in records:
            typer.echo(record.model_dump_json())
        return
    urgent = by_urgency(records)
    stdout.print(results_table(urgent[:_TABLE_ROWS]))
    if len(urgent) > _TABLE_ROWS:
        stdout.print(f"… and {len(urgent) - _TABLE_ROWS} less urgent ones")
    names = ["flag", "review", "pass", "failed"]
    counts = dict.fromkeys(names, 0)
    for record in records:
        counts["failed" if record.verdict is None else record.verdict.value] += 1
    stdout.print(
        f"\n{len(records)} {'picture' if len(records) == 1 else 'pictures'}: "
        + ", ".join(f"{counts[name]} {name}" for name in names)
    )


def _stay_open(stack: EmbeddedStack) -> None:
    """The pictures of this audit in the page, until Ctrl-C."""
    web = stack.settings.web
    listening = place_to_listen(web.host, web.port, may_differ=True)
    start_page(stack, listening)
    login = login_address(stack.database, listening, "/results")
    stderr.print(f"open once, within 10 min: {login}", markup=False, highlight=False, soft_wrap=True)
    stay(stack, login)


def _show_places(out: Path, store: str) -> None:
    """Where the rest lies."""
    places = {"report": out / "report.html", "results": out / "results.jsonl", "overlays": out / "<picture>.overlay.png"}
    for name, path in places.items():
        stdout.print(f"{name:<9} {shown(str(path))}", markup=False, highlight=False, soft_wrap=True)
    stderr.print(f"store     {store}", style="dim", markup=False, highlight=False, soft_wrap=True)
