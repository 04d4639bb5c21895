"""Nights as a drawing: what was measured, in its place; what was not, left out."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from schemas.learning_tables import RetrainRun
from schemas.states import RetrainState, RetrainTrigger
from web.learning.nights import HEIGHT, WIDTH, charts, nights_of

START = datetime(2026, 3, 1, 2, tzinfo=UTC)


def run_of(day: int, live: Any, candidate: Any, state: RetrainState = RetrainState.REJECTED) -> RetrainRun:
    def told(f1: Any) -> Any:
        return {"version": f"v{day}", "f1": {"none": f1}, "false_area": None} if not isinstance(f1, dict) else f1

    figures = {"measured": {"live": told(live), "candidate": told(candidate)}}
    return RetrainRun(trigger=RetrainTrigger.SCHEDULE, state=state, figures=figures, created_at=START + timedelta(days=day))


def test_better_lies_higher_and_later_lies_further_right() -> None:
    found = nights_of([run_of(1, 0.3, 0.35, RetrainState.PROMOTED), run_of(0, 0.3, 0.25)])
    (chart,) = charts(found)

    assert [point.words for point in chart.candidate] == ["2026-03-01: v0 0.250, rejected", "2026-03-02: v1 0.350, promoted"]
    assert [point.promoted for point in chart.candidate] == [False, True]
    assert chart.candidate[1].y < chart.live[1].y == chart.live[0].y < chart.candidate[0].y
    assert chart.live[0].x < chart.live[1].x
    assert chart.line == f"{chart.live[0].x},{chart.live[0].y} {chart.live[1].x},{chart.live[1].y}"
    assert [tick.words for tick in chart.dates] == ["01 Mar", "02 Mar"]


@pytest.mark.parametrize(
    "figures",
    [
        {},
        {"measured": None},
        {"measured": {"live": 3, "candidate": []}},
        {"measured": {"live": {"f1": 3}, "candidate": {"f1": {"none": "x"}}}},
        {"measured": {"live": {"f1": {"none": True}}, "candidate": {"f1": {"none": float("nan")}}}},
    ],
)
def test_what_is_no_figure_is_not_drawn(figures: Any) -> None:
    run = RetrainRun(trigger=RetrainTrigger.MANUAL, figures=figures)
    assert charts(nights_of([run])) == []


def test_a_whole_year_stays_inside_its_frame() -> None:
    found = nights_of([run_of(day, 0.3 + day / 1000, 0.9 - day / 1000) for day in range(365)])
    (chart,) = charts(found)

    assert len(chart.dates) <= 6
    for point in (*chart.live, *chart.candidate):
        assert 0 < point.x < WIDTH and 0 < point.y < HEIGHT


def test_nights_that_are_all_alike_have_a_height() -> None:
    (chart,) = charts(nights_of([run_of(0, 0.0, 0.0)]))
    assert len({tick.at for tick in chart.rows}) == 5
    assert chart.live[0].y == chart.candidate[0].y
