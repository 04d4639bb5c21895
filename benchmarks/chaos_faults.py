"""What can go wrong, each as it happens: acts, with what is waited for between them.

Every fault notes when it strikes, and most watch how soon all is well again. Random values come from the run's own
generator alone, so that a seed draws the same schedule each time.
"""

import json
import signal
import time
import uuid
from base64 import b64decode
from collections.abc import Callable, Generator
from typing import Any

from benchmarks.chaos_run import WORKER_LIMIT_S, Run, Steps, Until
from benchmarks.chaos_servers import signal_to
from benchmarks.chaos_site import VISIBILITY_TIMEOUT_S, Slot
from benchmarks.chaos_witness import Brake, Change, Expected, in_hand, read_log
from schemas.errors import WorkerLost
from schemas.states import JobState
from schemas.tables import AuditJob

Fault = Callable[[Run], Steps]
_STAGE_WAIT_S = 12.0
_PATIENCE_S = 60.0


def worker_killed(run: Run) -> Steps:
    """kill -9 while a worker has pictures in hand; wherever each of them just is."""
    slot = yield from _busy(run)
    yield run.rng.uniform(0, 0.5)
    _kill(run, slot, "somewhere")


def worker_killed_claiming(run: Run) -> Steps:
    """kill -9 in the transaction that claims, before it is committed."""
    yield from _killed_at_brake(run, "claiming")


def worker_killed_fetching(run: Run) -> Steps:
    """kill -9 while it waits for bytes from S3."""
    signal_to(run.site.servers.weed, signal.SIGSTOP)
    slot = _picked(run)
    yield Until(lambda: _hands(run, slot), _STAGE_WAIT_S)
    yield 0.5
    _kill(run, slot, "fetching")
    signal_to(run.site.servers.weed, signal.SIGCONT)


def worker_killed_decoding(run: Run) -> Steps:
    """kill -9 while it decodes, with the bytes in hand."""
    yield from _killed_in_stage(run, "decode")


def worker_killed_predicting(run: Run) -> Steps:
    """kill -9 while pictures wait for the network's answer."""
    yield from _killed_in_stage(run, "predict")


def worker_killed_storing(run: Run) -> Steps:
    """kill -9 in the transaction that stores results, before it is committed."""
    yield from _killed_at_brake(run, "ending")


def worker_killed_before_ack(run: Run) -> Steps:
    """kill -9 between the result's commit and the message's acknowledgement, which Redis is not let take."""
    slot = yield from _busy(run)
    with run.site.redis() as client:
        client.client_pause(int(1000 * _STAGE_WAIT_S), all=False)
        ended = len(_ends(run, slot))
        yield Until(lambda: len(_ends(run, slot)) > ended, _STAGE_WAIT_S / 2)
        stored = {change.job for change in _ends(run, slot)[ended:]}
        _kill(run, slot, "between result and acknowledgement")
        yield Until(lambda: not slot.running(), 5)
        client.client_unpause()
        unacknowledged = _unacknowledged(client) & stored
    run.note(f"{len(unacknowledged)} of {len(stored)} stored results are unacknowledged")


def worker_stopped(run: Run) -> Steps:
    """SIGTERM, and sometimes kill -9 into the time it has to finish what is in hand."""
    slot = yield from _busy(run)
    began_at, jobs = time.time(), _hands(run, slot)
    run.note(f"SIGTERM to {slot.signature} with {len(jobs)} pictures in hand")
    run.site.kill(slot, signal.SIGTERM)
    child, patient = slot.child, run.rng.random() < 0.7
    yield Until(lambda: child is None or not child.running, 20.0 if patient else run.rng.uniform(0.1, 2.0))
    if child is not None and child.running:
        began_at = time.time()
        run.note(f"kill -9 of {slot.signature}, which was still stopping")
        child.stop(0)
    run.watch("worker stopped", began_at, WORKER_LIMIT_S, lambda: _all_ended(run, jobs))


def zombie(run: Run) -> Steps:
    """A worker stands still for longer than its claims hold, and then goes on as if nothing had been."""
    slot = yield from _busy(run)
    began_at = time.time()
    signal_to(slot.child, signal.SIGSTOP)
    jobs = _hands(run, slot)
    run.note(f"SIGSTOP to {slot.signature} with {len(jobs)} pictures in hand")
    run.watch("zombie", began_at, WORKER_LIMIT_S, lambda: _all_ended(run, jobs))
    yield VISIBILITY_TIMEOUT_S + run.rng.uniform(6, 10)
    run.note(f"SIGCONT to {slot.signature}")
    signal_to(slot.child, signal.SIGCONT)


def zombie_in_transaction(run: Run) -> Steps:
    """The same, but it holds the locks of an open transaction: the others must not wait for it."""
    with Brake(run.site.database.url, "ending") as brake:
        slot = yield from _first_stopped(run, brake)
        began_at = time.time()
        signal_to(slot.child, signal.SIGSTOP)
    jobs = _hands(run, slot)
    run.note(f"SIGSTOP to {slot.signature} in an open transaction, with {len(jobs)} pictures in hand")
    run.watch("zombie in a transaction", began_at, WORKER_LIMIT_S, lambda: _all_ended(run, jobs))
    yield VISIBILITY_TIMEOUT_S + run.rng.uniform(10, 14)
    run.note(f"SIGCONT to {slot.signature}")
    signal_to(slot.child, signal.SIGCONT)


