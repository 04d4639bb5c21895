"""The student's stage of a run: steps, validations, checkpoints, and the budget that becomes a number of steps."""

import signal
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader

from model.augment import Sample
from model.data import TrainingSet, ValidationSet
from model.pace import PLANNING_STEPS, Pace, steps_within
from model.run_folder import CURVES_NAME, SHEETS_NAME, RunFolder
from model.selection import Best, better, clearly_better, mean_f1
from model.trainer import Diverged, Trainer
from model.training_curves import curves
from model.training_pictures import sheet, sheet_pictures
from schemas.errors import InvalidInput, TrainingDiverged, WorkerLost

LOADER_FAILED = "DataLoader worker"


@dataclass(frozen=True)
class Progress:
    """What a caller shows.

    Attributes:
        stage: "teacher" (counted in pictures) or "student" (in steps).
        done, count: of the stage; count is 0 while a time budget is not yet a number of steps.
        entry: the latest line of the log; of the teacher, figures once it is through.
    """

    stage: str
    done: int
    count: int
    entry: Mapping[str, Any]


class StopTraining(Exception):
    """Raised by a caller's report to end the run here; the state is saved, and the same call goes on."""


Report = Callable[[Progress], None]


class Course:
    """The student's stage: steps, validations, checkpoints and the budget."""

    def __init__(self, trainer: Trainer, folder: RunFolder, validation: ValidationSet, report: Report) -> None:
        self.trainer, self.config, self.folder = trainer, trainer.config, folder
        self.validation, self.report = validation, report
        self.pace = Pace()
        self.figures: dict[str, float] = {}
        self.best: Best | None = None
        self.planned: int | None = None  # steps of the whole run
        self._restore()
        self._counted_at = time.monotonic()

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.trainer.step >= (self.planned or self.config.steps)

    def follow(self, data: TrainingSet) -> None:
        """Run to the end of the schedule."""
        self._tell({"step": self.trainer.step} if self.trainer.step else {})
        try:
            with closing(self._batches(data)) as batches:
                while not self.finished:
                    self._advance(batches)
        except RuntimeError as error:
            if LOADER_FAILED not in str(error):
                raise
            # torch raises it from a signal handler, perhaps in the middle of a step, so nothing here can be saved. Its traceback
            # would keep the loader, whose dead process torch reports again at every signal of a child.
            raise WorkerLost(
                f"a process that draws training pictures died ({error}), often for lack of memory. The last checkpoint is "
                "intact: give the same command again, with --set loader_workers=0 or 1 to use less memory"
            ) from error.with_traceback(None)

    def measure(self) -> None:
        """Validate and save the student as it is, where there is nothing to train."""
        self.folder.log({"step": self.trainer.step, **self._validate()})
        self._save()

    def _advance(self, batches: Iterator[Sample]) -> None:
        """One step and what is due after it, as one line of the log."""
        started = time.monotonic()
        entry: dict[str, Any] = self._step(batches)
        at, config = self.trainer.step, self.config
        planning = bool(config.limit_minutes) and at == min(PLANNING_STEPS, config.steps)
        validating = planning or self.finished or at % config.evaluate_every_steps == 0
        if validating:
            entry |= self._validate()
        self._count_time()
        if planning and self.planned is None:
            self._plan(time.monotonic() - started)
        self.folder.log(entry | {"elapsed_s": round(self.pace.elapsed_s, 1)})
        if planning or self.finished or at % config.checkpoint_every_steps == 0:
            self._save()
        if validating:
            self.folder.write(CURVES_NAME, curves(self.folder.entries(), self._title()))
        self._tell(entry)

    def _step(self, batches: Iterator[Sample]) -> dict[str, Any]:
        started = time.monotonic()
        try:
            batch = next(batches)
            waited_s = time.monotonic() - started
            figures = self.trainer.train_step(batch, self.planned or self.config.steps)
        except Diverged as diverged:
            raise self._diverged(diverged) from diverged
        except InvalidInput as error:
            raise InvalidInput(error.message.rpartition("InvalidInput: ")[2].strip()) from error  # without the worker's traceback
        step_s = time.monotonic() - started
        self.pace.add_step(step_s, waited_s)
        speed = self.config.batch_size / step_s
        return figures | {"pictures_per_s": round(speed, 2), "waited_s": round(waited_s, 4)}

    def _count_time(self) -> None:
        """Add what has passed since the last call, checkpoints and curves included."""
        now = time.monotonic()
        self.pace.elapsed_s += now - self._counted_at
        self._counted_at = now

    def _plan(self, validation_s: float) -> None:
        """Turn what is left of the time budget into a number of steps, for good.

        Args:
            validation_s: time since the last step began, most of which its validation took.
        """
        left_s = 60.0 * self.config.limit_minutes - self.pace.elapsed_s
        more = steps_within(left_s, self.pace.step_s, validation_s, self.config.evaluate_every_steps)
        self.planned = min(self.config.steps, self.trainer.step + more)
        self.folder.plan(self.planned)

    def _validate(self) -> dict[str, float]:
        """Figures of the averaged student, its picture sheet, and a copy of its weights if it is the best so far."""
        validated = self.trainer.evaluate(self.validation)
        self.figures, step, rows = validated.figures, self.trainer.step, self.validation.rows
        self.best = better(self.best, step, self.figures, rows, self.trainer.average)
        shown = sheet_pictures(rows, self.validation.pixels, self.validation.masks_net, validated.prob, validated.score_logit)
        self.folder.write(f"{SHEETS_NAME}/step-{step:06d}.png", sheet(shown, self._title()))
        return self.figures

    def _title(self) -> str:
        steps = f"{self.trainer.step} of {self.planned}" if self.planned else str(self.trainer.step)
        figures = [f"{self.config.name}, step {steps}"]
        if (f1 := mean_f1(self.figures)) is not None:
            figures.append(f"mean pixel F1 {f1:.3f}")
        if "image_auc" in self.figures:
            figures += [f"image AUC {self.figures['image_auc']:.3f}", f"authentic area marked {self.figures['fa_area']:.2%}"]
        return " · ".join(figures)

    def _diverged(self, diverged: Diverged) -> TrainingDiverged:
        """Save what is needed to look into it; the message says where."""
        step = self.trainer.step + 1
        evidence = {"batch": dict(diverged.batch), "state": self.trainer.state(), "figures": dict(diverged.figures)}
        file = self.folder.save_divergence(step, evidence)
        slower = "a lower lr_head and lr_backbone or a longer warmup_steps"
        exact = ', or with precision = "fp32"' if self.trainer.precision != "fp32" else ""
        return TrainingDiverged(
            f"step {step}: loss or gradient is not a number ({diverged}). The batch and the state before it are in {file}; "
            "the last checkpoint is intact, but the same command would end here again. "
            f"Train in another folder with {slower}{exact}"
        )

    def _save(self) -> None:
        self.folder.save_state(self.trainer.state() | {"pace": self.pace.state(), "best": self.best, "figures": self.figures})

    def _restore(self) -> None:
        state = self.folder.load_state()
        if state is not None:
            self.trainer.restore(state)
            self.pace, self.best, self.figures = Pace(**state["pace"]), state["best"], state["figures"]
        self.folder.rewind_log(self.trainer.step)
        self.planned = self.folder.planned_steps()

    def _tell(self, entry: Mapping[str, Any]) -> None:
        try:
            self.report(Progress("student", self.trainer.step, self.planned or 0, entry))
        except StopTraining:
            self._save()
            raise

    def _batches(self, data: TrainingSet) -> Generator[Sample, None, None]:
        """What is left of the data; closing it ends the loader's processes."""
        workers = self.config.loader_workers
        loader = DataLoader(
            data,
            batch_size=self.config.batch_size,
            sampler=range(self.trainer.step * self.config.batch_size, len(data)),
            num_workers=workers,
            prefetch_factor=3 if workers else None,
            pin_memory=self.trainer.device.type == "cuda",
            worker_init_fn=_leave_interrupts_to_the_trainer,
            generator=torch.Generator().manual_seed(self.config.seed),  # its own, so that a resumed run draws nothing else
        )
        yield from loader

    def summary(self) -> dict[str, Any]:
        """What `summary.json` says of the finished run."""
        best = clearly_better(self.best, self.figures)
        return self.folder.record() | {
            "steps": self.trainer.step,
            "minutes": round(self.pace.elapsed_s / 60, 1),
            "pictures_per_s": round(self.pace.pictures_per_s(self.config.batch_size), 2),
            "loader_waited_share": round(self.pace.wait_share, 4),
            "parameters": sum(parameter.numel() for parameter in self.trainer.student.parameters()),
            "device": str(self.trainer.device),
            "precision": self.trainer.precision,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "last": {"step": self.trainer.step, "figures": self.figures},
            "best": {"step": self.best["step"], "figures": self.best["figures"]} if self.best else None,
            "published_step": best["step"] if best else self.trainer.step,
        }


def _leave_interrupts_to_the_trainer(_worker: int) -> None:
    """A Ctrl-C reaches every process of the terminal; the trainer ends its loaders itself when the state is saved."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
