"""The interval: repeatable, monotone, as wide as the theory says, and wider where pictures come in clusters."""

from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.bootstrap import Interval, expanded_tail, paired_interval

VALUES = st.lists(st.floats(-1, 1), min_size=2, max_size=30)


def interval(values: list[float], clusters: list[str] | None = None, seed: int = 0, confidence: float = 0.95) -> Interval:
    names = clusters or [f"c{number}" for number in range(len(values))]
    found = paired_interval(values, names, confidence, 400, seed)
    assert found is not None
    return found


def test_one_cluster_says_nothing() -> None:
    assert paired_interval([0.1, 0.2], ["a", "a"], 0.95, 400, 0) is None
    assert paired_interval([], [], 0.95, 400, 0) is None


def test_equal_models_have_no_width() -> None:
    assert interval([0.0] * 20) == (0.0, 0.0)


def test_the_seed_decides_and_the_order_of_pictures_does_not() -> None:
    values = list(np.random.default_rng(3).normal(size=40))
    clusters = [f"c{number // 3}" for number in range(40)]
    order = np.random.default_rng(4).permutation(40)
    assert interval(values, clusters) == interval(values, clusters)
    assert interval(values, clusters) == interval([values[i] for i in order], [clusters[i] for i in order])
    assert interval(values, clusters) != interval(values, clusters, seed=1)


@given(VALUES, st.data())
def test_raising_a_difference_never_lowers_an_end(values: list[float], data: st.DataObject) -> None:
    raised = [value + data.draw(st.floats(0, 1)) for value in values]
    before, after = interval(values), interval(raised)
    assert after.low >= before.low - 1e-12
    assert after.high >= before.high - 1e-12


@given(VALUES, st.floats(-1, 1))
def test_a_shift_shifts_both_ends(values: list[float], shift: float) -> None:
    assert interval([value + shift for value in values]) == pytest.approx([end + shift for end in interval(values)], abs=1e-9)


def test_the_width_is_that_of_students_t() -> None:
    values = np.random.default_rng(5).normal(size=30)
    found = paired_interval(values, [f"{n}" for n in range(30)], 0.95, 20_000, 0)
    assert found is not None
    half = 2.045 * values.std(ddof=1) / np.sqrt(30)
    assert (found.high - found.low) / 2 == pytest.approx(half, rel=0.03)


def test_copies_of_a_picture_in_its_cluster_add_no_certainty() -> None:
    values = list(np.random.default_rng(6).normal(size=20))
    alone = interval(values)
    copied = interval(values * 5, [f"c{number}" for number in range(20)] * 5)
    apart = interval(values * 5)
    assert copied == pytest.approx(alone, abs=1e-9)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize(("n", "student"), [(6, 2.571), (11, 2.228), (31, 2.042), (101, 1.984)])
def test_tails_follow_the_table_of_students_t(n: int, student: float) -> None:
    assert -NormalDist().inv_cdf(expanded_tail(0.95, n)) == pytest.approx(student * np.sqrt(n / (n - 1)), rel=0.004)
