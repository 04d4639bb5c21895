"""`tamperwatch status`: how much waits, runs, is done and failed."""

import json
from datetime import timedelta
from typing import Annotated, Any

import typer
from rich.table import Table

from cli.console import VERDICT_STYLE, load_settings, plain, stdout
from cli.store import open_store
from schemas.errors import BrokerUnavailable
from schemas.settings import Settings
from schemas.tables import now
from storage import queries, registry
from storage.queries import QueueLoad
from workers.app import make_app, queue_depths


def status(
    submission: Annotated[str | None, typer.Option(help="Count the jobs of one submission only.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the jobs by state, the queues, the verdicts and the live model.

    \b
    Examples:
      tamperwatch status
      tamperwatch status --submission 4f1c… --json
    """
    settings = load_settings()
    facts = _facts(settings, submission)
    if as_json:
        typer.echo(json.dumps(facts))
        return
    _print(facts)


def _facts(settings: Settings, submission: str | None) -> dict[str, Any]:
    database = open_store(settings.database_url)
    with database.read() as session:
        oldest = queries.oldest_waiting(session)
        live = registry.live(session)
        facts: dict[str, Any] = {
            "jobs": {state.value: count for state, count in queries.job_counts(session, submission).items()},
            "oldest_waiting_s": round((now() - oldest).total_seconds(), 1) if oldest else None,
            "waiting": {queue.value: _load(load) for queue, load in queries.queue_loads(session).items()},
            "verdicts": {verdict.value: count for verdict, count in queries.verdict_counts(session).items()},
            "failures": queries.failure_counts(session),
            "live_model": live.version if live else None,
        }
    try:
        facts["queues"] = {queue.value: depth for queue, depth in queue_depths(make_app(settings)).items()}
    except BrokerUnavailable as error:
        facts["queues"], facts["broker_error"] = None, error.message
    return facts


def _load(load: QueueLoad) -> dict[str, float | int | None]:
    oldest_s = round((now() - load.oldest).total_seconds(), 1) if load.oldest else None
    return {"queued": load.queued, "running": load.running, "oldest_s": oldest_s}


def _print(facts: dict[str, Any]) -> None:
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_row("jobs", "  ".join(f"{count} {state}" for state, count in facts["jobs"].items()))
    waiting_s = facts["oldest_waiting_s"]
    table.add_row("oldest waiting", "none" if waiting_s is None else str(timedelta(seconds=round(waiting_s))))
    queues = facts["queues"]
    away = f"[red]{plain(facts.get('broker_error', ''))}[/]"
    table.add_row("queues", "  ".join(f"{depth} in {queue}" for queue, depth in queues.items()) if queues else away)
    for queue, load in facts["waiting"].items():
        if load["queued"] or load["running"]:
            age = f", the oldest for {timedelta(seconds=round(load['oldest_s']))}" if load["queued"] else ""
            table.add_row(f"in {queue}", f"{load['running']} in hand, {load['queued']} waiting{age}")
    table.add_row("verdicts", "  ".join(f"[{VERDICT_STYLE[name]}]{count} {name}[/]" for name, count in facts["verdicts"].items()))
    if facts["failures"]:
        table.add_row("failures", "  ".join(f"{count} {code}" for code, count in facts["failures"].items()))
    table.add_row("live model", facts["live_model"] or "none yet; the first worker makes the packaged one live")
    stdout.print(table)
