"""Which averaged weights of a run are published: the last ones, unless an earlier validation was clearly better.

The learning rate ends near zero and the weights are averaged, so the last ones are the best guess. The small validation can say
that training went on for too long, but only a clear difference on enough pictures is more than its noise.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from torch import Tensor, nn

from model.manifest import ManifestRow

CLEARLY_BETTER = 0.05
LEAST_PICTURES_A_LABEL = 20


class Best(TypedDict):
    """The best validation so far: its step, tuning figure, all figures, and the averaged weights on the CPU."""

    step: int
    tuning: float
    figures: dict[str, float]
    average: dict[str, Tensor]


def mean_f1(figures: Mapping[str, Any]) -> float | None:
    """Mean over sets of the F1 figures of one validation; None where it has none."""
    values = [value for name, value in figures.items() if name.startswith("f1_")]
    return float(np.mean(values)) if values else None


def tuning_figure(figures: Mapping[str, float]) -> float | None:
    """Mean of the F1 averaged over sets and the image AUC; None where a validation lacks one of them."""
    f1, auc = mean_f1(figures), figures.get("image_auc")
    return None if f1 is None or auc is None else (f1 + auc) / 2


def better(
    best: Best | None, step: int, figures: dict[str, float], rows: Sequence[ManifestRow], average: nn.Module
) -> Best | None:
    """The best validation when this one is counted too; one on too few pictures never counts.

    Args:
        best: so far.
        step, figures: of this validation.
        rows: its pictures.
        average: the averaged student, whose weights are copied if they are the best.
    """
    tuning, tampered = tuning_figure(figures), sum(row.tampered for row in rows)
    if tuning is None or min(tampered, len(rows) - tampered) < LEAST_PICTURES_A_LABEL:
        return best
    if best is not None and tuning <= best["tuning"]:
        return best
    weights = {name: tensor.cpu().clone() for name, tensor in average.state_dict().items()}
    return Best(step=step, tuning=tuning, figures=figures, average=weights)


def clearly_better(best: Best | None, last: Mapping[str, float]) -> Best | None:
    """The best validation if it beats the figures of the last one by more than noise."""
    tuning = tuning_figure(last)
    return best if best is not None and tuning is not None and best["tuning"] > tuning + CLEARLY_BETTER else None
