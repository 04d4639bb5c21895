"""`tamperwatch evaluate`: the protocol on any labelled pictures, with the shipped or a named student."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Table

from cli.console import load_settings, plain, progress_bar, stderr, stdout
from model import evaluation
from model.card import builtin_directory
from model.compress import PROFILES
from model.evaluation_data import EvaluationItem, folder_items, manifest_items, sample
from model.evaluation_report import Report, SetFigures
from model.manifest import Split, read_manifest
from model.predictor import EngineName, Predictor
from model.preprocess import PictureLimits
from schemas.errors import InvalidInput

EXIT_SOME_FAILED = 1
_ERRORS_SHOWN = 10
_ALL_PROFILES = (evaluation.AS_IS, *PROFILES)


def evaluate(
    images: Annotated[Path | None, typer.Option(help="Folder of tampered pictures.")] = None,
    masks: Annotated[Path | None, typer.Option(help="Folder of their true masks, named alike up to the ending.")] = None,
    authentic: Annotated[Path | None, typer.Option(help="Folder of authentic pictures.")] = None,
    manifest: Annotated[Path | None, typer.Option(help="CSV with columns set,image,mask,label and, to split, scene.")] = None,
    split: Annotated[Split, typer.Option(help="Side of the manifest's split by scene.")] = "all",
    profiles: Annotated[str, typer.Option(help=f"Comma list of {', '.join(_ALL_PROFILES)}; or all.")] = evaluation.AS_IS,
    model: Annotated[Path | None, typer.Option(help="Folder of a student; by default the one that ships.")] = None,
    engine: Annotated[EngineName, typer.Option(help="What runs the network.")] = "auto",
    device: Annotated[str, typer.Option(help="cpu, or cuda:N with the torch engine.")] = "cpu",
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Also write the report here.")] = None,
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
      tamperwatch evaluate --manifest data --profiles all --json report.json
    """
    if json_path is not None and (json_path.is_dir() or not json_path.absolute().parent.is_dir()):
        raise InvalidInput(f"--json {json_path}: name a file in a folder that exists")
    items = sample(_items(images, masks, authentic, manifest, split), limit)
    names = _ALL_PROFILES if profiles == "all" else [name.strip() for name in profiles.split(",") if name.strip()]
    predictor = Predictor.load(model or builtin_directory(), engine, device=device)
    report = _run(predictor, items, names, batch_size)
    _show(report)
    if json_path is not None:
        json_path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")
    if report.errors:
        raise typer.Exit(EXIT_SOME_FAILED)


def _items(
    images: Path | None, masks: Path | None, authentic: Path | None, manifest: Path | None, split: Split
) -> list[EvaluationItem]:
    """The pictures the options name: a manifest's, or folders'."""
    if manifest is not None and (images or masks or authentic):
        raise InvalidInput("--manifest already names the pictures; leave out --images, --masks and --authentic, or --manifest")
    if manifest is not None:
        return manifest_items(read_manifest(manifest), split)
    if split != "all":
        raise InvalidInput("--split needs --manifest: folders have no scenes to split by")
    return folder_items(images, masks, authentic)


def _run(predictor: Predictor, items: Sequence[EvaluationItem], profiles: Sequence[str], batch_size: int) -> Report:
    """Evaluate behind a progress bar on stderr."""
    limits = load_settings().limits
    with progress_bar() as progress:
        task = progress.add_task("evaluate", total=len(items))
        return evaluation.evaluate(
            predictor,
            items,
            profiles,
            lambda done, _: progress.update(task, completed=done),
            batch_size=batch_size,
            limits=PictureLimits(limits.max_bytes, limits.max_pixels),
        )


def _show(report: Report) -> None:
    weights, data = (report.checkpoint_sha256 or "unknown")[:12], report.dataset_sha256[:12]
    _say(f"Model {report.model_version} (weights {weights}), engine {report.engine}, input {report.input_size} px")
    _say(f"Data {data}, {report.n_pictures} pictures, {report.duration_s:.1f} s")
    if report.overall.n_tampered:
        stdout.print(_tampered_table(report))
    if report.overall.n_authentic:
        stdout.print(_authentic_table(report))
    _say(_score_line(report))
    if any(name != evaluation.AS_IS for name in report.profiles):
        stdout.print(_profiles_table(report))
        _say(f"Simulated: {report.profiles_note}.")
    for failure in report.errors[:_ERRORS_SHOWN]:
        stderr.print(f"[magenta]{failure.code}[/] {plain(failure.image)}: {plain(failure.message)}", highlight=False)
    if len(report.errors) > _ERRORS_SHOWN:
        stderr.print(f"... and {len(report.errors) - _ERRORS_SHOWN} more that could not be measured", highlight=False)


def _say(line: str) -> None:
    stdout.print(line, markup=False, highlight=False)


def _score_line(report: Report) -> str:
    auc, interval = _number(report.image_auc), _range(report.image_auc_interval)
    at_flag = f"F1 {_number(report.image_f1)}, balanced accuracy {_number(report.balanced_accuracy)}"
    return f"Score: AUC {auc} (95 % {interval}), calibration error {_number(report.ece)}; at the flag threshold {at_flag}"


def _tampered_table(report: Report) -> Table:
    table = _table("Tampered pictures: is the region found?", "set", ("pictures", "F1", "95 %", "IoU", "AUC", "flag", "review"))
    for name, figures in _with_all(report):
        if figures.n_tampered:
            table.add_row(
                plain(name),
                str(figures.n_tampered),
                _number(figures.f1),
                _range(figures.intervals["f1"]),
                _number(figures.iou),
                _number(figures.auc),
                _percent(figures.tampered_flag_rate),
                _percent(figures.tampered_review_rate),
                style=_style(figures, report),
            )
    return table


def _authentic_table(report: Report) -> Table:
    table = _table("Authentic pictures: false alarms", "set", ("pictures", "area", "95 %", "flag", "review"))
    for name, figures in _with_all(report):
        if figures.n_authentic:
            table.add_row(
                plain(name),
                str(figures.n_authentic),
                _percent(figures.fa_area),
                _range(figures.intervals["fa_area"], percent=True),
                _percent(figures.fa_rate),
                _percent(figures.review_rate),
                style=_style(figures, report),
            )
    return table


def _style(figures: SetFigures, report: Report) -> str:
    return "bold" if figures is report.overall else ""


def _with_all(report: Report) -> list[tuple[str, SetFigures]]:
    return [*report.sets.items(), ("all", report.overall)]


def _profiles_table(report: Report) -> Table:
    columns = ("F1", "authentic area", "authentic flag", "score AUC")
    table = _table("The same pictures as a network would deliver them (simulated)", "profile", columns)
    for name, figures in report.profile_figures.items():
        overall = figures.overall
        cells = _number(overall.f1), _percent(overall.fa_area), _percent(overall.fa_rate), _number(figures.image_auc)
        table.add_row(name, *cells)
    return table


def _table(title: str, first: str, columns: Sequence[str]) -> Table:
    """A plain table of right-aligned figures that fits a terminal of 80 columns."""
    table = Table(title=title, title_justify="left", header_style="bold", box=SIMPLE_HEAD)
    table.add_column(first)
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _range(interval: tuple[float, float] | None, *, percent: bool = False) -> str:
    if interval is None:
        return "-"
    low, high = interval
    return f"{100 * low:.0f}-{100 * high:.0f} %" if percent else f"{low:.2f}-{high:.2f}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
