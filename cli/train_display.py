"""What a person sees while a student trains: a bar for each stage on a terminal, now and then a line in a log file."""

import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text

from cli.console import plain

if TYPE_CHECKING:
    from model.course import Progress as TrainingProgress

LINE_EVERY_S = 30.0
SMOOTHING = 0.95  # of the loss and the speed shown
NAMES = {
    "near-duplicates": "looking for near-duplicates",
    "checks": "checking the data",
    "boxes": "boxes from masks",
    "download": "downloading the teacher",
    "teacher": "teacher: boxes to masks",
    "student": "student: training",
    "mask": "fitting the mask",
    "evaluate": "measuring",
}
UNITS = {"download": "MB", "student": "steps"}


class TrainingDisplay:
    """Bars on a terminal, lines elsewhere; validations as lines on both.

    Args:
        console: where it goes.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars = _Bars(console) if console.is_terminal else None
        self._tasks: dict[str, TaskID] = {}
        self._lines = _Lines()
        self._mean: dict[str, float] = {}
        self._validation = ""
        self._planned: int | None = None
        self.stopped_at = ""
        """What is kept when training ends here."""

    def __enter__(self) -> "TrainingDisplay":
        if self._bars:
            self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bars:
            self._bars.stop()

    def say(self, text: str) -> None:
        """A line that stays; markup in it takes effect."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def counted(self, stage: str, done: int, count: int, figures: str = "") -> None:
        """How far a stage is: a key of `NAMES`; count 0 where nobody knows yet."""
        if self._bars:
            self._show_bar(self._bars, stage, done, count, figures)
        elif line := self._lines.due(stage, done, count):
            self.say(f"{line}{'   ' if figures else ''}{figures}")

    def downloading(self, here_bytes: int, whole_bytes: int) -> None:
        """Called by the teacher's download."""
        self.counted("download", here_bytes // 1_000_000, whole_bytes // 1_000_000)

    def training(self, progress: "TrainingProgress") -> None:
        """Called by `model.distill`."""
        entry = progress.entry
        if progress.stage == "teacher":
            self.say(_taught(entry)) if entry else self.counted("teacher", progress.done, progress.count)
            self.stopped_at = f"stopped at mask {progress.done} of {progress.count}, which are kept"
            return
        if "total" not in entry and progress.done:
            done = progress.done == progress.count
            self.say(f"all {progress.done} steps are done" if done else f"going on after step {progress.done}")
        elif self._planned == 0 and progress.count:
            self.say(f"the time budget holds {progress.count} steps at this machine's pace; from now on that number is fixed")
        self.stopped_at = f"stopped after step {progress.done}, which is saved"
        self._planned = progress.count
        self._average(entry)
        if "image_auc" in entry or any(name.startswith("f1_") for name in entry):
            self._validation = _validation(entry)
            self.say(f"step {progress.done:>5}   loss {self._mean['total']:.3f}   {self._validation}")
        self.counted("student", progress.done, progress.count, self._figures())

    def _average(self, entry: Mapping[str, Any]) -> None:
        for name in ("total", "pictures_per_s"):
            if name in entry:
                before = self._mean.get(name, entry[name])
                self._mean[name] = SMOOTHING * before + (1 - SMOOTHING) * entry[name]

    def _figures(self) -> str:
        if not self._mean:
            return ""
        speed = f"loss {self._mean['total']:.3f}   {self._mean['pictures_per_s']:.1f} pictures/s"
        return f"{speed}   last validation: {self._validation}" if self._bars and self._validation else speed

    def _show_bar(self, bars: "_Bars", stage: str, done: int, count: int, figures: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = bars.add_task(NAMES.get(stage, stage), total=count or None, completed=done, counted="")
        counted = f"{done} of {count} {UNITS.get(stage, 'pictures')}" if count else f"{done} {UNITS.get(stage, 'pictures')}"
        bars.update(self._tasks[stage], completed=done, total=count or None, counted=counted)
        bars.figures = figures


class _Bars(Progress):
    """A table of bars, and one line of figures below it that no narrow terminal cuts off."""

    figures = ""

    def __init__(self, console: Console) -> None:
        super().__init__(
            TextColumn("{task.description:<27}"),
            BarColumn(),
            TextColumn("{task.fields[counted]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )

    def get_renderables(self) -> Iterable[RenderableType]:
        """See rich."""
        yield self.make_tasks_table(self.tasks)
        if self.figures:
            yield Text(f"  {self.figures}", style="dim")


class _Lines:
    """Says when a line is due, and writes it: at a stage's end, and every half minute before."""

    def __init__(self) -> None:
        self._stage, self._began, self._first, self._last = "", 0.0, 0, 0.0

    def due(self, stage: str, done: int, count: int) -> str:
        """The line, or nothing."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._began, self._first, self._last = stage, now, done, now
        if now - self._last < LINE_EVERY_S and (not count or done < count):
            return ""
        self._last = now
        unit, of = UNITS.get(stage, "pictures"), f" of {count}" if count else ""
        left_s = (count - done) * (now - self._began) / (done - self._first) if done > self._first else 0.0
        return f"{NAMES.get(stage, stage)}: {done}{of} {unit}" + (f"   {_duration(left_s)} left" if left_s > 0 else "")


def _taught(entry: Mapping[str, Any]) -> str:
    quality = "" if entry["mean_quality"] is None else f", mean quality {entry['mean_quality']:.2f}"
    dropped = f", {entry['dropped']} too poor to train on" if entry["dropped"] else ""
    return f"{entry['pictures']} pseudo-masks{quality}{dropped}"


def _validation(entry: Mapping[str, Any]) -> str:
    """F1 as mean over sets, image AUC and false-alarm area, as far as there are any."""
    f1 = [value for name, value in entry.items() if name.startswith("f1_")]
    parts = [f"F1 {sum(f1) / len(f1):.3f}"] if f1 else []
    parts += [f"AUC {entry['image_auc']:.3f}", f"authentic area marked {entry['fa_area']:.1%}"] if "image_auc" in entry else []
    return plain("   ".join(parts))


def _duration(seconds: float) -> str:
    minutes, hours = round(seconds / 60), round(seconds / 3600, 1)
    return f"{seconds:.0f} s" if seconds < 90 else f"{minutes} min" if minutes < 90 else f"{hours:g} h"
