"""Memory-Guided Gated Fusion Module (MGFM) of BoxPromptIML (Guo, Xi, Li, Yang, AAAI 2026, arXiv 2511.20359).

    F'_i    = project(F_i)                              one width D, the finest map's size
    G_i     = sigmoid(conv(F'_i))
    F_fused = sum_i G_i * F'_i
    A_final = a * (A_base * G_avg) + (1 - a) * A_mem     a = sigmoid of a learnable scalar (ours)

The paper's text leaves open what kind of convolutions these are. Ours: 3x3 projections on the coarser half of the maps, where
context is cheap, 1x1 on the finer half; 1x1 gates; a depthwise-separable base.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.memory import MemoryBank

FINE_MAPS = 2  # strides 4 and 8


class GatedFusion(nn.Module):
    """MGFM without the last projection to a mask.

    Args:
        channels: of the maps, finest first: the backbone's four, then any further evidence.
        width: D.
        slots: of the memory bank.
        memory: False gives A_final = A_base * G_avg.
        gates: False sets every gate to one.
        learned_balance: False keeps a at one half.
    """

    def __init__(
        self,
        channels: Sequence[int],
        width: int,
        slots: int,
        *,
        memory: bool = True,
        gates: bool = True,
        learned_balance: bool = True,
    ) -> None:
        super().__init__()
        self.project = nn.ModuleList(_project(count, width, 1 if i < FINE_MAPS else 3) for i, count in enumerate(channels))
        self.gate = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in channels) if gates else None
        self.base = separable(width)
        self.memory = MemoryBank(width, slots) if memory else None
        self.balance = nn.Parameter(torch.zeros(()), requires_grad=learned_balance) if memory else None

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Maps [B, C_i, H_i, W_i], finest first, to A_final [B, D, H_0, W_0]."""
        size = maps[0].shape[-2:]
        projected = [_resized(project(x), size) for project, x in zip(self.project, maps, strict=True)]
        fused, mean_gate = self._gated(projected)
        guided: Tensor = self.base(fused) * mean_gate
        if self.memory is None or self.balance is None:
            return guided
        share = torch.sigmoid(self.balance)
        recalled: Tensor = self.memory(fused)
        return share * guided + (1 - share) * recalled

    def _gated(self, projected: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Sum of gated maps and the mean gate, both [B, D, H, W]."""
        if self.gate is None:
            fused = torch.stack(list(projected)).sum(0)
            return fused, torch.ones_like(fused)
        gates = [torch.sigmoid(gate(x)) for gate, x in zip(self.gate, projected, strict=True)]
        fused = gates[0] * projected[0]
        total = gates[0]
        for gate, x in zip(gates[1:], projected[1:], strict=True):
            fused = fused + gate * x
            total = total + gate
        return fused, total / len(gates)


def separable(width: int) -> nn.Sequential:
    """Depthwise 3x3 and pointwise convolution, [B, D, H, W] to the same shape."""
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False),
        nn.Conv2d(width, width, 1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(inplace=True),
    )


def _project(channels: int, width: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(width))


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape[-2:] == size:
        return x
    return functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
