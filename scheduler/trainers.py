"""What a run needs of whoever trains its student. The real one is `scheduler.training`, which loads torch."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from model.config import TrainConfig


class Tell(Protocol):
    """Says how far a step is. What it raises ends the step, which is gone on with later or not at all."""

    def __call__(self, message: str, **changes: Any) -> None: ...


@dataclass(frozen=True)
class Lesson:
    """What a student is trained with.

    Attributes:
        folder: of the run, on this machine.
        manifest: CSV of the working set.
        manifest_sha256: of the frozen manifest it was made of.
        masks: folder of the pseudo-masks.
        teacher_id: who made them.
        parent: folder of the student that training begins from.
        config: how to train for (steps, limit in minutes).
        budget_minutes: of the time that steps are counted from.
        device: "cpu" or "cuda:N".
    """

    folder: Path
    manifest: Path
    manifest_sha256: str
    masks: Path
    teacher_id: str
    parent: Path
    config: Callable[[int, float], TrainConfig]
    budget_minutes: float
    device: str


class Trainer(Protocol):
    """Trains and publishes."""

    def plan(self, lesson: Lesson, tell: Tell) -> int:
        """How many steps the budget holds."""
        ...

    def train(self, lesson: Lesson, steps: int, tell: Tell) -> Path:
        """The folder of a published student, after so many steps; a later call goes on where an earlier one was killed."""
        ...

    def record(self, lesson: Lesson) -> dict[str, Any]:
        """Figures of the training."""
        ...

    def files(self, lesson: Lesson) -> list[Path]:
        """Pictures and logs for the record."""
        ...
