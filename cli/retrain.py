"""`tamperwatch retrain`: begin retraining runs by hand, watch them, look at them, cancel them."""

import os
import socket
import threading
import time
import uuid
from typing import TYPE_CHECKING, Annotated, Final

import typer

from cli.console import load_settings, plain, stderr, stdout
from cli.interruption import Interruption
from cli.packages import need_training_packages
from cli.retrain_display import RunDisplay, described, facts_table, runs_table
from cli.store import open_store
from schemas.errors import BrokerUnavailable, InvalidInput
from schemas.learning_tables import RetrainRun
from schemas.settings import Settings
from schemas.states import RetrainState
from storage import leases, runs
from storage.blobs import open_blob_store
from storage.database import Database

if TYPE_CHECKING:
    from scheduler.retrain import Told

app = typer.Typer(invoke_without_command=True)

_LOOK_S: Final = 1.0
_SHOWN: Final = 20
_EXITS: Final = {RetrainState.FAILED: 1, RetrainState.CANCELLED: 1}


@app.callback()
def retrain(
    context: typer.Context,
    now: Annotated[bool, typer.Option("--now", help="Begin a run, whatever the timetable says.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Stay until it has ended, and show how far it is.")] = False,
    inline: Annotated[bool, typer.Option("--inline", help="Carry it out in this process; needs no trainer.")] = False,
) -> None:
    """Learn from new boxes: a candidate is trained, measured against the live model, and promoted if it is better.

    Without an option: where things stand. Runs begin by themselves where `tamperwatch beat` and `tamperwatch trainer` run.

    \b
    Examples:
      tamperwatch retrain
      tamperwatch retrain --now --wait
      tamperwatch retrain --inline
      tamperwatch retrain list
    """
    if context.invoked_subcommand is not None:
        if now or wait or inline:
            raise InvalidInput("--now, --wait and --inline stand alone, without list, show or cancel")
        return
    settings = load_settings()
    if inline:
        need_training_packages()
    database = open_store(settings.database_url)
    try:
        _act(settings, database, now, wait, inline)
    finally:
        database.close()


@app.command("list")
def list_runs(
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, newest first.")] = _SHOWN,
) -> None:
    """List runs, newest first.

    \b
    Example:
      tamperwatch retrain list
    """
    database = open_store(load_settings().database_url)
    with database.read() as session:
        found = runs.listed(session, limit)
    database.close()
    if found:
        stdout.print(runs_table(found))
    else:
        stderr.print("no run yet; `tamperwatch retrain --now` begins one")


@app.command("show")
def show_run(
    run: Annotated[str, typer.Argument(help="The beginning of a run's id, or `last`.")] = "last",
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole row as JSON.")] = False,
) -> None:
    """Show one run: what it learned from, what it measured, and why it ended as it did.

    \b
    Examples:
      tamperwatch retrain show
      tamperwatch retrain show 3f2a9c1e --json
    """
    database = open_store(load_settings().database_url)
    with database.read() as session:
        found = runs.named(session, run)
    database.close()
    if as_json:
        stdout.print_json(data=found.model_dump(mode="json"))
        return
    stdout.print(described(found))
    stdout.print(facts_table(found))


@app.command("cancel")
def cancel_run(
    run: Annotated[str, typer.Argument(help="The beginning of a run's id, or `last`.")],
) -> None:
    """End a run. Its candidate is dropped; its boxes are learned from by the next run.

    \b
    Example:
      tamperwatch retrain cancel 3f2a9c1e
    """
    database = open_store(load_settings().database_url)
    with database.write() as session:
        found = runs.cancel(session, runs.named(session, run).id)
        session.expunge(found)
    database.close()
    ended = "is cancelled" if found.state.ended else "will end at its trainer's next look, within seconds"
    stdout.print(f"run [bold]{runs.short(found.id)}[/] {ended}")


def _act(settings: Settings, database: Database, now: bool, wait: bool, inline: bool) -> None:
    if inline:
        _finish(_inline(settings, database))
    elif now or wait:
        run_id = _begun(settings, database) if now else _under_way(database)
        if wait:
            _finish(_watched(database, run_id))
    else:
        _stand(settings, database)


