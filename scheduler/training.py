"""A run's training: how many steps its time budget holds, then these steps, then a published student. Loads torch.

Imported only by a process that is to train. Everything is resumable to the step by the files in the run's folder
(`model.run_folder`), and a function of manifest, seed and number of steps.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from model.config import TrainConfig
from model.course import Progress, StopTraining
from model.distill import distill
from model.initial import initial_weights
from model.manifest import Manifest, read_manifest
from model.pace import PLANNING_STEPS
from model.publish import publish
from model.run_folder import SUMMARY_NAME, RunFolder
from model.teacher import GivenMasks
from scheduler.trainers import Lesson, Tell

MOST_STEPS: Final = 1_000_000
_TRAINING, _PACE, STUDENT = "training", "pace", "student"


class StudentTrainer:
    """Trains on from the live student."""

    def plan(self, lesson: Lesson, tell: Tell) -> int:
        """How many steps the budget holds, at the pace of the first steps on these pictures; these are thrown away.

        Raises:
            as `model.distill.distill`, and what `tell` raises.
        """
        minutes, scratch = lesson.budget_minutes, lesson.folder / _PACE
        shutil.rmtree(scratch, ignore_errors=True)
        config = lesson.config(MOST_STEPS, minutes)
        measured = _Listener(lambda progress: _planned(progress, tell))
        try:
            _distil(lesson, config, scratch, measured)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        return measured.answer or PLANNING_STEPS

    def train(self, lesson: Lesson, steps: int, tell: Tell) -> Path:
        """Train so many steps, going on where an earlier call stopped, and publish.

        Returns:
            The student's folder.

        Raises:
            as `plan`; `model.publish.publish`.
        """
        config, folder = lesson.config(steps, 0.0), lesson.folder / _TRAINING
        _distil(lesson, config, folder, _Listener(lambda progress: _told(progress, tell)))

        def publishing(stage: str, done: int, count: int) -> None:
            tell(f"publishing: {stage} {done} of {count}", step=steps)

        publish(folder, _manifest(lesson), lesson.folder / STUDENT, publishing)
        return lesson.folder / STUDENT

    def record(self, lesson: Lesson) -> dict[str, Any]:
        """Figures of the training, and its files for the report, by name."""
        folder = RunFolder(lesson.folder / _TRAINING)
        summary = folder.summary() if (folder.path / SUMMARY_NAME).exists() else {}
        how = ("steps", "minutes", "pictures_per_s", "device", "precision", "torch")
        kept = (*how, "last", "best", "published_step", "pseudo_masks")
        return {name: summary[name] for name in kept if name in summary}

    def files(self, lesson: Lesson) -> list[Path]:
        """What a report shows of the training."""
        folder = lesson.folder / _TRAINING
        return [path for path in (folder / "curves.png", folder / "log.jsonl") if path.is_file()]


@dataclass
class _Listener:
    """Hears of a training's progress. What it raises ends the training after its state is saved, and is raised again."""

    hear: Callable[[Progress], int | None]
    answer: int | None = None
    raised: Exception | None = None

    def __call__(self, progress: Progress) -> None:
        try:
            self.answer = self.hear(progress)
        except Exception as error:
            self.raised = error
            raise StopTraining from error
        if self.answer is not None:
            raise StopTraining


def _distil(lesson: Lesson, config: TrainConfig, folder: Path, listener: _Listener) -> None:
    teacher = GivenMasks(lesson.teacher_id, lesson.masks)
    start = initial_weights(lesson.parent, config.student)
    try:
        distill(config, _manifest(lesson), teacher, folder, listener, lesson.device, start)
    except StopTraining:
        if listener.raised is not None:
            raise listener.raised from None


def _manifest(lesson: Lesson) -> Manifest:
    """The pictures; the run knows them by the hash of what was frozen, wherever their files lie."""
    return replace(read_manifest(lesson.manifest), sha256=lesson.manifest_sha256)


def _planned(progress: Progress, tell: Tell) -> int | None:
    tell(f"finding out how fast it trains: step {progress.done} of {PLANNING_STEPS}", step=0)
    return progress.count if progress.stage == "student" and progress.count else None


def _told(progress: Progress, tell: Tell) -> None:
    if progress.stage == "student":
        loss = f", loss {progress.entry['total']:.3f}" if "total" in progress.entry else ""
        tell(f"training: step {progress.done} of {progress.count}{loss}", step=progress.done)
    else:
        tell(f"reading masks: {progress.done} of {progress.count}", step=0)
