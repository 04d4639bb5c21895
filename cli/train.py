"""`tamperwatch train`: pictures with coarse boxes in, a calibrated and measured student out."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import plain, stderr, stdout
from cli.interruption import Interruption
from cli.packages import need_training_packages
from cli.recipes import recipe_names, training_config
from cli.train_display import TrainingDisplay
from model.card import Card
from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from schemas.errors import WorkerLost

if TYPE_CHECKING:
    from model.course import Progress


def train(
    config: Annotated[str, typer.Option(help=f"TOML file, or a shipped recipe: {', '.join(recipe_names())}.")],
    images: Annotated[Path, typer.Option(help="Manifest CSV, or a folder with manifest.csv or with tampered/ and authentic/.")],
    out: Annotated[Path, typer.Option(help="Folder of the run: masks, log, state, curves. The same folder again resumes.")],
    publish_to: Annotated[Path | None, typer.Option("--publish", help="Folder of the student; by default OUT/student.")] = None,
    device: Annotated[str, typer.Option(help="cpu, or cuda:N.")] = "cpu",
    initial: Annotated[Path | None, typer.Option(help="Start from this student's folder, or from another run's.")] = None,
    sam_checkpoint: Annotated[Path | None, typer.Option(help="SAM's published file, if the config's teacher is SAM.")] = None,
    setting: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the config.")] = None,
) -> None:
    """Distil a student from coarse boxes, calibrate and measure it on the validation scenes, and write its folder.

    Needs the extra: pip install 'tamperwatch\\[train]'. Ctrl-C saves the state; the same command goes on from there.

    \b
    Examples:
      tamperwatch train --config student-3 --images data --out runs/first
      tamperwatch train --config student-3 --set student.input_size=224 --set steps=800 --images data --out runs/small
      tamperwatch train --config student-3 --initial runs/small --images data --out runs/larger
    """
    training = training_config(config, setting or [])
    need_training_packages()
    with TrainingDisplay(stderr) as display:
        manifest = _checked_data(images, display)
        display.say(_headline(training, manifest, out))
        _distil(training, manifest, out, device, sam_checkpoint, initial, display)
        target = publish_to or out / "student"
        card = _published(out, manifest, target, display)
    _show(card, out, target)


def _checked_data(images: Path, display: TrainingDisplay) -> Manifest:
    """The data, near-duplicates on one side of the split, boxes for all; refused with all its problems at once."""
    from model.data_checks import check_training_data
    from model.folders import read_data
    from model.mask_boxes import with_boxes
    from model.splits import clustered

    manifest = clustered(read_data(images, strict=False), progress=_counting(display, "near-duplicates"))
    check_training_data(manifest, _counting(display, "checks"))
    return with_boxes(manifest, _counting(display, "boxes"))


def _distil(
    config: TrainConfig,
    manifest: Manifest,
    out: Path,
    device: str,
    sam_checkpoint: Path | None,
    initial: Path | None,
    display: TrainingDisplay,
) -> None:
    """Teacher and student. A signal saves the state and ends the command with the status a shell expects."""
    from model.course import StopTraining
    from model.distill import distill
    from model.initial import initial_weights
    from model.teacher import teacher_for

    start = initial_weights(initial, config.student) if initial else None
    teacher = teacher_for(config, sam_checkpoint, device, display.downloading)
    with Interruption() as interruption:

        def report(progress: "Progress") -> None:
            display.training(progress)
            if interruption.received:
                raise StopTraining

        try:
            distill(config, manifest, teacher, out, report, device, start)
        except (StopTraining, KeyboardInterrupt, WorkerLost) as stopped:
            if isinstance(stopped, WorkerLost) and not interruption.received:
                raise
            done = display.stopped_at if isinstance(stopped, StopTraining) else "stopped at once, the last checkpoint is kept"
            display.say(f"[yellow]{done}.[/] To go on, give the same command again:\n  {plain(_command())}")
            raise typer.Exit(interruption.exit_status) from None


def _published(out: Path, manifest: Manifest, target: Path, display: TrainingDisplay) -> Card:
    from model.publish import publish
    from model.run_folder import RunFolder

    display.say(_pace(RunFolder(out).summary()))
    try:
        return publish(out, manifest, target, display.counted)
    except KeyboardInterrupt:
        display.say(f"[yellow]training is complete, publishing is not.[/] The same command publishes:\n  {plain(_command())}")
        raise typer.Exit(130) from None


def _counting(display: TrainingDisplay, stage: str) -> Any:
    return lambda done, count: display.counted(stage, done, count)


def _command() -> str:
    return shlex.join(["tamperwatch", *sys.argv[1:]])


def _headline(config: TrainConfig, manifest: Manifest, out: Path) -> str:
    """What is trained on what, and where to look."""
    train, validation = manifest.split("training"), manifest.split("validation")
    budget = f"{config.limit_minutes:g} minutes" if config.limit_minutes else f"{config.steps} steps"
    plan = f"{budget}, batches of {config.batch_size}, teacher {config.teacher}" if config.steps else "measured, not trained"
    student = f"[bold]{plain(config.name)}[/]: {plain(config.student.backbone)} at {config.student.input_size} px"
    return (
        f"{student}, {plan}\n"
        f"{_counts(train)} train, {_counts(validation)} validate\n"
        f"pictures and curves of every validation: {plain(str(out))}/sheets, {plain(str(out))}/curves.png"
    )


def _counts(rows: tuple[ManifestRow, ...]) -> str:
    tampered = sum(row.tampered for row in rows)
    return f"{tampered} manipulated and {len(rows) - tampered} authentic pictures"


def _pace(summary: dict[str, Any]) -> str:
    if not summary["steps"]:
        return "nothing was trained: calibration, mask and figures are made anew"
    precision = f" in {summary['precision']}" if "precision" in summary else ""
    return (
        f"trained {summary['steps']} steps in {summary['minutes']:g} minutes at {summary['pictures_per_s']:.1f} pictures/s"
        f"{precision} (the loader kept it waiting {summary['loader_waited_share']:.0%} of the time)"
    )


def _show(card: Card, out: Path, directory: Path) -> None:
    overall, image_auc = card.metrics["overall"], card.metrics["image_auc"]
    stdout.print(f"[bold]{plain(card.version)}[/] in {plain(str(directory))}, its run in {plain(str(out))}")
    stdout.print(
        f"validation: pixel F1 {overall['f1']:.3f} on {overall['n_tampered']} manipulated pictures, "
        f"false-alarm area {overall['fa_area']:.2%} on {overall['n_authentic']} authentic, image AUC {image_auc:.3f}"
    )
