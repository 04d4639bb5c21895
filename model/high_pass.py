"""A front end of residual filters beside RGB: what the picture's content hides, noise and edges show.

`srm`: three fixed kernels of the spatial rich model (Fridrich and Kodovsky, IEEE TIFS 2012), those Zhou et al. (CVPR 2018) chose.
`bayar`: learned kernels whose centre is -1 and whose other weights sum to one (Bayar and Stamm, IEEE TIFS 2018).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.config import HighPass

LEARNED_KERNELS = 3
CHANNELS = 24
TRUNCATION = 3.0  # of residuals, in units of the normalised picture times eight
GAIN = 8.0

_FIRST = ((0, 0, 0, 0, 0), (0, -1, 2, -1, 0), (0, 2, -4, 2, 0), (0, -1, 2, -1, 0), (0, 0, 0, 0, 0))
_SECOND = ((-1, 2, -2, 2, -1), (2, -6, 8, -6, 2), (-2, 8, -12, 8, -2), (2, -6, 8, -6, 2), (-1, 2, -2, 2, -1))
_THIRD = ((0, 0, 0, 0, 0), (0, 0, 0, 0, 0), (0, 1, -2, 1, 0), (0, 0, 0, 0, 0), (0, 0, 0, 0, 0))


class HighPassFrontEnd(nn.Module):
    """Residuals of each colour channel, then two convolutions to a map of stride 4.

    Args:
        kind: "srm" or "bayar".
    """

    def __init__(self, kind: HighPass) -> None:
        super().__init__()
        self.kind, self.channels = kind, CHANNELS
        start = torch.tensor((_FIRST, _SECOND, _THIRD), dtype=torch.float32) / torch.tensor((4.0, 12.0, 2.0)).view(3, 1, 1)
        if kind == "bayar":
            start = torch.rand(LEARNED_KERNELS, 5, 5)
        self.kernels = nn.Parameter(start, requires_grad=kind == "bayar")
        self.body = nn.Sequential(
            nn.Conv2d(3 * len(start), 16, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(16),
            nn.ReLU(inplace=True),
            nn.Conv2d(16, CHANNELS, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Normalised pictures [B, 3, S, S] to [B, C, S/4, S/4]."""
        kernels = self._constrained() if self.kind == "bayar" else self.kernels
        residual = functional.conv2d(x, kernels.unsqueeze(1).repeat(3, 1, 1, 1), padding=2, groups=3)
        truncated: Tensor = self.body((GAIN * residual).clamp(-TRUNCATION, TRUNCATION))
        return truncated

    def _constrained(self) -> Tensor:
        """Kernels [K, 5, 5] with centre -1 and the rest summing to one."""
        centre = torch.zeros_like(self.kernels)
        centre[:, 2, 2] = 1.0
        around = self.kernels * (1.0 - centre)
        return around / around.sum((1, 2), keepdim=True).clamp(min=1e-3) - centre
