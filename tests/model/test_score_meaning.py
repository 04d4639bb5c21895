"""What a score meant in validation, from new cards and from older ones."""

import pytest

from model.card import Card, builtin_directory
from model.score_meaning import RELIABILITY, Meaning, meaning, reliability_table


def test_a_table_counts_every_picture_once() -> None:
    table = reliability_table([(0.0, False), (0.05, True), (0.999, True), (1.0, True), (0.3, False)])
    assert sum(each["pictures"] for each in table) == 5
    assert (table[0]["pictures"], table[0]["manipulated"]) == (2, 1)
    assert (table[9]["pictures"], table[9]["manipulated"], table[9]["to"]) == (2, 2, 1.0)


def test_a_score_is_read_from_pictures_that_scored_alike() -> None:
    outcomes = [(0.95, True)] * 93 + [(0.95, False)] * 7 + [(0.15, False)] * 50
    metrics = {RELIABILITY: reliability_table(outcomes)}
    found = meaning(metrics, 0.97, "flag")
    assert found == Meaning(100, 93, 0.9, 1.0) and found.in_100 == 93


def test_where_few_scored_alike_the_neighbours_are_taken_in() -> None:
    metrics = {RELIABILITY: reliability_table([(0.95, True)] * 2 + [(0.85, True)] * 10 + [(0.75, False)] * 15)}
    found = meaning(metrics, 0.97, "flag")
    assert found is not None and (found.pictures, found.manipulated, found.low) == (27, 12, 0.7)


def test_older_cards_tell_it_by_verdict() -> None:
    overall = {"n_tampered": 186, "n_authentic": 215, "tampered_flag_rate": 49 / 186, "tampered_review_rate": 23 / 186,
               "fa_rate": 1 / 215, "review_rate": 9 / 215}  # fmt: skip
    read = {verdict: meaning({"overall": overall}, 0.5, verdict) for verdict in ("flag", "review", "pass")}
    assert read == {"flag": Meaning(50, 49), "review": Meaning(32, 23), "pass": Meaning(319, 114)}


@pytest.mark.parametrize("metrics", [{}, {"overall": {"n_tampered": 3, "n_authentic": 0}}, {RELIABILITY: reliability_table([])}])
def test_a_card_without_figures_tells_nothing(metrics: dict[str, object]) -> None:
    assert meaning(metrics, 0.9, "flag") is None


def test_the_shipped_card_tells_something_of_every_verdict() -> None:
    metrics = Card.load(builtin_directory()).metrics
    assert all(meaning(metrics, score, verdict) for score, verdict in ((0.95, "flag"), (0.85, "review"), (0.1, "pass")))
