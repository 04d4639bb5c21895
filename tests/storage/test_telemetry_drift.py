import math

import numpy as np
import pytest

from storage.telemetry_drift import CARD_FIELD, RECENT_SCORES, Reference, ScoreDrift, population_stability_index


def uniform(count: int, seed: int = 0) -> list[float]:
    return np.random.default_rng(seed).random(count).tolist()


def test_the_index_by_hand() -> None:
    """Two bins, 30 : 10 expected and 10 : 30 found; half a score is added to each bin."""
    reference = Reference(np.array([0.5]), np.array([30, 10]), "card")
    scores = [0.1] * 10 + [0.9] * 30
    low, high = 10.5 / 41, 30.5 / 41
    assert population_stability_index(reference, scores) == pytest.approx(2 * (high - low) * math.log(high / low))


def test_a_score_on_an_edge_lies_above_it() -> None:
    reference = Reference(np.array([0.5]), np.array([0, 10]), "card")
    assert population_stability_index(reference, [0.5] * 10) == 0


def test_the_same_shares_have_no_drift_whatever_their_number() -> None:
    scores = uniform(1000)
    assert population_stability_index(Reference.of_scores(scores), scores * 3) == pytest.approx(0, abs=1e-5)


def test_without_drift_the_mean_is_what_sampling_makes_it() -> None:
    """Yurdakul: (bins - 1) (1/n + 1/m), 0.018 for ten bins of a thousand and a thousand."""
    found = [
        population_stability_index(Reference.of_scores(uniform(1000, seed)), uniform(1000, 500 + seed)) for seed in range(100)
    ]
    assert np.mean(found) == pytest.approx(9 * (1 / 1000 + 1 / 1000), rel=0.15)
    assert max(found) < 0.1


def test_scores_that_have_moved_are_seen() -> None:
    before = np.random.default_rng(0).beta(2, 5, 1000)
    after = np.random.default_rng(1).beta(4, 3, 1000)
    assert population_stability_index(Reference.of_scores(before), after) > 0.25


def test_an_empty_bin_is_finite_and_equal_scores_make_fewer_bins() -> None:
    reference = Reference.of_scores([0.2] * 900 + [0.8] * 100)
    assert len(reference.counts) < 10
    assert math.isfinite(population_stability_index(reference, [0.8] * 500))
    assert math.isfinite(population_stability_index(Reference.of_scores([0.5]), [0.1]))


def test_a_card_brings_its_own_reference() -> None:
    reference = Reference.of_card({CARD_FIELD: [100, 50, 50, 0]})
    assert reference is not None
    assert reference.edges.tolist() == [0.25, 0.5, 0.75]
    assert reference.source == "card"
    assert population_stability_index(reference, [0.1] * 50 + [0.3] * 25 + [0.6] * 25) == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("field", [None, [], [500], "500", [300, -1], [300, 1.5], [1, 1], {"0": 500}])
def test_a_card_without_a_usable_histogram_brings_none(field: object) -> None:
    assert Reference.of_card({CARD_FIELD: field}) is None


def test_the_first_scores_of_a_version_are_the_reference_of_the_later_ones() -> None:
    drift = ScoreDrift()
    drift.restart({})
    for score in uniform(RECENT_SCORES):
        drift.add(score)
    assert drift.index() is None
    for score in uniform(199, seed=1):
        drift.add(score)
    assert drift.index() is None, "too few to tell"
    drift.add(0.5)
    found = drift.index()
    assert found is not None and found[0] == "first" and found[1] < 0.1
    for score in uniform(RECENT_SCORES, seed=2):
        drift.add(score / 2)
    moved = drift.index()
    assert moved is not None and moved[1] > 0.25


def test_with_a_card_the_first_scores_count_already() -> None:
    drift = ScoreDrift()
    drift.restart({CARD_FIELD: [250] * 4})
    for score in uniform(200):
        drift.add(score)
    found = drift.index()
    assert found is not None and found[0] == "card" and found[1] < 0.1


def test_another_version_starts_anew() -> None:
    drift = ScoreDrift()
    drift.restart({CARD_FIELD: [250] * 4})
    for score in uniform(300):
        drift.add(score)
    drift.restart({CARD_FIELD: [250] * 4})
    assert drift.index() is None


def test_what_is_scraped() -> None:
    drift = ScoreDrift()
    drift.restart({CARD_FIELD: [250] * 4})
    (empty,) = drift.collect()
    assert empty.samples == []
    for _ in range(200):
        drift.add(0.9)
    (family,) = drift.collect()
    (sample,) = family.samples
    assert (sample.name, sample.labels) == ("tamperwatch_score_psi_ratio", {"reference": "card"})
    assert sample.value > 0.25
