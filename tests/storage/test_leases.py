"""Who may do a thing that only one may do: by the database's clock, with a fence against whoever comes back from the dead."""

import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlmodel import col, update

from schemas.learning_tables import Lease
from schemas.tables import now
from storage import leases
from storage.database import Database
from storage.leases import Held, Kept, LeaseLost
from tests.waiting import wait_for

ROOT = Path(__file__).parents[2]
NAME = "retrain"
# Takes the lease, says so, and waits to be killed.
HOLDER = """
import signal, sys
from storage import leases
from storage.database import Database

database = Database(sys.argv[1])
with database.write() as session:
    held = leases.acquire(session, "retrain", "doomed", float(sys.argv[2]))
with leases.Kept(database, held, float(sys.argv[2])):
    print(held.fence, flush=True)
    signal.pause()
"""


def take(database: Database, holder: str = "one", for_s: float = 60.0) -> Held | None:
    with database.write() as session:
        return leases.acquire(session, NAME, holder, for_s)


def taken(database: Database, holder: str = "one", for_s: float = 60.0) -> Held:
    held = take(database, holder, for_s)
    assert held is not None
    return held


def expire(database: Database) -> None:
    """As if the time had passed by the database's clock."""
    with database.write() as session:
        session.exec(update(Lease).where(col(Lease.name) == NAME).values(expires_at=now() - timedelta(seconds=1)))


def holder(database: Database) -> str | None:
    with database.read() as session:
        return leases.holder(session, NAME)


def test_one_holds_it_until_it_is_given_back(database: Database) -> None:
    assert holder(database) is None
    first = taken(database)
    assert (take(database, "two"), holder(database)) == (None, "one")
    with database.write() as session:
        leases.release(session, first)
    assert holder(database) is None
    second = taken(database, "two")
    assert second.fence > first.fence


def test_an_expired_lease_goes_to_the_next_and_the_former_holder_is_refused(database: Database) -> None:
    zombie = taken(database)
    expire(database)
    assert holder(database) is None
    heir = taken(database, "two")
    assert heir.fence > zombie.fence
    for act in (leases.check, lambda session, held: leases.renew(session, held, 60.0)):
        with pytest.raises(LeaseLost), database.write() as session:
            act(session, zombie)
    with database.write() as session:
        leases.release(session, zombie)  # changes nothing
        leases.check(session, heir)
    assert holder(database) == "two"


def test_an_expired_lease_that_nobody_took_is_renewed(database: Database) -> None:
    held = taken(database)
    expire(database)
    with database.write() as session:
        leases.renew(session, held, 60.0)
    assert (holder(database), take(database, "two")) == ("one", None)


def test_a_holder_that_starts_again_has_it_at_once_and_its_former_self_is_refused(database: Database) -> None:
    before, after = taken(database), taken(database)
    assert after.fence > before.fence
    with pytest.raises(LeaseLost), database.write() as session:
        leases.check(session, before)


def test_the_clock_is_the_databases(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """A holder whose own clock jumps by a year neither loses a lease nor keeps one."""
    with database.read() as session:
        true = leases.clock(session)
    assert abs((true - now()).total_seconds()) < 5
    monkeypatch.setattr("schemas.tables.now", lambda: now() + timedelta(days=365))
    monkeypatch.setattr("time.time", lambda: 0.0)
    taken(database)
    assert (holder(database), take(database, "two")) == ("one", None)


def test_a_lease_is_kept_while_it_is_worked_under(database: Database) -> None:
    held = taken(database, for_s=0.4)
    with Kept(database, held, 0.4):
        since = database_clock(database)
        wait_for(lambda: (database_clock(database) - since).total_seconds() > 1.2, "passing of three terms")
        assert holder(database) == "one"
    assert holder(database) is None
    assert not any(thread.name == "lease-retrain" for thread in threading.enumerate())


def test_whoever_lost_it_hears_of_it(database: Database) -> None:
    with Kept(database, taken(database, for_s=0.4), 0.4) as kept:
        expire(database)
        with database.write() as session:
            stolen = leases.acquire(session, NAME, "two", 60.0)
        wait_for(lambda: kept.lost.is_set() or stolen is None, "news of the loss")
    # Renewed in between, it was not free; otherwise the loss was told and the heir keeps it.
    assert (stolen is None and holder(database) is None) or (kept.lost.is_set() and holder(database) == "two")


def test_a_write_waits_for_no_thief_and_is_undone_where_one_came_first(database: Database) -> None:
    """Between `check` and the commit nobody can take the lease; PostgreSQL lets both transactions run at once."""
    held = taken(database)
    expire(database)
    checked, stolen = threading.Event(), threading.Event()

    def steal() -> None:
        checked.wait(10)
        taken(database, "two")
        stolen.set()

    with ThreadPoolExecutor(1) as pool:
        theft = pool.submit(steal)
        with database.write() as session:
            leases.check(session, held)
            checked.set()
            assert not stolen.wait(0.3)
        theft.result(timeout=30)
    with pytest.raises(LeaseLost), database.write() as session:
        leases.check(session, held)


def test_of_many_at_once_one_has_it(database: Database) -> None:
    for _ in range(3):
        gate = threading.Barrier(4)

        def rush(number: int, gate: threading.Barrier = gate) -> Held | None:
            gate.wait(10)
            return take(database, f"process {number}")

        with ThreadPoolExecutor(4) as pool:
            winners = [held for held in pool.map(rush, range(4)) if held]
        assert len(winners) == 1
        expire(database)


@pytest.mark.slow
def test_a_killed_holders_lease_expires(database: Database) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLDER, database.url, "2"], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        fence = int(process.stdout.readline())
        assert take(database) is None
        os.kill(process.pid, signal.SIGKILL)
    heir = wait_for(lambda: take(database), "lease of the killed process", 20)
    assert heir is not None and heir.fence > fence


def database_clock(database: Database) -> datetime:
    with database.read() as session:
        return leases.clock(session)
