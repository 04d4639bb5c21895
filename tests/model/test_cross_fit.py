"""Folds that no scene crosses and that both kinds of picture share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.cross_fit import assign_folds

PICTURES = st.lists(st.tuples(st.sampled_from("abcdefghij"), st.booleans()), min_size=1, max_size=60)


@given(PICTURES)
def test_a_scene_has_one_fold_and_every_complement_both_kinds(pictures: list[tuple[str, bool]]) -> None:
    scenes, tampered = [scene for scene, _ in pictures], np.array([label for _, label in pictures])
    folds = assign_folds(scenes, tampered, 3)
    of_kind = [{scene for scene, label in pictures if label is kind} for kind in (True, False)]
    if folds is None:
        assert min(len(found) for found in of_kind) < 2 or len(of_kind[0] | of_kind[1]) < 4
        return
    assert all(len({fold for name, fold in zip(scenes, folds.tolist(), strict=True) if name == scene}) == 1 for scene in scenes)
    for fold in range(3):
        assert set(tampered[folds != fold].tolist()) == {True, False}


def test_both_kinds_are_dealt_evenly() -> None:
    scenes = [f"t{index // 3}" for index in range(30)] + [f"a{index}" for index in range(40)]
    tampered = np.array([True] * 30 + [False] * 40)

    folds = assign_folds(scenes, tampered)

    assert folds is not None
    assert np.bincount(folds[tampered]).tolist() == [6] * 5
    assert np.bincount(folds[~tampered]).tolist() == [8] * 5


def test_the_order_of_pictures_does_not_matter() -> None:
    scenes, tampered = [f"s{index // 2}" for index in range(24)], np.arange(24) % 3 == 0
    order = np.random.default_rng(2).permutation(24)

    folds, shuffled = assign_folds(scenes, tampered), assign_folds([scenes[i] for i in order], tampered[order])

    assert folds is not None and shuffled is not None
    assert np.array_equal(folds[order], shuffled)


@pytest.mark.parametrize("tampered", [[True, True, False, False], [True, True, True, True]])
def test_nothing_can_be_held_out_of_one_scene_a_kind(tampered: list[bool]) -> None:
    assert assign_folds(["a", "a", "b", "b"], tampered) is None
