"""How a retraining run looks on a terminal: a line while it goes on, a table of all, a page of one."""

import time
from typing import Any, Final

from rich.console import Console
from rich.status import Status
from rich.table import Table

from cli.console import plain
from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState
from storage.runs import short

_LINE_EVERY_S: Final = 30.0
_STYLES: Final = {
    RetrainState.PROMOTED: "bold green",
    RetrainState.PROPOSED: "bold cyan",
    RetrainState.REJECTED: "yellow",
    RetrainState.FAILED: "bold red",
    RetrainState.SKIPPED: "dim",
    RetrainState.CANCELLED: "dim",
}


class RunDisplay:
    """A line that changes on a terminal; elsewhere a line at every change of state, and now and then between."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._status: Status | None = console.status("") if console.is_terminal else None
        self._state: RetrainState | None = None
        self._told_s = float("-inf")

    def __enter__(self) -> "RunDisplay":
        if self._status:
            self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._status:
            self._status.stop()

    def say(self, text: str) -> None:
        """A line that stays."""
        self._console.print(plain(text), soft_wrap=True)

    def show(self, state: RetrainState, message: str, step: int, steps_total: int) -> None:
        """How far the run is."""
        share = f"  {step / steps_total:.0%}" if steps_total and state is RetrainState.TRAINING else ""
        text = f"[bold]{state.value}[/]{share}  {plain(message)}"
        changed, self._state = state is not self._state, state
        if self._status:
            self._status.update(text)
        elif changed or time.monotonic() - self._told_s >= _LINE_EVERY_S:
            self._told_s = time.monotonic()
            self._console.print(text, soft_wrap=True)


def runs_table(found: list[RetrainRun]) -> Table:
    """One line a run."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for title in ("run", "begun (UTC)", "by", "state", "steps", "candidate"):
        table.add_column(title, no_wrap=True)
    for run in found:
        steps = f"{run.step} of {run.steps_total}" if run.steps_total else ""
        state = f"[{_STYLES.get(run.state, 'bold')}]{run.state.value}[/]"
        begun = f"{run.created_at:%Y-%m-%d %H:%M}"
        table.add_row(short(run.id), begun, run.trigger.value, state, steps, run.candidate_version or "")
    return table


def described(run: RetrainRun) -> str:
    """A run in one paragraph."""
    style = _STYLES.get(run.state, "bold")
    return f"run [bold]{short(run.id)}[/] [{style}]{run.state.value}[/]  {plain(run.reason or run.message)}"


def facts_table(run: RetrainRun) -> Table:
    """What a run was made of and what it measured."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    facts: list[tuple[str, Any]] = [
        ("begun", f"{run.created_at:%Y-%m-%d %H:%M:%S} UTC ({run.trigger.value})"),
        ("ended", f"{run.finished_at:%Y-%m-%d %H:%M:%S} UTC" if run.finished_at else None),
        ("parent", run.parent_version),
        ("candidate", run.candidate_version),
        ("teacher", run.teacher_id),
        ("steps", f"{run.step} of {run.steps_total}" if run.steps_total else None),
        ("manifest", run.manifest_sha256),
        ("annotations up to", run.last_annotation_id or None),
        ("seed", run.seed),
        ("code", run.code_version or None),
        ("error", f"{run.error_code}: {run.error_message}" if run.error_code else None),
    ]
    for name, value in facts:
        if value is not None:
            table.add_row(name, plain(str(value)))
    for name, count in run.figures.get("selection", {}).get("taken", {}).items():
        table.add_row(f"pictures: {name}", str(count))
    for check in run.decision.get("checks", []):
        mark = "[green]passed[/]" if check["passed"] else "[red]failed[/]"
        table.add_row(f"check: {check['name']}", f"{mark}  {plain(check['sentence'])}")
    return table
