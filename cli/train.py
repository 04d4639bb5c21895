"""`tamperwatch train`: a distillation run from a manifest, and the student that comes out of it."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cli.console import plain, stderr, stdout
from model.card import Card
from model.config import load_train_config
from model.manifest import read_manifest
from schemas.errors import EnvironmentMissing

if TYPE_CHECKING:
    from model.distill import Progress as TrainingProgress

_TRAINING_PACKAGES = ("torch", "torchvision", "timm", "safetensors", "cv2")


def train(
    config: Annotated[Path, typer.Option(help="TOML file; model/configs/ holds examples.")],
    images: Annotated[Path, typer.Option(help="Manifest CSV with boxes, or the folder that holds manifest.csv.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: pseudo-masks, log, state. The same folder again resumes.")],
    publish_to: Annotated[Path | None, typer.Option("--publish", help="Folder of the student; by default OUT/student.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda:N.")] = "cpu",
) -> None:
    """Distil a student from coarse boxes, calibrate and measure it on the validation scenes, and write its folder.

    Needs the extra: pip install 'tamperwatch[train]'. Interrupted with Ctrl-C, the same command goes on at the last checkpoint.

    \b
    Example:
      tamperwatch train --config model/configs/student-1.toml --images data --out runs/first
    """
    training, manifest = load_train_config(config), read_manifest(images)
    _need_training_packages()
    from model.distill import distill
    from model.publish import publish
    from model.teacher import GrabCutTeacher

    with _bar() as bar:
        shown = _Shown(bar)
        distill(training, manifest, GrabCutTeacher(outside_label=training.outside_label), out, shown.training, device)
        card = publish(out, manifest, publish_to or out / "student", shown.publishing)
    _show(card, publish_to or out / "student")


class _Shown:
    """One line of the progress bar per stage."""

    def __init__(self, bar: Progress) -> None:
        self._bar = bar
        self._tasks: dict[str, TaskID] = {}

    def training(self, progress: "TrainingProgress") -> None:
        """Called by `model.distill`."""
        self._update(progress.stage, progress.fraction, _figures(progress.entry))

    def publishing(self, stage: str, done: int, count: int) -> None:
        """Called by `model.publish`."""
        self._update(stage, done / count, f"{done} of {count} pictures")

    def _update(self, stage: str, fraction: float, figures: str) -> None:
        if stage not in self._tasks:
            self._tasks[stage] = self._bar.add_task(stage, total=1.0, figures="")
        self._bar.update(self._tasks[stage], completed=fraction, figures=figures)


def _bar() -> Progress:
    return Progress(
        TextColumn("{task.description:<9}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[figures]}"),
        console=stderr,
    )


def _figures(entry: Mapping[str, float]) -> str:
    return f"step {entry['step']:.0f} · loss {entry['total']:.3f}" if "total" in entry else ""


def _need_training_packages() -> None:
    """Raises EnvironmentMissing naming what is not installed."""
    missing = [name for name in _TRAINING_PACKAGES if find_spec(name) is None]
    if missing:
        raise EnvironmentMissing(f"training needs {', '.join(missing)}: pip install 'tamperwatch[train]'")


def _show(card: Card, directory: Path) -> None:
    overall, image_auc = card.metrics["overall"], card.metrics["image_auc"]
    stdout.print(f"[bold]{plain(card.version)}[/] in {plain(str(directory))}")
    stdout.print(
        f"validation: pixel F1 {overall['f1']:.3f} on {overall['n_tampered']} manipulated pictures, "
        f"false-alarm area {overall['fa_area']:.2%} on {overall['n_authentic']} authentic, image AUC {image_auc:.3f}"
    )
