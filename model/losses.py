"""What the student is asked to reproduce: the soft pseudo-mask, whether the picture was manipulated, and what was copied."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from model.augment import Sample
from model.config import TrainConfig
from model.correlation import NEAR_CELLS
from model.student import StudentOutput


class LossTerms(NamedTuple):
    """Scalars; `total` is the weighted sum that is minimised."""

    total: Tensor
    mask: Tensor
    dice: Tensor
    score: Tensor
    match: Tensor


def distillation_loss(output: StudentOutput, batch: Sample, config: TrainConfig) -> LossTerms:
    """Soft cross-entropy (the paper's), plus dice, the image score's cross-entropy and, for known copies, their sources (ours).

    Args:
        output: of the student.
        batch: samples, stacked.
        config: weights of the terms.
    """
    logits = output.mask_logits.float()
    soft_masks = batch.soft_mask.unsqueeze(1).float() / 255.0
    weights = (1.0 + (config.positive_weight - 1.0) * soft_masks) * batch.weight.view(-1, 1, 1, 1)
    mask = (functional.binary_cross_entropy_with_logits(logits, soft_masks, reduction="none") * weights).mean()
    dice = soft_dice(torch.sigmoid(logits), soft_masks, batch.label * batch.weight)
    each = functional.binary_cross_entropy_with_logits(output.score_logit.float(), batch.label, reduction="none")
    score = (each * batch.score_weight).sum() / batch.score_weight.sum().clamp(min=1.0)
    match = torch.zeros_like(score) if output.match_logits is None else match_loss(output.match_logits, batch.match)
    total = mask + config.dice_weight * dice + config.score_weight * score + config.match_weight * match
    return LossTerms(total, mask, dice, score, match)


def soft_dice(prob: Tensor, soft_masks: Tensor, weights: Tensor) -> Tensor:
    """1 - dice (Milletari et al. 2016, squared denominator), averaged over the batch.

    Args:
        prob, soft_masks: [B, 1, M, M], 0..1.
        weights: [B], 0 for authentic pictures, whose dice says nothing.
    """
    overlap = (prob * soft_masks).sum((1, 2, 3))
    extent = (prob.square() + soft_masks.square()).sum((1, 2, 3))
    return (weights * (1.0 - (2.0 * overlap + 1.0) / (extent + 1.0))).mean()


def match_loss(match_logits: Tensor, match: Tensor) -> Tensor:
    """Cross-entropy of finding a copied cell's source, within one cell either way; zero where a batch holds no known copy.

    Args:
        match_logits: [B, G*G, G*G] from `model.correlation`.
        match: [B, G, G] as in `Sample`.
    """
    cells = match.shape[-1]
    pictures, rows, columns = torch.nonzero(match >= 0, as_tuple=True)
    source = match[pictures, rows, columns]
    apart = torch.maximum((source // cells - rows).abs(), (source % cells - columns).abs()) > NEAR_CELLS + 1
    pictures, rows, columns, source = pictures[apart], rows[apart], columns[apart], source[apart]
    if not len(pictures):
        return match_logits.new_zeros(())
    log_prob = torch.log_softmax(match_logits[pictures, rows * cells + columns].float(), dim=-1)
    around = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            row = (source // cells + down).clamp(0, cells - 1)
            column = (source % cells + right).clamp(0, cells - 1)
            around.append(log_prob.gather(1, (row * cells + column).unsqueeze(1)).squeeze(1))
    return -torch.logsumexp(torch.stack(around), dim=0).clamp(max=0.0).mean()
