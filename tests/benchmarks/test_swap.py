"""The swap under load: what is counted as a dip and as a mixed result, and a short run of the real thing."""

import dataclasses
import math
from pathlib import Path

import pytest

from benchmarks.pictures import SAMPLES, write_jpegs
from benchmarks.swap import Round, print_summary, swapped
from benchmarks.swap_load import Tally, mixed, told_apart


def test_a_result_is_mixed_where_its_version_says_otherwise_every_other_time() -> None:
    said = [("a", "1", "x"), ("a", "1", "x"), ("a", "2", "y"), ("b", "1", "z"), ("b", "2", "z")]
    assert (mixed(said), told_apart(said)) == (0, 1)
    assert mixed([*said, ("a", "1", "y")]) == 1


def test_what_was_lost_is_held_against_before(capsys: pytest.CaptureFixture[str]) -> None:
    each = Round("swap-1", before=10.0, during=9.0, after=11.0, longest_gap_s=1.0, taken_over_s=5.0)
    assert (each.dip, each.lasting) == (pytest.approx(0.1), pytest.approx(-0.1))
    assert math.isnan(dataclasses.replace(each, before=0.0).dip)
    print_summary([each], Tally(jobs=100, failed=0, not_one=0, mixed=0, told_apart=24, pictures=24), 30.0)
    said = capsys.readouterr().out
    assert "lost in the 30 s after the promotion: median +10.0%" in said
    assert "lost in the 30 s after that: median -10.0%" in said
    assert "jobs 100, failed 0, without exactly one result 0, mixed results 0" in said


@pytest.mark.slow
def test_a_short_swap_loses_nothing(tmp_path: Path) -> None:
    paths = write_jpegs(SAMPLES, tmp_path / "pictures", 6, megapixels=0.05)
    (found,), tally = swapped(tmp_path, paths, rounds=1, window_s=2.0, waiting=12)
    assert found.version == "swap-1"
    assert (tally.failed, tally.not_one, tally.mixed) == (0, 0, 0)
    assert tally.jobs >= 12 and tally.pictures == 6
