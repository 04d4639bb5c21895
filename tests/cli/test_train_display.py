import io
from typing import Any

import pytest
from rich.console import Console

from cli import train_display
from cli.train_display import TrainingDisplay
from model.course import Progress

STEP = {"total": 0.5, "pictures_per_s": 12.0}
VALIDATION = {"f1_a": 0.2, "f1_b": 0.4, "image_auc": 0.75, "fa_area": 0.012}


class Clock:
    """Stands in for the module's `time`."""

    now_s = 0.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(train_display, "time", clock)
    return clock


def display(*, terminal: bool) -> tuple[TrainingDisplay, io.StringIO]:
    text = io.StringIO()
    return TrainingDisplay(Console(file=text, force_terminal=terminal, width=80, color_system=None, legacy_windows=False)), text


def student(done: int, count: int, entry: dict[str, Any]) -> Progress:
    return Progress("student", done, count, entry)


def test_a_log_file_gets_a_line_every_half_minute_and_at_the_end(clock: Clock) -> None:
    shown, text = display(terminal=False)
    with shown:
        for second in range(0, 91, 10):
            clock.now_s = float(second)
            shown.counted("teacher", second // 10, 9)
    assert text.getvalue().splitlines() == [
        "teacher: boxes to masks: 3 of 9 pictures   60 s left",
        "teacher: boxes to masks: 6 of 9 pictures   30 s left",
        "teacher: boxes to masks: 9 of 9 pictures",
    ]


@pytest.mark.parametrize(("seconds", "words"), [(80.0, "80 s"), (600.0, "10 min"), (9000.0, "2.5 h")])
def test_what_is_left_is_told_in_a_fitting_unit(clock: Clock, seconds: float, words: str) -> None:
    shown, text = display(terminal=False)
    shown.counted("teacher", 0, 2)
    clock.now_s = seconds
    shown.counted("teacher", 1, 2)
    assert text.getvalue().strip().endswith(f"{words} left")


def test_a_validation_is_a_line_of_its_own(clock: Clock) -> None:
    shown, text = display(terminal=False)
    shown.training(student(400, 2000, STEP | VALIDATION))
    assert text.getvalue() == "step   400   loss 0.500   F1 0.300   AUC 0.750   authentic area marked 1.2%\n"
    clock.now_s = 40.0
    shown.training(student(500, 2000, STEP))
    assert "student: training: 500 of 2000 steps   10 min left   loss 0.500   12.0 pictures/s" in text.getvalue()


def test_a_resumed_a_finished_and_a_planned_run_say_so() -> None:
    for done, count, entry, words in [
        (5, 9, {"step": 5}, "going on after step 5"),
        (9, 9, {"step": 9}, "all 9 steps are done"),
    ]:
        shown, text = display(terminal=False)
        shown.training(student(done, count, entry))
        assert words in text.getvalue()
    shown, text = display(terminal=False)
    shown.training(student(24, 0, STEP))
    assert "budget" not in text.getvalue()
    shown.training(student(25, 75, STEP))
    assert "the time budget holds 75 steps" in text.getvalue()
    assert shown.stopped_at == "stopped after step 25, which is saved"


def test_the_teacher_ends_with_its_figures() -> None:
    shown, text = display(terminal=False)
    shown.training(Progress("teacher", 3, 9, {}))
    assert shown.stopped_at == "stopped at mask 3 of 9, which are kept"
    shown.training(Progress("teacher", 9, 9, {"pictures": 9, "dropped": 2, "mean_quality": 0.625}))
    assert "9 pseudo-masks, mean quality 0.62, 2 too poor to train on" in text.getvalue()
    shown.training(Progress("teacher", 0, 0, {"pictures": 0, "dropped": 0, "mean_quality": None}))
    assert text.getvalue().endswith("0 pseudo-masks\n")


def test_a_terminal_gets_bars_and_the_figures_below() -> None:
    shown, text = display(terminal=True)
    with shown:
        shown.downloading(3_000_000, 9_000_000)
        shown.training(student(30, 0, STEP))
        shown.training(student(400, 2000, STEP | VALIDATION))
    last = text.getvalue().rpartition("downloading the teacher")[2]
    assert "3 of 9 MB" in last
    assert "400 of 2000 steps" in last
    assert "loss 0.500   12.0 pictures/s   last validation: F1 0.300   AUC 0.750" in last


def test_a_stage_of_another_release_is_shown_under_its_own_name() -> None:
    shown, text = display(terminal=False)
    shown.counted("polish", 2, 2)
    assert text.getvalue() == "polish: 2 of 2 pictures\n"