def poison(run: Run) -> Steps:
    """A picture that kills its worker each time it is in hand: it fails alone, and takes no neighbour with it."""
    job_id = run.producer.probe("poison.jpg", run.rng.getrandbits(32), Expected(codes=frozenset({WorkerLost.code})))
    run.watch("poison", time.time(), None, lambda: _all_ended(run, {job_id}))
    deaths = 0
    with Brake(run.site.database.url, "ending", job_id) as brake:
        while deaths < run.site.max_attempts:
            yield Until(lambda: _stopped(run, brake) or _known_and_ended(run, job_id), _PATIENCE_S)
            killed = _stopped(run, brake)
            for slot in killed:
                run.note(f"the poisoned picture kills {slot.signature}")
                brake.forget(run.site.kill(slot))
            deaths += len(killed)
            if not killed:
                break


def clock_jumps(run: Run) -> Steps:
    """A worker's clock is wrong for a while, and it is killed with pictures in hand before it is right again."""
    slot, off_s = _picked(run), run.rng.choice([-3600.0, -30.0, 30.0, 3600.0])
    run.note(f"the clock of {slot.signature} is {off_s:+.0f} s off")
    run.site.set_clock(slot, off_s)
    yield run.rng.uniform(2, 6)
    yield Until(lambda: _hands(run, slot), _STAGE_WAIT_S)
    _kill(run, slot, "with a wrong clock")
    run.site.set_clock(slot, 0.0)
    yield from run.probe("clock", time.time(), None)
    # Redis keeps what it held until its own time has come; that time passes here at once.
    yield VISIBILITY_TIMEOUT_S
    with run.site.redis() as client:
        for tag in client.zrange("unacked_index", 0, -1):
            client.zadd("unacked_index", {tag: min(client.zscore("unacked_index", tag) or 0.0, time.time())}, xx=True)


def model_swapped(run: Run) -> Steps:
    """Another version becomes the live one in mid-stream: one worker is replaced, the other goes on as it likes."""
    slot, version = _picked(run), run.site.promote_copy()
    run.note(f"{version} is live, SIGTERM to {slot.signature}")
    run.site.kill(slot, signal.SIGTERM)
    starts = slot.starts
    yield Until(lambda: slot.starts > starts and _hands(run, slot), _PATIENCE_S)
    yield from run.probe("model swapped", time.time(), None)


def _picked(run: Run) -> Slot:
    alive = [slot for slot in run.site.slots if slot.running()]
    return run.rng.choice(alive or run.site.slots)


def _busy(run: Run) -> Generator[Until, None, Slot]:
    """A worker that has something in hand, waited for."""
    slot = _picked(run)
    yield Until(lambda: slot.running() and _hands(run, slot), _STAGE_WAIT_S)
    return slot


def _hands(run: Run, slot: Slot) -> set[uuid.UUID]:
    with run.site.read() as session:
        return in_hand(session, slot.signature)


def _ends(run: Run, slot: Slot) -> list[Change]:
    with run.site.read() as session:
        return [change for change in read_log(session, slot.signature) if change.became == JobState.DONE]


def _all_ended(run: Run, jobs: set[uuid.UUID]) -> bool:
    with run.site.read() as session:
        return all(session.get_one(AuditJob, job_id).state.ended for job_id in jobs)


def _known_and_ended(run: Run, job_id: uuid.UUID) -> bool:
    with run.site.read() as session:
        job = session.get(AuditJob, job_id)
        return job is not None and job.state.ended


def _kill(run: Run, slot: Slot, where: str) -> None:
    """kill -9, and watch how soon what it had in hand has ended all the same."""
    began_at = time.time()
    run.site.kill(slot)
    jobs = _hands(run, slot)
    run.note(f"kill -9 of {slot.signature} {where}, with {len(jobs)} pictures in hand")
    run.watch(f"worker killed {where}", began_at, WORKER_LIMIT_S, lambda: _all_ended(run, jobs))


def _killed_at_brake(run: Run, stage: str) -> Steps:
    with Brake(run.site.database.url, stage) as brake:
        slot = yield from _first_stopped(run, brake)
        _kill(run, slot, stage)


def _killed_in_stage(run: Run, stage: str) -> Steps:
    slot = _picked(run)
    run.site.stop_in(slot, stage)
    yield Until(lambda: run.site.stopped_in_stage(slot), _STAGE_WAIT_S)
    _kill(run, slot, f"in {stage}" if run.site.stopped_in_stage(slot) else f"before it came to {stage}")
    run.site.stop_in(slot, "")


def _first_stopped(run: Run, brake: Brake) -> Generator[Until, None, Slot]:
    """The worker that comes to the brake first; any one if none does."""
    yield Until(lambda: _stopped(run, brake), _STAGE_WAIT_S)
    return next(iter(_stopped(run, brake)), None) or _picked(run)


def _stopped(run: Run, brake: Brake) -> list[Slot]:
    """The workers at the brake that are alive: PostgreSQL finds out later that a client is dead."""
    signatures = brake.stopped()
    return [slot for slot in run.site.slots if slot.signature in signatures and slot.running()]


def _unacknowledged(client: Any) -> set[uuid.UUID]:
    """The jobs whose messages Redis keeps for whoever took them."""
    bodies = [json.loads(b64decode(json.loads(entry)[0]["body"])) for entry in client.hvals("unacked")]
    return {uuid.UUID(body[0][0]["job_id"]) for body in bodies}
