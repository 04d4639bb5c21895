"""The student: wiring of backbone, fusion and two heads. The numbers live in `StudentConfig`."""

from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from model.backbone import Backbone
from model.config import CORRELATION_STRIDE, Pretrained, StudentConfig
from model.correlation import SelfCorrelation
from model.fusion import GatedFusion, separable
from model.high_pass import HighPassFrontEnd

PRIOR_LOGIT = -2.0  # most cells of most pictures are untouched; the head starts from there
TOP_SHARE = 0.02  # of cells whose mean logit speaks for the picture


class StudentOutput(NamedTuple):
    """mask_logits [B, 1, M, M] before the sigmoid, M = S/4; score_logit [B], the picture as a whole.

    match_logits [B, G*G, G*G], G = S/8: how much each cell looks like each other one; None without the correlation branch.
    """

    mask_logits: Tensor
    score_logit: Tensor
    match_logits: Tensor | None = None


class Student(nn.Module):
    """Normalised pictures to a manipulation map and an image score.

    `mask_shift` and `mask_coupling` are zero in training; publishing fits them (`model.mask_fit`), so that a mask is bolder in a
    picture that looks manipulated as a whole.

    Args:
        config: of the network.
        pretrained: first weights of the backbone.
    """

    mask_shift: Tensor
    mask_coupling: Tensor

    def __init__(self, config: StudentConfig, pretrained: Pretrained = "none") -> None:
        super().__init__()
        self.config = config
        self.backbone = Backbone(config.backbone, pretrained)
        channels = list(self.backbone.channels)
        self.correlation = self.high_pass = None
        if config.correlation:
            cells = config.input_size // CORRELATION_STRIDE
            self.correlation = SelfCorrelation((channels[0], channels[1]), config.correlation, cells)
        if config.high_pass != "none":
            self.high_pass = HighPassFrontEnd(config.high_pass)
        evidence = [part.channels for part in (self.correlation, self.high_pass) if part is not None]
        self.fusion = GatedFusion(
            channels + evidence,
            config.width,
            config.slots,
            memory=config.memory,
            gates=config.gates,
            learned_balance=config.balance == "learned",
        )
        self.refine = separable(config.width)
        self.mask_head = nn.Conv2d(config.width, 1, 1)
        nn.init.constant_(cast(Tensor, self.mask_head.bias), PRIOR_LOGIT)
        self._top_cells = max(1, round(TOP_SHARE * config.mask_size**2))
        self.score_head = nn.Linear(2 * config.width + 2, 1)
        self.register_buffer("mask_shift", torch.zeros(()))
        self.register_buffer("mask_coupling", torch.zeros(()))

    def forward(self, x: Tensor) -> StudentOutput:
        """Pictures [B, 3, S, S], normalised with the config's mean and std."""
        maps, match_logits = self.backbone(x), None
        if self.correlation is not None:
            evidence, match_logits = self.correlation(maps[0], maps[1])
            maps.append(evidence)
        if self.high_pass is not None:
            maps.append(self.high_pass(x))
        refined = self.refine(self.fusion(maps))
        mask_logits = self.mask_head(refined)
        score_logit = self._score(refined, mask_logits)
        settled = mask_logits + self.mask_shift + self.mask_coupling * score_logit.view(-1, 1, 1, 1)
        return StudentOutput(settled, score_logit, match_logits)

    def _score(self, refined: Tensor, mask_logits: Tensor) -> Tensor:
        """Image logit [B] from pooled features [B, D, M, M] and the strongest cells of the map [B, 1, M, M] (ours)."""
        cells = mask_logits.flatten(1)
        top = torch.topk(cells, self._top_cells, dim=1).values.mean(1, keepdim=True)
        pooled = [refined.mean((2, 3)), refined.amax((2, 3)), top, cells.mean(1, keepdim=True)]
        score: Tensor = self.score_head(torch.cat(pooled, dim=1)).squeeze(1)
        return score


class ServingStudent(nn.Module):
    """What is exported and served: takes decoded pixels, normalises inside, returns probabilities."""

    mean: Tensor
    std: Tensor

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student
        self.register_buffer("mean", 255.0 * torch.tensor(student.config.mean).view(1, 3, 1, 1))
        self.register_buffer("std", 255.0 * torch.tensor(student.config.std).view(1, 3, 1, 1))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """uint8 RGB [B, S, S, 3], network pixels, to prob [B, M, M] and score_logit [B], float32."""
        output = self.student(self.normalised(pictures))
        return torch.sigmoid(output.mask_logits.float()).squeeze(1), output.score_logit.float()

    def normalised(self, pictures: Tensor) -> Tensor:
        """uint8 RGB [B, S, S, 3] to what the student takes, [B, 3, S, S] float32."""
        x: Tensor = (pictures.permute(0, 3, 1, 2).float() - self.mean) / self.std
        return x
