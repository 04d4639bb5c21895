"""How fast a run trains, and how many steps a time budget holds."""

from collections import deque
from dataclasses import dataclass, field

RECENT_STEPS = 20
PLANNING_STEPS = RECENT_STEPS + 5  # then a time budget becomes a number of steps; the first five fill caches


@dataclass
class Pace:
    """Seconds spent so far, over all calls that made the run.

    Attributes:
        elapsed_s: everything from the first step on: training, validation, pictures, checkpoints.
        trained_s: steps alone, the wait for their batches included.
        waited_s: part of `trained_s` in which no batch was ready.
        steps: measured.
    """

    elapsed_s: float = 0.0
    trained_s: float = 0.0
    waited_s: float = 0.0
    steps: int = 0
    _recent_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT_STEPS), repr=False)

    def add_step(self, step_s: float, waited_s: float) -> None:
        """One more step."""
        self.trained_s += step_s
        self.waited_s += waited_s
        self.steps += 1
        self._recent_s.append(step_s)

    @property
    def step_s(self) -> float:
        """Mean seconds of a step of late; 0 before the first."""
        return sum(self._recent_s) / len(self._recent_s) if self._recent_s else 0.0

    @property
    def wait_share(self) -> float:
        """Share of the training time in which no batch was ready."""
        return self.waited_s / self.trained_s if self.trained_s else 0.0

    def pictures_per_s(self, batch_size: int) -> float:
        """Over the whole run, training alone."""
        return self.steps * batch_size / self.trained_s if self.trained_s else 0.0

    def state(self) -> dict[str, float | int]:
        """Plain values for a checkpoint."""
        return {"elapsed_s": self.elapsed_s, "trained_s": self.trained_s, "waited_s": self.waited_s, "steps": self.steps}


def steps_within(left_s: float, step_s: float, validation_s: float, validate_every: int) -> int:
    """How many more steps fit into what is left of a time budget.

    Args:
        left_s: of the budget.
        step_s: of one step.
        validation_s: of one validation with its pictures; the run ends with one.
        validate_every: steps between two of them.
    """
    return max(0, int((left_s - validation_s) / (step_s + validation_s / validate_every)))
