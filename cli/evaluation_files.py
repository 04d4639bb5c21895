"""What an evaluation leaves on disk: report, table of pictures, plots, and sheets of the worst."""

import csv
from collections.abc import Sequence
from pathlib import Path

from cli.output import writing
from model.card import Calibration
from model.evaluation_data import EvaluationItem
from model.evaluation_report import Outcome, Report
from model.evaluation_sheets import sheet, worst_false_alarms, worst_localized
from model.predictor import Predictor
from model.preprocess import PictureLimits

COLUMNS = ("image", "set", "label", "variant", "f1", "iou", "auc", "area", "score", "score_logit", "verdict")


def write_json(report: Report, path: Path) -> None:
    """The whole report.

    Raises:
        DiskFull, OutputFailed: it cannot be written; so for the other files here.
    """
    with writing(path):
        path.write_text(report.model_dump_json(indent=2) + "\n", encoding="utf-8")


def write_per_picture(outcomes: Sequence[Outcome], path: Path) -> None:
    """One line per picture and variant; figures that are not defined stay empty."""
    with writing(path), path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_cells(outcome) for outcome in outcomes)


def write_plots(report: Report, outcomes: Sequence[Outcome], calibration: Calibration, folder: Path) -> None:
    """A PNG for each plot there is data for."""
    from model.evaluation_plots import plots  # matplotlib comes with the extra [train] only

    for name, png in plots(report, outcomes, calibration):
        path = folder / f"{name}.png"
        with writing(path):
            path.write_bytes(png)


def write_worst(
    predictor: Predictor, items: Sequence[EvaluationItem], outcomes: Sequence[Outcome], limits: PictureLimits, folder: Path
) -> None:
    """Sheets of the tampered pictures with the lowest F1 and of the authentic ones with the highest score."""
    masks = {item.image: item.mask for item in items}
    for name, chosen in (("worst-localized", worst_localized(outcomes)), ("false-alarms", worst_false_alarms(outcomes))):
        if chosen:
            path = folder / f"{name}.png"
            with writing(path):
                sheet(predictor, [(outcome, masks[outcome.image]) for outcome in chosen], limits).save(path)


def _cells(outcome: Outcome) -> tuple[str | float | None, ...]:
    return (
        str(outcome.image),
        outcome.set_name,
        "tampered" if outcome.tampered else "authentic",
        outcome.variant,
        outcome.f1,
        outcome.iou,
        outcome.auc,
        outcome.alarm_area,
        outcome.score,
        outcome.score_logit,
        outcome.verdict,
    )
