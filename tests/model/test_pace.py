import pytest

from model.pace import RECENT_STEPS, Pace, steps_within


def test_speed_and_wait_are_of_the_training_alone() -> None:
    pace = Pace(elapsed_s=100.0)
    for _ in range(4):
        pace.add_step(step_s=2.0, waited_s=0.5)
    assert pace.pictures_per_s(batch_size=6) == pytest.approx(3.0)
    assert pace.wait_share == pytest.approx(0.25)


def test_nothing_measured_is_no_division_by_zero() -> None:
    assert (Pace().pictures_per_s(8), Pace().wait_share, Pace().step_s) == (0.0, 0.0, 0.0)


def test_the_pace_of_late_forgets_the_slow_beginning() -> None:
    pace = Pace()
    pace.add_step(50.0, 0.0)
    for _ in range(RECENT_STEPS):
        pace.add_step(1.0, 0.0)
    assert pace.step_s == pytest.approx(1.0)


def test_a_checkpoint_brings_the_seconds_back() -> None:
    pace = Pace(elapsed_s=9.0)
    pace.add_step(2.0, 0.5)
    again = Pace(**pace.state())
    assert (again.elapsed_s, again.trained_s, again.waited_s, again.steps) == (9.0, 2.0, 0.5, 1)


def test_a_budget_pays_for_validations_too() -> None:
    assert steps_within(left_s=100.0, step_s=1.0, validation_s=0.0, validate_every=10) == 100
    assert steps_within(left_s=110.0, step_s=1.0, validation_s=10.0, validate_every=10) == 50


def test_a_spent_budget_holds_no_more_steps() -> None:
    assert steps_within(left_s=-3.0, step_s=1.0, validation_s=1.0, validate_every=10) == 0
