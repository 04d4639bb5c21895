"""A training run becomes a student folder: rounded weights, OpenVINO IR, parity, calibration, figures, card."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from model.calibration import calibrate
from model.card import Calibration, Card, FileRecord
from model.checkpoint import WEIGHTS_NAME, round_to_half, save_weights
from model.compress import PROFILES
from model.config import TrainConfig
from model.distill import averaged_student
from model.evaluation import AS_IS, evaluate
from model.evaluation_data import EvaluationItem, manifest_items
from model.evaluation_report import Report as Figures
from model.export import BIN_NAME, Parity, check_parity, export_openvino
from model.manifest import Manifest, count_by_set
from model.near_duplicates import seen_before
from model.predictor import Predictor
from model.preprocess import prepare
from model.student import Student
from schemas.errors import InvalidInput, ModelInvalid

LARGEST_FILE_BYTES = 15_000_000
PARITY_PICTURES = 16
BATCH_SIZE = 8
# Stands in the card only until the real one is fitted: reads the logit as it is.
_UNCALIBRATED = Calibration(
    temperature=1, bias=0, review_threshold=0.5, flag_threshold=0.5, review_false_alarm_rate=1, flag_false_alarm_rate=1
)

Report = Callable[[str, int, int], None]


def publish(run: Path, manifest: Manifest, directory: Path, report: Report) -> Card:
    """Make a student folder from the averaged weights of a run's latest state, finished or not.

    Args:
        run: folder of the run.
        manifest: the data the run trained on; its validation scenes calibrate and measure the student.
        directory: where the student goes; one that is there is replaced when the new one is complete.
        report: called with (what is being done, done, all).

    Returns:
        The card, with the validation figures.

    Raises:
        InvalidInput: no such run, or another manifest.
        ModelInvalid: the engines disagree, or a file is too large to ship.
    """
    student, config, record = averaged_student(run)
    if record["manifest_sha256"] != manifest.sha256:
        raise InvalidInput(f"{run} was trained on another manifest than {manifest.root}")
    round_to_half(student)
    staging = directory.with_name(directory.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    items = manifest_items(manifest, "validation")
    files, parity = _write_files(student, staging, items)
    training = _training(config, record, parity, manifest)
    card = Card(
        name=config.name,
        version=f"{config.name}-{files['safetensors'].sha256[:8]}",
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        student=config.student,
        files=files,
        calibration=_UNCALIBRATED,
        training=training,
        licence=config.licence,
        notes=list(config.notes),
    )
    card.save(staging)
    card = _measured(card, staging, manifest, items, report)
    card.save(staging)
    shutil.rmtree(directory, ignore_errors=True)
    staging.rename(directory)
    return card


def _write_files(student: Student, staging: Path, items: Sequence[EvaluationItem]) -> tuple[dict[str, FileRecord], Parity]:
    """Weights and IR, checked against each other on real pictures."""
    weights = staging / WEIGHTS_NAME
    save_weights(student, weights)
    weights.chmod(0o644)
    xml = export_openvino(student, staging)
    step = max(1, len(items) // PARITY_PICTURES)
    pictures = [prepare(item.image.read_bytes(), student.config.input_size).pixels for item in items[::step][:PARITY_PICTURES]]
    parity = check_parity(student, xml, np.stack(pictures))
    paths = {"safetensors": weights, "openvino_xml": xml, "openvino_bin": staging / BIN_NAME}
    files = {key: FileRecord.of(path) for key, path in paths.items()}
    large = [f"{record.name} ({record.bytes:,} bytes)" for record in files.values() if record.bytes > LARGEST_FILE_BYTES]
    if large:
        raise ModelInvalid(f"too large to ship, the limit is {LARGEST_FILE_BYTES:,} bytes: {', '.join(large)}")
    return files, parity


def _measured(card: Card, staging: Path, manifest: Manifest, items: Sequence[EvaluationItem], report: Report) -> Card:
    """The card with calibration and validation figures, by the engine that serves by default."""
    predictor = Predictor.load(staging, "openvino")
    logits: list[float] = []
    for start in range(0, len(items), BATCH_SIZE):
        batch = [prepare(item.image.read_bytes(), predictor.input_size).pixels for item in items[start : start + BATCH_SIZE]]
        logits += [prediction.score_logit for prediction in predictor.predict(batch)]
        report("calibrate", len(logits), len(items))
    card = card.model_copy(update={"calibration": calibrate(logits, [item.tampered for item in items])})
    calibrated = Predictor(card, predictor.engine)
    figures = evaluate(calibrated, items, (AS_IS, *PROFILES), lambda done, count: report("evaluate", done, count))
    seen = seen_before(manifest.split("validation"), manifest.split("training"), manifest.root)
    metrics = {"split": "validation"} | _plain(figures) | {"near_duplicates_of_training": sum(seen)}
    unseen = [item for item, known in zip(items, seen, strict=True) if not known]
    if unseen:
        fresh = _plain(evaluate(calibrated, unseen, (AS_IS,), lambda done, count: report("unseen", done, count)))
        metrics["without_near_duplicates"] = {name: fresh[name] for name in ("n_pictures", "sets", "overall", "image_auc")}
    return card.model_copy(update={"metrics": metrics})


def _plain(figures: Figures) -> dict[str, Any]:
    """A report as the card keeps it."""
    return figures.model_dump(mode="json", exclude={"duration_s"})


def _training(config: TrainConfig, record: dict[str, Any], parity: Parity, manifest: Manifest) -> dict[str, Any]:
    """What the card says of the run."""
    settings = asdict(config)
    for told_elsewhere in ("name", "student", "licence", "notes"):
        del settings[told_elsewhere]
    return {
        "data": {"training": record["sets"], "validation": count_by_set(manifest.split("validation"))},
        "manifest_sha256": record["manifest_sha256"],
        "supervision": "coarse boxes through the teacher; exact masks only of synthetic manipulations",
        "teacher": record["teacher"],
        "steps_done": record["step"],
        "pictures_seen": record["step"] * config.batch_size,
        "minutes": round(record["elapsed_s"] / 60, 1),
        "parity_with_torch": asdict(parity),
        "config": settings,
    }
