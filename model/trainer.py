"""What one step of distillation does to a student, on CPU or CUDA. No files: `model.distill` keeps those."""

import copy
import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from model.augment import Sample
from model.config import TrainConfig
from model.data import ValidationSet
from model.losses import LossTerms, distillation_loss
from model.mixed_precision import computes_bf16, mixed_precision
from model.pace import PLANNING_STEPS
from model.student import ServingStudent, Student
from schemas.errors import EnvironmentMissing, InvalidInput

FINAL_LR_SHARE = 0.01
EVALUATION_BATCH = 8


class Diverged(Exception):
    """A loss or gradient is no number; the trainer is as it was before the step.

    Attributes:
        figures: of the step.
        batch: by field name, on the CPU.
    """

    def __init__(self, figures: Mapping[str, float], batch: Mapping[str, Tensor]) -> None:
        super().__init__(", ".join(f"{name} {value:g}" for name, value in figures.items()))
        self.figures, self.batch = figures, batch


class Validated(NamedTuple):
    """prob [N, M, M] and score_logit [N] of the validation pictures, and the figures of `ValidationSet.figures`."""

    prob: NDArray[np.float32]
    score_logit: NDArray[np.float32]
    figures: dict[str, float]


@dataclass(frozen=True)
class InitialWeights:
    """An earlier student to start from.

    Attributes:
        name: what a card says of it.
        state: of `Student`.
    """

    name: str
    state: dict[str, Tensor]


class Trainer:
    """Student, averaged student, optimizer and step.

    Attributes:
        precision: of the forward pass here: "bf16" where the config asks for it and the device computes in it, else "fp32".

    Args:
        config: of network and schedule.
        device: where it trains.
        initial: takes the place of the config's pretrained backbone.
    """

    def __init__(self, config: TrainConfig, device: torch.device, initial: InitialWeights | None = None) -> None:
        torch.manual_seed(config.seed)
        self.config, self.device = config, device
        self.precision = "bf16" if config.precision == "bf16" and computes_bf16(device) else "fp32"
        student = Student(config.student, "none" if initial else config.pretrained)
        if initial:
            student.load_state_dict(initial.state)
        self.student = student.to(device).to(memory_format=torch.channels_last)
        self.average = copy.deepcopy(self.student).eval().requires_grad_(False)
        self.step = 0
        self._normalise = ServingStudent(self.student).to(device).normalised
        self._optimizer = torch.optim.AdamW(_groups(self.student, config), betas=(0.9, 0.99))

    def train_step(self, batch: Sample, steps: int) -> dict[str, float]:
        """One optimizer step.

        Args:
            batch: collated samples.
            steps: of the whole run.

        Returns:
            step (from 1), lr of the heads, the loss terms by name, and the norm of the gradient before clipping.

        Raises:
            Diverged: the loss or the gradient is not finite; nothing has changed.
        """
        before = self._fragile()
        factor = schedule(self.step, self.config.warmup_steps, steps)
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor
        terms = self._losses(batch)
        self._optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(terms.total)
        norm = nn.utils.clip_grad_norm_(self.student.parameters(), self.config.clip_norm)
        figures = {name: float(value.detach()) for name, value in terms._asdict().items()} | {"grad_norm": float(norm)}
        if not (math.isfinite(figures["total"]) and math.isfinite(figures["grad_norm"])):
            self._mend(before)
            raise Diverged(figures, {name: part.cpu() for name, part in batch._asdict().items()})
        self._optimizer.step()
        self.step += 1
        follow(self.average, self.student, min(self.config.ema_decay, self.step / (self.step + 10)))
        return {"step": self.step, "lr": factor * self.config.lr_head, **figures}

    def evaluate(self, validation: ValidationSet) -> Validated:
        """The averaged student on the small validation, at the net's own grid."""
        serving = ServingStudent(self.average).eval()
        probs, scores = [], []
        with torch.inference_mode(), self._autocast():
            for start in range(0, len(validation.pixels), EVALUATION_BATCH):
                batch = torch.from_numpy(validation.pixels[start : start + EVALUATION_BATCH]).to(self.device)
                prob, score_logit = serving(batch)
                probs.append(prob.cpu().numpy())
                scores.append(score_logit.cpu().numpy())
        prob, score_logit = np.concatenate(probs), np.concatenate(scores)
        return Validated(prob, score_logit, validation.figures(prob, score_logit))

    def state(self) -> dict[str, Any]:
        """Everything the next step depends on; `restore` is the inverse."""
        return {
            "student": self.student.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "step": self.step,
            "random": _random_state(self.device),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go back to a saved state, to the bit.

        Raises:
            InvalidInput: the state is of another version of this program or of another network.
        """
        try:
            self.student.load_state_dict(state["student"])
            self.average.load_state_dict(state["average"])
            self._optimizer.load_state_dict(state["optimizer"])
            self.step = state["step"]
            _set_random_state(self.device, state["random"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise InvalidInput(f"the saved state does not fit this program: {error}. Train in another folder") from error

    def _losses(self, batch: Sample) -> LossTerms:
        self.student.train()
        if self.config.freeze_norm:
            freeze_norm(self.student.backbone)
        batch = Sample(*(part.to(self.device, non_blocking=True) for part in batch))
        x = self._normalise(batch.pixels).contiguous(memory_format=torch.channels_last)
        with self._autocast():
            output = self.student(x)
        return distillation_loss(output, batch, self.config)

    def _autocast(self) -> AbstractContextManager[Any]:
        return mixed_precision(self.device) if self.precision == "bf16" else nullcontext()

    def _fragile(self) -> tuple[list[Tensor], dict[str, Tensor]]:
        """What a forward pass changes: the statistics of batch norms and the random state."""
        return [buffer.clone() for buffer in self.student.buffers()], _random_state(self.device)

    @torch.no_grad()
    def _mend(self, before: tuple[list[Tensor], dict[str, Tensor]]) -> None:
        for buffer, kept in zip(self.student.buffers(), before[0], strict=True):
            buffer.copy_(kept)
        _set_random_state(self.device, before[1])
        self._optimizer.zero_grad(set_to_none=True)


def schedule(step: int, warmup_steps: int, steps: int) -> float:
    """Factor on the peak learning rate: linear warm-up times half a cosine down to one hundredth.

    The cosine starts at `PLANNING_STEPS`: before it the factor does not depend on `steps`, which a time budget only then gives.

    Args:
        step: done so far.
        warmup_steps: of the linear part.
        steps: of the whole run.
    """
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    fraction = min(1.0, max(0, step - PLANNING_STEPS) / max(1, steps - PLANNING_STEPS))
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


def device_of(name: str) -> torch.device:
    """A device by name.

    Raises:
        InvalidInput: no such name.
        EnvironmentMissing: no such device here.
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InvalidInput(f"'{name}' is not a device; use cpu or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise EnvironmentMissing(f"{name} was asked for, but torch sees {torch.cuda.device_count()} CUDA devices")
    return device


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


def _random_state(device: torch.device) -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    return state | {"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else state


def _set_random_state(device: torch.device, state: Mapping[str, Tensor]) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