def _begun(settings: Settings, database: Database) -> uuid.UUID:
    """Begin a run and call a trainer."""
    from scheduler.app import make_trainer_app
    from scheduler.beat import begin_by_hand

    trainer = make_trainer_app(settings)
    try:
        run_id, is_new = begin_by_hand(database, trainer)
    except BrokerUnavailable as error:
        run_id, is_new = _under_way(database), True
        stderr.print(f"[yellow]{plain(error.message)}[/]", soft_wrap=True)
    finally:
        trainer.close()
    what = "begun; a trainer takes it" if is_new else "not begun: this one has not ended yet"
    stdout.print(f"run [bold]{runs.short(run_id)}[/] {what}. `tamperwatch retrain show {runs.short(run_id)}` says how far it is")
    return run_id


def _under_way(database: Database) -> uuid.UUID:
    with database.read() as session:
        run = runs.unended(session)
        if run is None:
            raise InvalidInput("no run is under way; `tamperwatch retrain --now --wait` begins one")
        return run.id


def _watched(database: Database, run_id: uuid.UUID) -> RetrainRun:
    """Show how far a run is until it has ended."""
    with Interruption() as interruption, RunDisplay(stderr) as display:
        while True:
            with database.read() as session:
                run = runs.get(session, run_id)
            display.show(run.state, run.message, run.step, run.steps_total or 0)
            if run.state.ended:
                return run
            if interruption.received:
                name = runs.short(run_id)
                display.say(f"run {name} goes on without you; `tamperwatch retrain cancel {name}` ends it")
                raise typer.Exit(interruption.exit_status)
            time.sleep(_LOOK_S)


def _inline(settings: Settings, database: Database) -> RetrainRun:
    """Carry out a run here, the one that waits or a new one."""
    from scheduler.beat import begin
    from scheduler.night_process import student_trainer
    from scheduler.retrain import Stopping, Workplace, carry_on

    run_id = begin(database)
    holder = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with Interruption() as interruption, RunDisplay(stderr) as display:

        def watch(told: "Told") -> None:
            display.show(told.state, told.message, told.step, told.steps_total)

        place = Workplace(
            database,
            open_blob_store(settings.blobs),
            settings,
            student_trainer,
            stop=lambda: interruption.received is not None,
            watch=watch,
            pause=threading.Event().wait,
        )
        try:
            run = carry_on(place, holder)
        except Stopping:
            display.say("stopped, everything is kept. To go on, give the same command again")
            raise typer.Exit(interruption.exit_status) from None
    if run is None:
        with database.read() as session:
            by = leases.holder(session, runs.LEASE)
        raise InvalidInput(f"{by or 'another process'} is at run {runs.short(run_id)}; --wait watches it")
    return run


def _finish(run: RetrainRun) -> None:
    stdout.print(described(run))
    if status := _EXITS.get(run.state):
        raise typer.Exit(status)


def _stand(settings: Settings, database: Database) -> None:
    """What is under way, what is new, when the next night begins."""
    from scheduler.timetable import next_night
    from schemas.tables import now
    from storage.annotation_queries import count_new

    with database.read() as session:
        run, past, last = runs.unended(session), runs.past(session, now()), runs.listed(session, 1)
        new, by = count_new(session, past.read_up_to), leases.holder(session, runs.LEASE)
    if run is not None:
        stdout.print(described(run))
        stdout.print(f"trainer: {plain(by) if by else 'none is at it; start `tamperwatch trainer`'}")
    elif last:
        stdout.print(f"last run: {runs.short(last[0].id)} {last[0].state.value}, `tamperwatch retrain show` says why")
    counted = f"{new.boxes} new boxes, {new.pictures} newly annotated pictures"
    stdout.print(f"since then: {counted}" if last else counted)
    night = next_night(now(), settings.schedule)
    if night is not None:
        stdout.print(f"next night: {night:%Y-%m-%d %H:%M} UTC, where `tamperwatch beat` runs")
