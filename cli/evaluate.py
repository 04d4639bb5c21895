"""`tamperwatch evaluate`: the protocol on any labelled pictures, with the shipped or a named student."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from cli.console import load_settings, progress_bar
from cli.evaluation_files import write_json, write_per_picture, write_plots, write_worst
from cli.evaluation_tables import show
from model import evaluation
from model.card import builtin_directory
from model.compress import PROFILES
from model.engines import EngineName
from model.evaluation_data import EvaluationItem, folder_items, manifest_items, sample
from model.evaluation_report import Measurement, summary
from model.folders import read_data
from model.manifest import Split
from model.predictor import Predictor
from model.preprocess import PictureLimits
from model.splits import clustered
from model.sweeps import AS_IS, SWEEPS, Variant, variants
from schemas.errors import EnvironmentMissing, InvalidInput

EXIT_SOME_FAILED = 1
_ALL_PROFILES = (AS_IS, *PROFILES)


def evaluate(
    images: Annotated[Path | None, typer.Option(help="Folder of tampered pictures.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of their true masks, named alike up to the ending.")] = None,
    authentic: Annotated[Path | None, typer.Option(help="Folder of authentic pictures.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="Manifest CSV, or a folder as `train` takes it.")] = None,
    split: Annotated[Split, typer.Option(help="Side of the manifest's split by scene and near-duplicates.")] = "all",
    profiles: Annotated[str, typer.Option(help=f"Comma list of {', '.join(_ALL_PROFILES)}; or all.")] = AS_IS,
    sweeps: Annotated[str, typer.Option(help=f"Comma list of {', '.join(SWEEPS)}; or all.")] = "",
    model: Annotated[Path | None, typer.Option(help="Folder of a student; by default the one that ships.")] = None,
    engine: Annotated[EngineName, typer.Option(help="What runs the network.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, or cuda:N with the torch engine.")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the report here.")] = None,
    per_picture: Annotated[Path | None, typer.Option(metavar="FILE", help="CSV, a line per picture and variant.")] = None,
    plots: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Draw the figures as PNG files here.")] = None,
    worst: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Sheets of the pictures that came out worst.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="At most this many pictures, spread evenly over the data.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Network inputs per batch.")] = evaluation.BATCH_SIZE,
) -> None:
    """Measure how well a student finds manipulated regions, on pictures whose true masks you have.

    Pixel F1, IoU and AUC are means over the tampered pictures, at their own size; authentic pictures give the false alarms.
    A picture that cannot be measured is listed, and the exit status is 1; masks that do not fit are wrong usage.

    \b
    Examples:
      tamperwatch evaluate --manifest data/manifest.csv --split validation
      tamperwatch evaluate --images tampered --masks masks --authentic originals
      tamperwatch evaluate --manifest data --profiles all --sweeps all --json report.json --plots plots
    """
    _check_outputs(json_path, per_picture, plots, worst)
    chosen = variants(_names(profiles, _ALL_PROFILES), _names(sweeps, tuple(SWEEPS)))
    items = sample(_items(images, masks, authentic, manifest, split), limit)
    predictor, limits = Predictor.load(model or builtin_directory(), engine, device=device), _limits()
    measurement = _run(predictor, items, chosen, batch_size, limits)
    report = summary(measurement)
    show(report)
    if json_path is not None:
        write_json(report, json_path)
    if per_picture is not None:
        write_per_picture(measurement.outcomes, per_picture)
    if plots is not None:
        write_plots(report, measurement.outcomes, predictor.card.calibration, plots)
    if worst is not None:
        write_worst(predictor, items, measurement.outcomes, limits, worst)
    if report.errors:
        raise typer.Exit(EXIT_SOME_FAILED)


def _check_outputs(json_path: Path | None, per_picture: Path | None, plots: Path | None, worst: Path | None) -> None:
    """Raise before the work whose result would be lost."""
    for option, file in (("--json", json_path), ("--per-picture", per_picture)):
        if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
            raise InvalidInput(f"{option} {file}: name a file in a folder that exists")
    for option, folder in (("--plots", plots), ("--worst", worst)):
        if folder is not None and folder.exists() and not folder.is_dir():
            raise InvalidInput(f"{option} {folder}: name a folder; this is a file")
    if plots is not None and find_spec("matplotlib") is None:
        raise EnvironmentMissing("--plots needs matplotlib: pip install 'tamperwatch[train]'")


def _names(text: str, every: Sequence[str]) -> list[str]:
    """A comma list, or everything there is."""
    return list(every) if text == "all" else [name.strip() for name in text.split(",") if name.strip()]


def _items(
    images: Path | None, masks: Path | None, authentic: Path | None, manifest: Path | None, split: Split
) -> list[EvaluationItem]:
    """The pictures the options name: a manifest's, or folders'."""
    if manifest is not None and (images or masks or authentic):
        raise InvalidInput("--manifest already names the pictures; leave out --images, --masks and --authentic, or --manifest")
    if manifest is not None:
        return _manifest_items(manifest, split)
    if split != "all":
        raise InvalidInput("--split needs --manifest: folders have no scenes to split by")
    return folder_items(images, masks, authentic)


def _manifest_items(path: Path, split: Split) -> list[EvaluationItem]:
    """One side of the split that training made: by scene, near-duplicates kept together."""
    found = read_data(path)
    if split == "all":
        return manifest_items(found)
    with progress_bar() as progress:
        task = progress.add_task("near-duplicates", total=len(found.rows))
        found = clustered(found, progress=lambda done, _: progress.update(task, completed=done))
    return manifest_items(found, split)


def _limits() -> PictureLimits:
    limits = load_settings().limits
    return PictureLimits(limits.max_bytes, limits.max_pixels)


def _run(
    predictor: Predictor, items: Sequence[EvaluationItem], chosen: tuple[Variant, ...], batch_size: int, limits: PictureLimits
) -> Measurement:
    """Evaluate behind a progress bar on stderr."""
    with progress_bar() as progress:
        task = progress.add_task("evaluate", total=len(items))
        return evaluation.measure(
            predictor,
            items,
            chosen,
            lambda done, _: progress.update(task, completed=done),
            batch_size=batch_size,
            limits=limits,
        )
