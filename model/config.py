"""The numbers that define a student and one training run. No torch: the predictor and the card read this file too."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

from schemas.errors import InvalidInput

Colour = tuple[float, float, float]
Pretrained = Literal["none", "efficientnet-lite0-package", "timm"]
Precision = Literal["fp32", "bf16"]
HighPass = Literal["none", "srm", "bayar"]
TeacherKind = Literal["grabcut", "sam-vit-b", "sam-vit-l", "sam-vit-h", "masks"]

OUTPUT_STRIDE = 4
CORRELATION_STRIDE = 8
_POSITIVE = ("batch_size", "lr_backbone", "lr_head", "clip_norm", "checkpoint_every_steps", "evaluate_every_steps")


@dataclass(frozen=True)
class StudentConfig:
    """What is needed to build a student; it travels in the card of every checkpoint.

    Args:
        backbone: timm model name with `features_only` maps at strides 4, 8, 16 and 32.
        input_size: side of the square network input in pixels, a multiple of 32.
        width: channels of the fusion.
        slots: learnable prototypes in the memory bank.
        memory: False leaves the memory bank out (for ablation).
        gates: False leaves the scale gates out (for ablation).
        balance: "learned" makes alpha of the fusion a parameter, "fixed" keeps it at one half.
        correlation: channels of the descriptors that look for repeated content in the picture; 0 leaves the branch out.
        high_pass: a front end of residual filters beside RGB.
        mean, std: per-channel normalisation of RGB scaled to 0..1, as the backbone was pretrained.
    """

    backbone: str = "tiny_vit_5m_224"
    input_size: int = 224
    width: int = 64
    slots: int = 48
    memory: bool = True
    gates: bool = True
    balance: Literal["learned", "fixed"] = "learned"
    correlation: int = 0
    high_pass: HighPass = "none"
    mean: Colour = (0.485, 0.456, 0.406)
    std: Colour = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        problems = []
        if self.input_size < 32 or self.input_size % 32:
            problems.append(f"input_size must be a positive multiple of 32, not {self.input_size}")
        if self.width < 1 or self.slots < 1:
            problems.append(f"width and slots must be positive, not {self.width} and {self.slots}")
        if self.correlation < 0:
            problems.append(f"correlation must not be negative, not {self.correlation}")
        if self.balance not in ("learned", "fixed") or self.high_pass not in get_args(HighPass):
            problems.append(f"balance {self.balance!r} or high_pass {self.high_pass!r} is not a known choice")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            problems.append("mean and std need three numbers each, std above zero")
        _raise_if(problems, "student")

    @property
    def mask_size(self) -> int:
        """Side of the student's output grid in cells."""
        return self.input_size // OUTPUT_STRIDE


