"""Self-correlation: which cells of a picture look like other cells of it, so that a copied part finds its source.

After the idea of BusterNet's similarity branch (Wu, Abd-Almageed, Natarajan, ECCV 2018); descriptors, the read and the
supervision are ours. A cell's descriptor is compared with that of every cell further off than `NEAR_CELLS`. A true copy shows as
a strong match whose offset is the same all around; both go to the fusion as one more map.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

NEAR_CELLS = 3
BLOCKED = -1e4  # a logit that no softmax sees
START_SHARPNESS = 12.0
READ_CHANNELS = 6
MOST_WANTED = 4.0


class SelfCorrelation(nn.Module):
    """Matches between the cells of a square grid of stride 8.

    Args:
        channels: of the two finest backbone maps, strides 4 and 8.
        width: descriptor channels D.
        cells: side G of the grid.
    """

    rows: Tensor
    columns: Tensor

    def __init__(self, channels: tuple[int, int], width: int, cells: int) -> None:
        super().__init__()
        self.describe = nn.Sequential(
            nn.Conv2d(sum(channels), 2 * width, 1, bias=False),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(inplace=True),
            nn.Conv2d(2 * width, width, 3, padding=1),
        )
        self.sharpness = nn.Parameter(torch.tensor(START_SHARPNESS).log())
        self.combine = nn.Sequential(
            nn.Conv2d(READ_CHANNELS + width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.cells, self.channels = cells, width
        ticks = torch.arange(cells, dtype=torch.float32)
        self.register_buffer("rows", ticks.repeat_interleave(cells), persistent=False)
        self.register_buffer("columns", ticks.repeat(cells), persistent=False)

    def forward(self, fine: Tensor, middle: Tensor) -> tuple[Tensor, Tensor]:
        """Maps [B, C_0, 2G, 2G] and [B, C_1, G, G] to evidence [B, D, G, G] and match logits [B, G*G, G*G] (cell, its match)."""
        described = self.describe(torch.cat([functional.avg_pool2d(fine, 2), middle], dim=1))
        with torch.autocast(described.device.type, enabled=False):  # the products are small, the casts would cost more
            described = described.float()
            descriptors = functional.normalize(described - described.mean((2, 3), keepdim=True), dim=1, eps=1e-4)
            logits = self._logits(descriptors.flatten(2))
            evidence = self._read(torch.softmax(logits, dim=-1), descriptors)
        combined: Tensor = self.combine(evidence)
        return combined, logits

    def _logits(self, flat: Tensor) -> Tensor:
        """Sharpened cosines between all cells [B, D, N]; a cell's own neighbourhood is blocked."""
        near = torch.maximum(_apart(self.rows), _apart(self.columns)) <= NEAR_CELLS
        blocked = near.to(flat.dtype).mul(BLOCKED).unsqueeze(0)
        return blocked + (self.sharpness.exp() * flat).transpose(1, 2) @ flat

    def _read(self, weights: Tensor, descriptors: Tensor) -> Tensor:
        """What the matches [B, N, N] say of each cell: [B, READ_CHANNELS + D, G, G].

        Means under the match distribution: likeness to the match, how many cells take this one for theirs, offset, spread of the
        distribution, roughness of the offset around the cell; and what differs between a cell and its match.
        """
        batch, _, cells, _ = descriptors.shape
        place = torch.stack([self.rows, self.columns]) / cells
        places = torch.cat([place, place.square()]).unsqueeze(0).expand(batch, -1, -1)
        mean = torch.cat([places, descriptors.flatten(2)], dim=1) @ weights.transpose(1, 2)
        offset = mean[:, :2] - place
        spread = (mean[:, 2:4] - mean[:, :2].square()).sum(1, keepdim=True)
        wanted = weights.sum(1, keepdim=True).clamp(max=MOST_WANTED)
        recalled = mean[:, 4:].reshape(descriptors.shape)
        likeness = (recalled * descriptors).sum(1, keepdim=True)
        read = torch.cat([offset, spread, wanted], dim=1).reshape(batch, -1, cells, cells)
        return torch.cat([read, _roughness(read[:, :2]), likeness, recalled - descriptors], dim=1)


def _roughness(offset: Tensor) -> Tensor:
    """Logarithm of the variance of [B, 2, G, G] offsets in 5 x 5 cells: low where neighbours moved together."""
    mean = functional.avg_pool2d(offset, 5, stride=1, padding=2, count_include_pad=False)
    square = functional.avg_pool2d(offset.square(), 5, stride=1, padding=2, count_include_pad=False)
    return (square - mean.square()).sum(1, keepdim=True).clamp(min=0.0).add(1e-4).log()


def _apart(ticks: Tensor) -> Tensor:
    """[N, N] distances between N positions."""
    return (ticks.unsqueeze(0) - ticks.unsqueeze(1)).abs()
