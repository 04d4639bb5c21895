"""One seed of each chaos case; `python -m benchmarks.chaos` runs any number of them, and says what happened when."""

from pathlib import Path

import pytest

from benchmarks.chaos import as_text
from benchmarks.chaos_cases import CASES, run_case
from benchmarks.chaos_servers import Servers

SEED = 7
# Redis that refuses every write takes the consumer's own bookkeeping with it: the worker ends, and its supervisor starts another.
MAY_END = ("redis", "disk_full")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_or_doubled(case: str, servers: Servers, tmp_path: Path) -> None:
    report = run_case(case, SEED, servers, tmp_path)
    assert report.sound, as_text(report)
    assert case in MAY_END or not report.own_deaths, as_text(report)
    assert report.faults and report.judgement.done > 0, as_text(report)
