"""One distillation run: teacher's pseudo-masks into a student, resumable, on CPU or CUDA."""

import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader

from model.config import TrainConfig, train_config_of
from model.data import Sample, TrainingSet, ValidationSet
from model.losses import LossTerms, distillation_loss
from model.manifest import Manifest, count_by_set
from model.pseudo_masks import build_pseudo_masks
from model.student import ServingStudent, Student
from model.teacher import BoxTeacher
from schemas.errors import EnvironmentMissing, InvalidInput

STATE_NAME, RUN_NAME, LOG_NAME, MASKS_NAME = "state.pt", "run.json", "log.jsonl", "pseudo-masks"
FINAL_LR_SHARE = 0.01
EVALUATION_BATCH = 8


@dataclass(frozen=True)
class Progress:
    """What a caller shows: the stage ("teacher" or "student"), the share of it that is done, and the latest log entry."""

    stage: str
    fraction: float
    entry: Mapping[str, float]


Report = Callable[[Progress], None]


def distill(config: TrainConfig, manifest: Manifest, teacher: BoxTeacher, run: Path, report: Report, device: str = "cpu") -> Path:
    """Train a student, or go on where an interrupted run of the same config stopped.

    Args:
        config: of network and schedule.
        manifest: training and validation rows with boxes.
        teacher: turns boxes into soft masks, once per picture.
        run: folder of the run: pseudo-masks, state, log.
        report: called after every teacher's picture and every step.
        device: "cpu" or "cuda:N".

    Returns:
        The run folder, from which `model.publish` makes a student.

    Raises:
        InvalidInput: the data does not serve, or the folder holds a run of another config or data set.
        EnvironmentMissing: no such device.
    """
    run.mkdir(parents=True, exist_ok=True)
    _claim(run, config, manifest, teacher)
    if config.threads:
        torch.set_num_threads(config.threads)
    masks, quality = build_pseudo_masks(
        manifest, teacher, run / MASKS_NAME, config, lambda done, count: report(Progress("teacher", done / count, {}))
    )
    if not math.isnan(quality):
        _log(run, {"pseudo_masks": len(masks), "quality": quality})
    trainer = Trainer(config, _device(device), run)
    data = TrainingSet(manifest, masks, config, config.steps * config.batch_size)
    trainer.fit(data, ValidationSet(manifest, config), report)
    return run


