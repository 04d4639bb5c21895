"""The memory bank: learnable prototypes of manipulation, recalled in the context of the picture at hand."""

import torch
from torch import Tensor, nn


class MemoryBank(nn.Module):
    """Attention over learnable slots: query = fused feature of a cell, keys and values = slots (the read is our choice).

    Args:
        width: channels D of features and slots.
        slots: number K of prototypes.
    """

    def __init__(self, width: int, slots: int) -> None:
        super().__init__()
        self.slots = nn.Parameter(torch.randn(slots, width) * width**-0.5)
        self.query = nn.Conv2d(width, width, 1)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)

    def attention(self, fused: Tensor) -> Tensor:
        """How much each cell recalls each slot: [B, D, H, W] to [B, H*W, K], rows sum to one."""
        query = self.query(fused).flatten(2).transpose(1, 2)
        logits = query @ self.key(self.slots).t() * self.slots.shape[1] ** -0.5
        weights: Tensor = torch.softmax(logits, dim=-1)
        return weights

    def forward(self, fused: Tensor) -> Tensor:
        """Fused features [B, D, H, W] to the recalled activation A_mem [B, D, H, W]."""
        recalled: Tensor = self.attention(fused) @ self.value(self.slots)
        return recalled.transpose(1, 2).reshape(fused.shape)
