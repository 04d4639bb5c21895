from dataclasses import replace

import numpy as np
import pytest

from model.augment import NO_MATCH, UNKNOWN, Drawn, augmented, matches
from model.config import TrainConfig

MOVE = np.array([[1.0, 0, 0.5], [0, 1.0, 0.25], [0, 0, 1]])  # the source lies half a width right and a quarter down


def drawn(move: np.ndarray | None = MOVE, exact: bool = True) -> Drawn:
    """The copy is the left upper quarter of the picture's left half."""
    picture = np.zeros((80, 160, 3), dtype=np.uint8)
    mask = np.zeros((80, 160), dtype=np.uint8)
    mask[:40, :40] = 255
    picture[:40, :40, 0] = 250
    picture[20:60, 80:120, 1] = 250
    return Drawn(picture, mask, True, exact=exact, move=move)


def test_cells_of_a_copy_name_their_sources() -> None:
    found = matches(drawn(), 8)
    assert (found[:4, :2] >= 0).all()
    assert found[0, 0] == 2 * 8 + 4
    assert found[3, 1] == 5 * 8 + 5
    assert (found[4:] == NO_MATCH).all()
    assert (found[:, 2:] == NO_MATCH).all()


def test_sources_outside_the_picture_are_none() -> None:
    beyond = np.array([[1.0, 0, 0.9], [0, 1.0, 0], [0, 0, 1]])
    found = matches(drawn(beyond), 8)
    assert found[0, 0] == 7
    assert found[0, 1] == NO_MATCH


def test_what_nobody_knows_is_said() -> None:
    assert (matches(drawn(None, exact=False), 4) == UNKNOWN).all()
    assert (matches(drawn(None), 4) == NO_MATCH).all()


@pytest.mark.parametrize("delivery", [True, False])
def test_matches_follow_crop_and_turn(tiny_training: TrainConfig, delivery: bool) -> None:
    """Green is the source, red the copy: wherever a sample turned or cropped them, the cells it names must be green."""
    config = replace(tiny_training, delivery=delivery)
    right = wrong = 0
    for seed in range(40):
        sample = augmented(drawn(), config, np.random.default_rng(seed))
        cells = sample.match.shape[0]
        green = sample.pixels.numpy()[4::8, 4::8, 1].astype(int) - sample.pixels.numpy()[4::8, 4::8, 2]
        for source in sample.match[sample.match >= 0].tolist():
            hit = green[source // cells, source % cells] > 60
            right, wrong = right + hit, wrong + (not hit)
    assert right > 150
    assert wrong < 0.15 * right  # cells on the edge of the source


def test_without_delivery_pictures_keep_their_sharpness(tiny_training: TrainConfig) -> None:
    rng = np.random.default_rng(0)
    checks = np.kron(np.indices((16, 16)).sum(0) % 2 * 200, np.ones((4, 4))).astype(np.uint8)
    picture = np.repeat(checks[..., None], 3, axis=2)
    plain = Drawn(picture, np.zeros(checks.shape, dtype=np.uint8), False)

    def edges(delivery: bool) -> float:
        config = replace(tiny_training, delivery=delivery)
        return float(
            np.mean([np.abs(np.diff(augmented(plain, config, rng).pixels.numpy().astype(int), axis=1)).mean() for _ in range(40)])
        )

    assert edges(True) < 0.97 * edges(False)


@pytest.mark.parametrize(
    ("tampered", "exact", "weight"), [(True, True, 0.25), (True, False, 1.0), (False, True, 1.0), (False, False, 1.0)]
)
def test_only_synthetic_manipulations_count_less_for_the_score(
    tiny_training: TrainConfig, tampered: bool, exact: bool, weight: float
) -> None:
    picture = drawn(None, exact)._replace(tampered=tampered)
    sample = augmented(picture, replace(tiny_training, synthetic_score=0.25), np.random.default_rng(0))
    assert float(sample.score_weight) == weight