class Trainer:
    """State of one run: student, averaged student, optimizer, step and seconds spent."""

    def __init__(self, config: TrainConfig, device: torch.device, run: Path) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device, self.run = config, device, run
        self.student = Student(config.student, config.pretrained).to(device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.normalise = ServingStudent(self.student).to(device).normalised
        self.optimizer = torch.optim.AdamW(_groups(self.student, config), betas=(0.9, 0.99))
        self.step, self.elapsed_s = 0, 0.0
        self._restore()

    @property
    def fraction(self) -> float:
        """Share of the schedule that is done: of steps, or of wall clock where that ends first."""
        limit_s = 60.0 * self.config.limit_minutes
        return min(1.0, max(self.step / self.config.steps, self.elapsed_s / limit_s if limit_s else 0.0))

    def fit(self, data: TrainingSet, validation: ValidationSet, report: Report) -> None:
        """Run until the schedule ends, with a checkpoint now and then and one at the end."""
        batches = self._batches(data)
        while self.fraction < 1.0:
            started = time.monotonic()
            terms = self._train_step(next(batches))
            entry = {"step": self.step, **{name: float(value.detach()) for name, value in terms._asdict().items()}}
            if self.step % self.config.evaluate_every_steps == 0:
                entry |= self.evaluate(validation)
            self.elapsed_s += time.monotonic() - started
            entry["elapsed_s"] = round(self.elapsed_s, 1)
            _log(self.run, entry)
            if self.step % self.config.checkpoint_every_steps == 0:
                self.save()
            report(Progress("student", self.fraction, entry))
        _log(self.run, {"step": self.step, **self.evaluate(validation)})
        self.save()

    def evaluate(self, validation: ValidationSet) -> dict[str, float]:
        """Figures of the averaged student on the small validation, at the net's own grid, for the log only."""
        serving = ServingStudent(self.average).eval()
        probs, scores = [], []
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(validation.pixels), EVALUATION_BATCH):
                batch = torch.from_numpy(validation.pixels[start : start + EVALUATION_BATCH]).to(self.device)
                prob, score_logit = serving(batch)
                probs.append(prob.cpu().numpy())
                scores.append(score_logit.cpu().numpy())
        return validation.figures(np.concatenate(probs), np.concatenate(scores))

    def save(self) -> None:
        """Write the resumable state; a crash leaves the previous one."""
        state = {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "elapsed_s": self.elapsed_s,
        }
        partial = self.run / (STATE_NAME + ".part")
        torch.save(state, partial)
        partial.replace(self.run / STATE_NAME)

    def _restore(self) -> None:
        path = self.run / STATE_NAME
        if not path.exists():
            return
        state = torch.load(path, map_location=self.device, weights_only=True)
        self.student.load_state_dict(state["student"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.elapsed_s = state["step"], state["elapsed_s"]

    def _batches(self, data: TrainingSet) -> Iterator[Sample]:
        workers = self.config.loader_workers
        loader = DataLoader(
            data,
            batch_size=self.config.batch_size,
            sampler=range(self.step * self.config.batch_size, len(data)),
            num_workers=workers,
            prefetch_factor=3 if workers else None,
            pin_memory=self.device.type == "cuda",
        )
        return iter(loader)

    def _train_step(self, batch: Sample) -> LossTerms:
        self.student.train()
        if self.config.freeze_norm:
            freeze_norm(self.student.backbone)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(self.step, self.fraction, self.config.warmup_steps)
        pixels, soft, labels = (part.to(self.device, non_blocking=True) for part in batch)
        x = self.normalise(pixels).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            output = self.student(x)
        terms = distillation_loss(output, soft.unsqueeze(1).float() / 255.0, labels, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total)
        nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip_norm)
        self.optimizer.step()
        self.step += 1
        follow(self.average, self.student, min(self.config.ema_decay, self.step / (self.step + 10)))
        return terms

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16")


def schedule(step: int, fraction: float, warmup_steps: int) -> float:
    """Factor on the peak learning rate: linear warm-up, then half a cosine down to one hundredth."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return warm * (FINAL_LR_SHARE + (1 - FINAL_LR_SHARE) * 0.5 * (1 + math.cos(math.pi * fraction)))


@torch.no_grad()
def follow(average: nn.Module, source: nn.Module, decay: float) -> None:
    """Exponential moving average of weights and batch-norm statistics, in place; integer buffers are copied."""
    for kept, new in zip(average.state_dict().values(), source.state_dict().values(), strict=True):
        if kept.is_floating_point():
            kept.lerp_(new, 1.0 - decay)
        else:
            kept.copy_(new)


def freeze_norm(module: nn.Module) -> None:
    """Let batch norms use their stored statistics while the rest trains."""
    for child in module.modules():
        if isinstance(child, nn.modules.batchnorm._BatchNorm):
            child.eval()


def averaged_student(run: Path) -> tuple[Student, TrainConfig, dict[str, Any]]:
    """The averaged student of a run's latest state, its config and the run's record.

    Raises:
        InvalidInput: the folder holds no run, or one without a saved state yet.
    """
    try:
        record = json.loads((run / RUN_NAME).read_text(encoding="utf-8"))
        state = torch.load(run / STATE_NAME, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InvalidInput(f"{run} holds no training run with a saved state ({error.filename})") from error
    config = train_config_of(record["config"])
    student = Student(config.student)
    student.load_state_dict(state["average"])
    return student.eval(), config, record | {"step": state["step"], "elapsed_s": state["elapsed_s"]}


def _claim(run: Path, config: TrainConfig, manifest: Manifest, teacher: BoxTeacher) -> None:
    """Write what this run is, or check that the folder's run is the same."""
    record = {
        "config": json.loads(json.dumps(asdict(config))),
        "manifest_sha256": manifest.sha256,
        "teacher": teacher.name,
        "sets": count_by_set(manifest.split("training")),
    }
    path = run / RUN_NAME
    if path.exists() and json.loads(path.read_text(encoding="utf-8")) != record:
        raise InvalidInput(f"{run} holds a run of another config, data set or teacher; name another folder")
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def _groups(student: Student, config: TrainConfig) -> list[dict[str, Any]]:
    """Optimizer groups: backbone and heads on their own peak rates, no decay on vectors."""
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in student.named_parameters():
        groups.setdefault((name.startswith("backbone."), parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "peak": config.lr_backbone if backbone else config.lr_head,
            "lr": 0.0,
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (backbone, decays), parameters in groups.items()
    ]


def _device(name: str) -> torch.device:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"'{name}' is not a device; use cpu or cuda:N") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise EnvironmentMissing(f"{name} was asked for, but torch sees no CUDA device")
    return device


def _log(run: Path, entry: Mapping[str, Any]) -> None:
    rounded = {name: round(value, 5) if isinstance(value, float) else value for name, value in entry.items()}
    with (run / LOG_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(rounded) + "\n")
