"""What the student is asked to reproduce: the soft pseudo-mask, and whether the picture was manipulated at all."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model.config import TrainConfig
from model.student import StudentOutput


class LossTerms(NamedTuple):
    """Scalars; `total` is the weighted sum that is minimised."""

    total: Tensor
    mask: Tensor
    dice: Tensor
    score: Tensor


def distillation_loss(output: StudentOutput, soft_masks: Tensor, labels: Tensor, config: TrainConfig) -> LossTerms:
    """Soft cross-entropy (the paper's) plus dice on manipulated pictures and cross-entropy of the image score (ours).

    Args:
        output: of the student.
        soft_masks: [B, 1, M, M], 0..1.
        labels: [B], 1 for a manipulated picture.
        config: weights of the terms.
    """
    logits = output.mask_logits.float()
    weights = 1.0 + (config.positive_weight - 1.0) * soft_masks
    mask = (functional.binary_cross_entropy_with_logits(logits, soft_masks, reduction="none") * weights).mean()
    dice = soft_dice(torch.sigmoid(logits), soft_masks, labels)
    score = functional.binary_cross_entropy_with_logits(output.score_logit.float(), labels)
    return LossTerms(mask + config.dice_weight * dice + config.score_weight * score, mask, dice, score)


def soft_dice(prob: Tensor, soft_masks: Tensor, labels: Tensor) -> Tensor:
    """1 - dice (Milletari et al. 2016, squared denominator), averaged over the batch; authentic pictures count as zero.

    Args:
        prob, soft_masks: [B, 1, M, M], 0..1.
        labels: [B], 1 for a manipulated picture.
    """
    overlap = (prob * soft_masks).sum((1, 2, 3))
    extent = (prob.square() + soft_masks.square()).sum((1, 2, 3))
    return (labels * (1.0 - (2.0 * overlap + 1.0) / (extent + 1.0))).mean()