@dataclass(frozen=True)
class TrainConfig:
    """One distillation run. The data folder is an argument of the command, never part of the config.

    Args:
        name: of the student's family; the published version is `<name>-<8 hex of the weights' sha256>`.
        student: the network.
        pretrained: where the backbone's first weights come from.
        teacher: what turns boxes into pseudo-masks; "masks" trains on the true masks instead, as an upper bound.
        seed: of every random choice in data and weights.
        steps: optimizer steps of the whole schedule. 0 trains nothing: an earlier student is calibrated, its mask fitted and its
            figures measured as this config has it, at another input size for instance.
        limit_minutes: wall-clock budget; becomes a number of steps at the pace of the first 25, then kept. 0 is no limit.
        batch_size: pictures a step.
        lr_backbone, lr_head: peak learning rates of AdamW.
        weight_decay: on weights with two or more dimensions.
        warmup_steps: linear warm-up.
        ema_decay: of the averaged weights, which are the ones published.
        clip_norm: largest gradient norm.
        freeze_norm: keep the backbone's batch-norm statistics as pretrained.
        precision: of the forward pass; "bf16" is autocast, and "fp32" after all on a device that has no bfloat16 arithmetic.
        real_share, synthetic_share: of a batch; the rest is authentic.
        set_weights: weight of a manifest set among the real manipulated pictures, 1 where not named; a set is drawn with
            probability proportional to weight * sqrt(pictures).
        box_margin: largest loosening of a training box, as a share of its own extent.
        outside_label: soft label inside the box where the teacher saw no object.
        least_quality: pseudo-masks of a lower quality do not train.
        trusted_quality: pseudo-masks from this quality on weigh fully; the weight falls linearly to zero at quality zero.
        copy_move_share, removal_share, edit_share: of the synthetic manipulations; the rest are splices.
        delivery: apply the random compression chain to training pictures.
        positive_weight: of manipulated cells in the cross-entropy.
        dice_weight, score_weight, match_weight: of the loss terms beside the cross-entropy.
        synthetic_score: share of the image score's loss that a synthetic manipulation counts beside a real one.
        threads: of torch; 0 leaves torch's choice.
        loader_workers: processes that draw samples; 0 draws them in the training process.
        checkpoint_every_steps, evaluate_every_steps: period of resumable checkpoints and of the small validation.
        validation_images: pictures of the small validation.
        licence: terms of the weights, for the card.
        notes: what a user of the weights must know, for the card.
    """

    name: str = "student"
    student: StudentConfig = field(default_factory=StudentConfig)
    pretrained: Pretrained = "none"
    teacher: TeacherKind = "grabcut"
    seed: int = 20251
    steps: int = 2000
    limit_minutes: float = 0.0
    batch_size: int = 12
    lr_backbone: float = 3e-4
    lr_head: float = 1e-3
    weight_decay: float = 0.02
    warmup_steps: int = 100
    ema_decay: float = 0.998
    clip_norm: float = 1.0
    freeze_norm: bool = False
    precision: Precision = "fp32"
    real_share: float = 0.45
    synthetic_share: float = 0.25
    set_weights: Mapping[str, float] = field(default_factory=dict)
    box_margin: float = 0.15
    outside_label: float = 0.1
    least_quality: float = 0.0
    trusted_quality: float = 0.0
    copy_move_share: float = 0.45
    removal_share: float = 0.1
    edit_share: float = 0.1
    delivery: bool = True
    positive_weight: float = 2.0
    dice_weight: float = 0.5
    score_weight: float = 0.3
    match_weight: float = 0.2
    synthetic_score: float = 1.0
    threads: int = 0
    loader_workers: int = 1
    checkpoint_every_steps: int = 200
    evaluate_every_steps: int = 400
    validation_images: int = 60
    licence: str = "not stated: ask whoever trained these weights"
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        problems = [f"{name} must be positive, not {getattr(self, name)}" for name in _POSITIVE if getattr(self, name) <= 0]
        if self.steps < 0:
            problems.append(f"steps must not be negative, not {self.steps}")
        if min(self.real_share, self.synthetic_share) < 0 or self.real_share + self.synthetic_share > 1:
            problems.append("real_share and synthetic_share must be shares of one batch")
        kinds = (self.copy_move_share, self.removal_share, self.edit_share)
        if min(kinds) < 0 or sum(kinds) > 1:
            problems.append("copy_move_share, removal_share and edit_share must be shares of the synthetic manipulations")
        if not 0 <= self.synthetic_score <= 1:
            problems.append(f"synthetic_score must lie in 0..1, not {self.synthetic_score}")
        if not 0 <= self.least_quality <= 1 or not 0 <= self.trusted_quality <= 1:
            problems.append("least_quality and trusted_quality must lie in 0..1")
        if self.teacher not in get_args(TeacherKind):
            problems.append(f"teacher {self.teacher!r} is not one of {', '.join(get_args(TeacherKind))}")
        if not 0 <= self.ema_decay < 1:
            problems.append(f"ema_decay must lie in 0..1, not {self.ema_decay}")
        if self.pretrained not in ("none", "efficientnet-lite0-package", "timm"):
            problems.append(f"pretrained {self.pretrained!r} is not none, efficientnet-lite0-package or timm")
        if self.precision not in ("fp32", "bf16"):
            problems.append(f"precision {self.precision!r} is neither fp32 nor bf16")
        _raise_if(problems, "train")


def load_train_config(path: Path) -> TrainConfig:
    """Read a TOML training config: keys of `TrainConfig` at the top, `[student]` and `[set_weights]` as tables.

    Raises:
        InvalidInput: the file is missing, is not TOML, has an unknown key, or a value of the wrong type or range.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"training config {path} cannot be read: {error.strerror}") from error
    try:
        document = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"training config {path} is not valid TOML: {error}") from error
    return train_config_of(document)


def train_config_of(document: Mapping[str, Any]) -> TrainConfig:
    """Build a training config from plain values; the inverse of `dataclasses.asdict`.

    Raises:
        InvalidInput: an unknown key, or a value of the wrong type or range.
    """
    student = document.get("student", {})
    if not isinstance(student, Mapping):
        raise InvalidInput("training config: student must be a table")
    rest = {key: value for key, value in document.items() if key != "student"}
    return TrainConfig(**_checked(TrainConfig(), rest, "train"), student=student_config_of(student))


def student_config_of(values: Mapping[str, Any]) -> StudentConfig:
    """Build a student's config from plain values.

    Raises:
        InvalidInput: an unknown key, or a value of the wrong type or range.
    """
    return StudentConfig(**_checked(StudentConfig(), values, "student"))


def _checked(default: object, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Values whose keys and types agree with those of a default instance."""
    known = {item.name: getattr(default, item.name) for item in fields(default) if item.name != "student"}  # type: ignore[arg-type]
    problems = [f"unknown key {key!r}" for key in values if key not in known]
    checked: dict[str, Any] = {}
    for key in values.keys() & known.keys():
        try:
            checked[key] = _converted(values[key], known[key])
        except (TypeError, ValueError):
            problems.append(f"{key} must be of the kind of {known[key]!r}, not {values[key]!r}")
    _raise_if(problems, where)
    return checked


def _converted(value: Any, like: Any) -> Any:
    """A TOML value as the type of its default; booleans never pass for numbers.

    Raises:
        TypeError, ValueError: the value is of another kind.
    """
    if isinstance(like, tuple):
        if not isinstance(value, list | tuple):
            raise TypeError(value)
        return tuple(_converted(item, like[0] if like else "") for item in value)
    if isinstance(like, Mapping):
        return {str(key): _converted(item, 0.0) for key, item in value.items()}
    if isinstance(value, bool) is not isinstance(like, bool):
        raise TypeError(value)
    if isinstance(like, float) and isinstance(value, int):
        return float(value)
    if not isinstance(value, type(like)):
        raise TypeError(value)
    return value


def _raise_if(problems: list[str], where: str) -> None:
    if problems:
        raise InvalidInput(f"{where} config: " + "; ".join(sorted(problems)))
