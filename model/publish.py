"""A training run becomes a student folder: moved mask, rounded weights, OpenVINO IR, parity, calibration, figures, card."""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from model.card import Calibration, Card, FileRecord
from model.card_figures import calibrated_figures
from model.checkpoint import WEIGHTS_NAME, round_to_half, save_weights
from model.config import TrainConfig
from model.cross_fit import assign_folds
from model.distill import averaged_student
from model.evaluation_data import EvaluationItem, manifest_items, read_bytes, sample, true_mask
from model.export import BIN_NAME, Parity, check_parity, export_openvino
from model.manifest import Manifest, count_by_set
from model.mask_fit import MaskFit, fit_masks
from model.near_duplicates import seen_before
from model.predictor import Predictor
from model.preprocess import Prepared, prepare
from model.student import ServingStudent, Student
from schemas.errors import InvalidInput, ModelInvalid

LARGEST_FILE_BYTES = 15_000_000
PARITY_PICTURES = 16
BATCH_SIZE = 8
MASK_FIT_PICTURES = 1000  # of which two numbers are fitted; more would change little and cost memory
# Stands in the card only until the real one is fitted: reads the logit as it is.
_UNCALIBRATED = Calibration(
    temperature=1, bias=0, review_threshold=0.5, flag_threshold=0.5, review_false_alarm_rate=1, flag_false_alarm_rate=1
)
_BOXES = "coarse boxes through the teacher; exact masks only of synthetic manipulations"
_EXACT = "exact masks of all manipulations, as an upper bound; no boxes"

Report = Callable[[str, int, int], None]


def publish(run: Path, manifest: Manifest, directory: Path, report: Report) -> Card:
    """Make a student folder from the averaged weights of a run's latest state, finished or not.

    Args:
        run: folder of the run.
        manifest: the data the run trained on, scenes as they were then; its validation scenes calibrate and measure the student.
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
    staging = directory.with_name(directory.name + ".part")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    items = manifest_items(manifest, "validation")
    scenes = {manifest.root / row.image: row.scene for row in manifest.split("validation")}
    mask_fit = _move_mask(student, items, scenes, report)
    round_to_half(student)
    files, parity = _write_files(student, staging, items)
    card = _card(config, files, _training(config, record, parity, manifest))
    card.save(staging)
    predictor = Predictor.load(staging, "openvino")  # the engine that serves by default
    calibration, figures = calibrated_figures(predictor, items, scenes, lambda done, count: report("evaluate", done, count))
    near = sum(seen_before(manifest.split("validation"), manifest.split("training"), manifest.root))
    metrics = {"split": "validation", **figures, "mask_fit": asdict(mask_fit), "near_duplicates_of_training": near}
    card = card.model_copy(update={"calibration": calibration, "metrics": metrics})
    card.save(staging)
    shutil.rmtree(directory, ignore_errors=True)
    staging.rename(directory)
    return card


def _card(config: TrainConfig, files: dict[str, FileRecord], training: dict[str, Any]) -> Card:
    """Calibration and figures are still to come."""
    return Card(
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


def _move_mask(student: Student, items: Sequence[EvaluationItem], scenes: dict[Path, str], report: Report) -> MaskFit:
    """Fit the two numbers that move the mask, and set them in the student.

    Raises:
        InvalidInput: not both kinds of picture.
    """
    student.mask_shift.zero_()
    student.mask_coupling.zero_()
    chosen = sample(items, MASK_FIT_PICTURES)
    seen: list[_Seen] = []
    for start in range(0, len(chosen), BATCH_SIZE):
        seen += _seen(student, chosen[start : start + BATCH_SIZE])
        report("mask", len(seen), len(chosen))
    fit = fit_masks(
        np.stack([each.mask_logits for each in seen]),
        np.array([each.score_logit for each in seen]),
        np.stack([each.true_cells for each in seen]),
        assign_folds([scenes[item.image] for item in chosen], [item.tampered for item in chosen]),
    )
    student.mask_shift.fill_(fit.shift)
    student.mask_coupling.fill_(fit.coupling)
    return fit


class _Seen(NamedTuple):
    """One picture before its mask is moved: mask_logits float16 [M, M], its score, true_cells float16 [M, M], 0..1."""

    mask_logits: NDArray[np.float16]
    score_logit: float
    true_cells: NDArray[np.float16]


def _seen(student: Student, items: Sequence[EvaluationItem]) -> list[_Seen]:
    """One batch through the torch student."""
    pictures = [prepare(read_bytes(item.image), student.config.input_size) for item in items]
    serving = ServingStudent(student).eval()
    with torch.inference_mode():
        output = student(serving.normalised(torch.from_numpy(np.stack([picture.pixels for picture in pictures]))))
    masks, scores = output.mask_logits.squeeze(1).half().numpy(), output.score_logit.tolist()
    cells = [_true_cells(item, picture, student.config.mask_size) for item, picture in zip(items, pictures, strict=True)]
    return [_Seen(*parts) for parts in zip(masks, scores, cells, strict=True)]


def _true_cells(item: EvaluationItem, picture: Prepared, side: int) -> NDArray[np.float16]:
    """The manipulated fraction of each of [side, side] cells; zeros for an authentic picture."""
    if not item.tampered or item.mask is None:
        return np.zeros((side, side), dtype=np.float16)
    truth = true_mask(read_bytes(item.mask), picture.width_px, picture.height_px)
    # As floats, so that the thinnest region still leaves something in its cells.
    cells = Image.fromarray(truth.astype(np.float32)).resize((side, side), Image.Resampling.BOX)
    return np.asarray(cells, dtype=np.float16)


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


def _training(config: TrainConfig, record: dict[str, Any], parity: Parity, manifest: Manifest) -> dict[str, Any]:
    """What the card says of the run."""
    settings = asdict(config)
    for told_elsewhere in ("name", "student", "licence", "notes"):
        del settings[told_elsewhere]
    return {
        "data": {"training": record["sets"], "validation": count_by_set(manifest.split("validation"))},
        "manifest_sha256": record["manifest_sha256"],
        "supervision": _EXACT if config.teacher == "masks" else _BOXES,
        "teacher": record["teacher"],
        "initial": record.get("initial"),
        "steps_done": record["step"],
        "pictures_seen": record["step"] * config.batch_size,
        "minutes": round(record["elapsed_s"] / 60, 1),
        "parity_with_torch": asdict(parity),
        "config": settings,
    }
