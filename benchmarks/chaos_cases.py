"""Which faults make a case, and one run of a case from its seed."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import chaos_faults as faults
from benchmarks import chaos_outages as outages
from benchmarks.chaos_faults import Fault
from benchmarks.chaos_run import Report, Run
from benchmarks.chaos_servers import Servers
from benchmarks.chaos_site import Site
from storage import orphans

_FIRST_RESULTS_S = 60.0


@dataclass(frozen=True)
class Case:
    """A kind of trouble.

    Attributes:
        faults: all of them strike, in an order that is drawn.
        overlapping: they strike within moments, and how soon each is over is not measured.
        site: what differs from the common site.
    """

    faults: tuple[Fault, ...]
    overlapping: bool = False
    site: Mapping[str, Any] = field(default_factory=dict)


CASES: dict[str, Case] = {
    "worker": Case((faults.worker_killed, faults.worker_stopped)),
    "worker_in_each_stage": Case(
        (
            faults.worker_killed_claiming,
            faults.worker_killed_fetching,
            faults.worker_killed_storing,
            faults.worker_killed_before_ack,
        ),
        overlapping=True,
    ),
    "worker_at_work": Case((faults.worker_killed_decoding, faults.worker_killed_predicting), site={"handled": True}),
    "zombie": Case((faults.zombie,)),
    "zombie_in_transaction": Case((faults.zombie_in_transaction,)),
    "clock": Case((faults.clock_jumps,), site={"handled": True}),
    # Two deaths in company before it is suspected, and one alone.
    "poison": Case((faults.poison,), site={"max_attempts": 3}),
    "redis": Case(
        (outages.redis_restarted, outages.redis_wiped, outages.redis_replaced, outages.redis_full, outages.redis_hangs)
    ),
    "messages": Case(
        (outages.messages_doubled, outages.one_job_in_many_messages, outages.malformed_messages, faults.model_swapped)
    ),
    "postgres": Case((outages.postgres_restarted, outages.postgres_backends_killed, outages.postgres_read_only)),
    "s3": Case((outages.s3_away, outages.s3_slow)),
    "disk_full": Case((outages.redis_disk_full, outages.s3_disk_full, outages.postgres_disk_full)),
    "directory": Case((outages.directory_broken,), site={"blobs": "directory"}),
}
# What strikes the common site, each in no need of anything special.
ANY: tuple[Fault, ...] = tuple(dict.fromkeys(fault for case in CASES.values() if not case.site for fault in case.faults))


def drawn_case(rng: random.Random) -> Case:
    """A worker killed, Redis restarted and three other faults; one after the other, or in a third of the runs all at once."""
    chosen = (faults.worker_killed, outages.redis_restarted, *rng.sample(ANY, 3))
    return Case(chosen, overlapping=rng.random() < 1 / 3)


def run_case(name: str | None, seed: int, servers: Servers, folder: Path) -> Report:
    """One run on these servers.

    Args:
        name: of a case; None draws the faults too.
        seed: of everything that is drawn.
        servers: running; they run afterwards too.
        folder: takes pictures and the workers' logs.
    """
    rng = random.Random(seed)
    case = CASES[name] if name is not None else drawn_case(rng)
    report = Report(name or "drawn", seed)
    with Site(servers, folder, **case.site) as site:
        run = Run(site, rng, report, limits=not case.overlapping)
        try:
            if run.wait(run.any_done, _FIRST_RESULTS_S):
                _strike(run, case)
                run.finish()
                report.problems += _check(site, run.producer.missing_sha256())
            else:
                logs = "\n".join(slot.child.log_tail() for slot in site.slots if slot.child is not None)
                report.problems.append(f"no result within {_FIRST_RESULTS_S:g} s, before any fault:\n{logs}")
        finally:
            run.close()
    return report


def _strike(run: Run, case: Case) -> None:
    for fault in run.rng.sample(case.faults, len(case.faults)):
        if not case.overlapping:
            run.wait(run.all_serving, _FIRST_RESULTS_S)
        run.start(fault(run))
        if case.overlapping:
            run.pause(run.rng.uniform(0, 4))
        else:
            run.wait_for_calm()


def _check(site: Site, missing: set[str]) -> list[str]:
    """What `tamperwatch check` finds, but for pictures that were never stored."""
    found = orphans.check(site.database, site.blobs, grace_s=0.0)
    return [f"{finding.kind}: {finding.name}" for finding in found if finding.name not in missing]
