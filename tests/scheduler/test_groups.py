import pytest

from scheduler.groups import worst_group
from scheduler.scores import PictureScores
from tests.scheduler.made import scored


def pairs(spec: str, **facts: object) -> list[tuple[PictureScores, PictureScores]]:
    """Pairs of (candidate, live) F1 written as "30>40" for live .30, candidate .40."""
    out = []
    for number, text in enumerate(spec.split()):
        live, candidate = (int(part) / 100 for part in text.split(">"))
        name = f"{sorted(facts.items())}{number}"
        out.append((scored(name, f1=candidate, **facts), scored(name, f1=live, **facts)))
    return out


def f1(picture: PictureScores) -> float:
    return picture.f1["none"]


def test_the_group_that_lost_most_is_named() -> None:
    good, bad = pairs("30>50 30>50", source_id="good"), pairs("40>30 40>20", source_id="bad", annotators=("ann",))
    found = worst_group(good + bad, f1, 1, 2)
    assert found is not None
    assert (found.name, found.n) == ("annotator ann", 2)
    assert (found.candidate, found.live, found.difference) == pytest.approx((0.25, 0.4, -0.15))


def test_where_lower_is_better_the_worst_rose_most() -> None:
    found = worst_group(pairs("30>50 30>50", source_id="a") + pairs("40>30 40>20", source_id="b"), f1, -1, 2)
    assert found is not None
    assert found.name == "source a"


def test_small_groups_are_pooled_and_a_picture_counts_once_there() -> None:
    few = pairs("40>20", source_id="x") + pairs("40>30 40>30", source_id="y", annotators=("ann", "ben"))
    found = worst_group(few + pairs("30>50 30>50 30>50", source_id="big"), f1, 1, 3)
    assert found is not None
    assert (found.name, found.n) == ("all small sources", 3)
    only = worst_group(pairs("40>30 40>30", annotators=("ann", "ben")), f1, 1, 3)
    assert only is None


def test_no_group_is_large_enough() -> None:
    assert worst_group(pairs("40>20 40>20", source_id="x"), f1, 1, 3) is None
    assert worst_group(pairs("40>20 40>20"), f1, 1, 1) is None
    assert worst_group([], f1, 1, 1) is None
