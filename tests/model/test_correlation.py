import torch

from model.correlation import NEAR_CELLS, SelfCorrelation

CELLS = 12


def branch() -> SelfCorrelation:
    torch.manual_seed(0)
    return SelfCorrelation((4, 6), 8, CELLS).eval()


def maps_with_a_copy(row: int, column: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise whose block at (8, 8) repeats at (row, column), on both grids."""
    torch.manual_seed(1)
    fine, middle = torch.randn(1, 4, 2 * CELLS, 2 * CELLS), torch.randn(1, 6, CELLS, CELLS)
    middle[:, :, row : row + 3, column : column + 3] = middle[:, :, 8:11, 8:11]
    fine[:, :, 2 * row : 2 * row + 6, 2 * column : 2 * column + 6] = fine[:, :, 16:22, 16:22]
    return fine, middle


def test_a_copied_cell_finds_its_source_and_the_source_its_copy() -> None:
    with torch.inference_mode():
        _, logits = branch()(*maps_with_a_copy(1, 2))
    assert logits.shape == (1, CELLS**2, CELLS**2)
    copy, source = 2 * CELLS + 3, 9 * CELLS + 9
    assert int(logits[0, copy].argmax()) == source
    assert int(logits[0, source].argmax()) == copy


def test_the_neighbourhood_is_no_match() -> None:
    with torch.inference_mode():
        _, logits = branch()(*maps_with_a_copy(1, 2))
    grid = logits[0, 5 * CELLS + 5].view(CELLS, CELLS)
    near = grid[5 - NEAR_CELLS : 6 + NEAR_CELLS, 5 - NEAR_CELLS : 6 + NEAR_CELLS]
    assert float(near.max()) < -1000
    assert int((grid < -1000).sum()) == near.numel()


def test_the_evidence_says_where_the_match_lies() -> None:
    part = branch()
    torch.nn.init.constant_(part.sharpness, 6.0)  # sharp enough for one match to take all the weight
    with torch.inference_mode():
        fine, middle = maps_with_a_copy(1, 2)
        described = part.describe(torch.cat([torch.nn.functional.avg_pool2d(fine, 2), middle], dim=1))
        descriptors = torch.nn.functional.normalize(described - described.mean((2, 3), keepdim=True), dim=1)
        read = part._read(torch.softmax(part._logits(descriptors.flatten(2)), dim=-1), descriptors)[0]
    offset_y, offset_x, spread, wanted, _, likeness = (read[index, 2, 3] for index in range(6))
    assert torch.allclose(torch.stack([offset_y, offset_x]) * CELLS, torch.tensor([7.0, 6.0]), atol=0.1)
    assert float(spread) < 0.01
    assert float(wanted) > 0.9
    assert float(likeness) > 0.99


def test_gradients_reach_every_weight_from_both_outputs() -> None:
    part = branch().train()
    evidence, logits = part(*maps_with_a_copy(1, 2))
    (evidence.square().sum() + logits.log_softmax(-1)[0, 0, -1]).backward()
    assert all(weight.grad is not None and torch.isfinite(weight.grad).all() for weight in part.parameters())
