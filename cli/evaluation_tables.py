"""An evaluation as tables in the terminal, 80 columns wide."""

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from cli.console import plain, stderr, stdout
from model.evaluation_report import Report, SetFigures, VariantFigures
from model.sweeps import AS_IS

_ERRORS_SHOWN = 10
_SWEEP_TITLES = {
    "jpeg": ("One more JPEG compression (4:2:0)", "quality"),
    "resize": ("Both sides made smaller, nothing recompressed", "factor"),
}


def show(report: Report) -> None:
    """Print what was measured on what, the tables that have rows, and the pictures that could not be measured."""
    weights, data = (report.checkpoint_sha256 or "unknown")[:12], report.dataset_sha256[:12]
    _say(f"Model {report.model_version} (weights {weights}), engine {report.engine}, input {report.input_size} px")
    _say(f"Data {data}, {report.n_pictures} pictures, {report.duration_s:.1f} s")
    if report.overall.n_tampered:
        stdout.print(_tampered_table(report))
    if report.overall.n_authentic:
        stdout.print(_authentic_table(report))
    _say(_score_line(report))
    if any(name != AS_IS for name in report.profiles):
        stdout.print(_profiles_table(report))
        _say(f"Simulated: {report.profiles_note}.")
    for sweep in report.sweeps:
        stdout.print(_sweep_table(report, sweep))
    _show_errors(report)


def _show_errors(report: Report) -> None:
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
    table = _variants_table("The same pictures as a network would deliver them (simulated)", "profile")
    for name, figures in report.profile_figures.items():
        table.add_row(name, *_variant_cells(figures))
    return table


def _sweep_table(report: Report, sweep: str) -> Table:
    """The clean figures, then each step."""
    table = _variants_table(*_SWEEP_TITLES[sweep])
    table.add_row(AS_IS, *_variant_cells(report.profile_figures[AS_IS]))
    for point in report.sweeps[sweep]:
        table.add_row(f"{point.value:g}", *_variant_cells(point))
    return table


def _variants_table(title: str, first: str) -> Table:
    return _table(title, first, ("F1", "of clean F1", "authentic area", "authentic flag", "score AUC"))


def _variant_cells(figures: VariantFigures) -> tuple[str, ...]:
    return (
        _number(figures.overall.f1),
        _percent(figures.f1_kept),
        _percent(figures.overall.fa_area),
        _percent(figures.overall.fa_rate),
        _number(figures.image_auc),
    )


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
