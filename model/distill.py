"""One distillation run: teacher's pseudo-masks into a student, resumable to the step, on CPU or CUDA.

The schedule is a function of the step alone. A time budget becomes a number of steps once, at the pace of the first steps, and
is kept in the run's record; so a run that was killed and resumed repeats what an undisturbed one does, to the bit on one CPU with
one number of threads.
"""

import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from model.config import TrainConfig, train_config_of
from model.course import Course, Progress, Report
from model.data import TrainingSet, ValidationSet
from model.manifest import Manifest, count_by_set
from model.pseudo_masks import PseudoMasks, build_pseudo_masks
from model.run_folder import MASKS_NAME, RunFolder
from model.selection import clearly_better
from model.student import Student
from model.teacher import Teacher
from model.trainer import InitialWeights, Trainer, device_of
from schemas.errors import InvalidInput


def distill(
    config: TrainConfig,
    manifest: Manifest,
    teacher: Teacher,
    run: Path,
    report: Report,
    device: str = "cpu",
    initial: InitialWeights | None = None,
) -> Path:
    """Train a student, or go on where an interrupted run of the same config stopped.

    Args:
        config: of network and schedule.
        manifest: training and validation rows.
        teacher: turns boxes into soft masks, once per picture.
        run: folder of the run, see `model.run_folder`.
        report: called after every teacher's picture and every step; may raise StopTraining.
        device: "cpu" or "cuda:N".
        initial: name and weights of an earlier student to start from, instead of the config's pretrained backbone.

    Returns:
        The run folder, from which `model.publish` makes a student.

    Raises:
        InvalidInput: the data does not serve, the folder holds a run of another config or data set, or a config without steps
            was given no earlier student.
        EnvironmentMissing: no such device.
        TrainingDiverged: a loss is no number; the batch is saved.
        WorkerLost: a process that draws samples died.
        DiskFull: the last checkpoint is intact.
    """
    if not (config.steps or initial):
        raise InvalidInput("steps = 0 measures an earlier student without training: name it with --initial, or set steps")
    where, folder = device_of(device), RunFolder(run)
    folder.claim(_identity(config, manifest, teacher, initial), None if config.limit_minutes else config.steps)
    if config.threads:
        torch.set_num_threads(config.threads)
    masks = _masks(manifest, teacher, run / MASKS_NAME, config, report) if config.steps else None
    course = Course(Trainer(config, where, initial), folder, ValidationSet(manifest, config), report)
    if masks is None:
        course.measure()
        folder.finish(course.summary())
    else:
        course.follow(TrainingSet(manifest, masks, config, config.steps * config.batch_size))
        folder.finish(course.summary() | {"pseudo_masks": _taught(masks)})
    return run


def _masks(manifest: Manifest, teacher: Teacher, folder: Path, config: TrainConfig, report: Report) -> PseudoMasks:
    """The teacher's stage."""
    masks = build_pseudo_masks(
        manifest, teacher, folder, config, lambda done, count: report(Progress("teacher", done, count, {}))
    )
    report(Progress("teacher", len(masks.files), len(masks.files), _taught(masks)))
    return masks


def averaged_student(run: Path) -> tuple[Student, TrainConfig, dict[str, Any]]:
    """The averaged student to publish, its config, and the run's record with the step it is from.

    That is the student of the latest state, or an earlier one where `model.selection` says so.

    Raises:
        InvalidInput: the folder holds no run, or one without a saved state yet.
    """
    folder = RunFolder(run)
    record, state = folder.record(), folder.load_state()
    if state is None:
        raise InvalidInput(f"{run} holds no training run with a saved state yet")
    config = train_config_of(record["config"])
    student = Student(config.student)
    # Runs of version 0.1.0 kept neither figures nor pace.
    source = clearly_better(state.get("best"), state.get("figures", {})) or state
    student.load_state_dict(source["average"])
    elapsed_s = state.get("pace", state)["elapsed_s"]
    return student.eval(), config, record | {"step": source["step"], "elapsed_s": elapsed_s}


def _identity(config: TrainConfig, manifest: Manifest, teacher: Teacher, initial: InitialWeights | None) -> dict[str, Any]:
    return {
        "config": asdict(config),
        "manifest_sha256": manifest.sha256,
        "teacher": teacher.name,
        "initial": initial.name if initial else None,
        "sets": count_by_set(manifest.split("training")),
    }


def _taught(masks: PseudoMasks) -> dict[str, Any]:
    """Figures of the teacher; no quality where there was nothing to teach."""
    quality = None if math.isnan(masks.mean_quality) else round(masks.mean_quality, 4)
    return {"pictures": len(masks.files), "dropped": len(masks.dropped), "mean_quality": quality}
