"""Does anything get lost or doubled when things die? Randomized runs against real servers and real worker processes.

    python -m benchmarks.chaos [--runs 20] [--seed N] [--case NAME] [--json]

Each run takes an empty PostgreSQL database, an S3 bucket, a Redis with its append-only file and two workers with a
visibility timeout of ten seconds, lets pictures flow in, and draws its faults from its seed. Then every picture that
was accepted must have exactly its results or its own named error, SQL and blobs must agree, and Redis must be empty.
What was seen is taken from a log that PostgreSQL keeps by triggers, not from what the workers say.

A seed that failed is repeated alone with `--runs 1 --seed N`; the schedule is the same, what else happens at that
moment is not. The exit status is 1 if anything was lost, doubled or late. The servers come from the Python wheels of
the extra [test]. `--case` runs one fault after the other out of one kind; without it four are drawn out of all.
"""

import argparse
import json
import random
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.chaos_cases import CASES, run_case
from benchmarks.chaos_run import Report
from benchmarks.chaos_servers import chaos_servers


def main() -> None:
    """Run, print, and exit 1 where anything was lost, doubled or late."""
    options = _options()
    first = options.seed if options.seed is not None else random.SystemRandom().randrange(10**6)
    reports: list[Report] = []
    for seed in range(first, first + options.runs):
        reports.append(_run(options.case, seed, options.logs))
        print(json.dumps(as_json(reports[-1])) if options.json else as_text(reports[-1]), flush=True)
    if not options.json:
        print(summary(reports))
    sys.exit(0 if all(report.sound for report in reports) else 1)


def _run(case: str | None, seed: int, logs: Path | None) -> Report:
    """One run on servers of its own, so that a seed can be repeated alone."""
    with tempfile.TemporaryDirectory(prefix="tamperwatch-chaos-") as name:
        folder = Path(name)
        with chaos_servers(folder) as servers:
            report = run_case(case, seed, servers, folder)
        if logs is not None:
            logs.mkdir(parents=True, exist_ok=True)
            for log in folder.glob("*.log"):
                shutil.copy(log, logs / f"{seed}-{log.name}")
    return report


def as_text(report: Report) -> str:
    """A run for people to read."""
    lines = [f"seed {report.seed}, case {report.case}: {'sound' if report.sound else 'NOT SOUND'}, {report.took_s:.0f} s"]
    lines += [f"  {at_s:6.1f} s  {what}" for at_s, what in report.faults]
    for each in report.recoveries:
        took = "never" if each.took_s is None else f"{each.took_s:.1f} s"
        lines.append(f"  {each.name}: well again after {took}{'' if each.limit_s is None else f', limit {each.limit_s:g} s'}")
    told = report.judgement
    failed = ", ".join(f"{count} {code}" for code, count in sorted(told.failed.items())) or "none"
    counts = f"accepted {told.accepted}, done {told.done}, failed as they must: {failed}"
    lines.append(f"  {counts}; lost {len(told.lost)}, doubled {len(told.doubled)}")
    refusals = ", ".join(f"{count} {code}" for code, count in sorted(report.refused.items()))
    lines += [f"  submissions that had to be repeated: {refusals}"] if refusals else []
    lines += [f"  a worker ended by itself: {death}" for death in report.own_deaths]
    return "\n".join(lines + [f"  ! {problem}" for problem in report.problems])


def as_json(report: Report) -> dict[str, Any]:
    """A run for programs to read."""
    told = report.judgement
    return {
        "seed": report.seed,
        "case": report.case,
        "sound": report.sound,
        "took_s": round(report.took_s, 1),
        "faults": [{"at_s": round(at_s, 2), "what": what} for at_s, what in report.faults],
        "recoveries": [
            {"name": each.name, "took_s": each.took_s and round(each.took_s, 2), "limit_s": each.limit_s}
            for each in report.recoveries
        ],
        "accepted": told.accepted,
        "done": told.done,
        "failed": dict(told.failed),
        "lost": told.lost,
        "doubled": told.doubled,
        "refused": dict(report.refused),
        "own_deaths": report.own_deaths,
        "problems": report.problems,
    }


def summary(reports: list[Report]) -> str:
    """All runs in a few lines."""
    told = [report.judgement for report in reports]
    counted = {
        "accepted": sum(each.accepted for each in told),
        "done": sum(each.done for each in told),
        "failed as they must": sum(each.failed.total() for each in told),
        "lost": sum(len(each.lost) for each in told),
        "doubled": sum(len(each.doubled) for each in told),
    }
    lines = [f"{len(reports)} runs: " + ", ".join(f"{name} {number}" for name, number in counted.items())]
    limited = [each for report in reports for each in report.recoveries if each.limit_s is not None]
    for limit_s in sorted({each.limit_s for each in limited if each.limit_s is not None}):
        took = [each.took_s for each in limited if each.limit_s == limit_s and each.took_s is not None]
        lines.append(f"recoveries with a limit of {limit_s:g} s: {len(took)}, the longest {max(took, default=0.0):.1f} s")
    wrong = [str(report.seed) for report in reports if not report.sound]
    lines.append(f"seeds that were not sound: {', '.join(wrong) or 'none'}")
    return "\n".join(lines)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--seed", type=int, help="of the first run, the others count on from it; drawn if left out")
    parser.add_argument("--case", choices=CASES, help="one kind of trouble; drawn if left out")
    parser.add_argument("--logs", type=Path, help="folder that keeps the logs of workers and servers")
    parser.add_argument("--json", action="store_true", help="one object a run and line")
    return parser.parse_args()


if __name__ == "__main__":
    main()
