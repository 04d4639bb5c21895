from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.caps import capped

ITEMS = st.lists(st.sampled_from(["a", "b", "c", None]), max_size=60)


def kept(groups: str, **limits: float) -> dict[str, int]:
    options = {"share": 1.0, "most": 1000, "floor": 0} | limits
    items, _ = capped(list(groups), lambda each: None if each == "." else each, **options)  # type: ignore[arg-type]
    return dict(Counter(items))


@pytest.mark.parametrize(
    ("groups", "limits", "left"),
    [
        ("aaab", {}, {"a": 3, "b": 1}),
        ("aaaabb", {"share": 0.5}, {"a": 2, "b": 2}),
        ("aaaabb....", {"share": 0.5}, {"a": 4, "b": 2, ".": 4}),
        ("aaaa", {"share": 0.5}, {}),
        ("aaaa", {"share": 0.5, "floor": 3}, {"a": 3}),
        ("aaaa", {"share": 0.5, "floor": 3, "most": 2}, {"a": 2}),
        ("aaaa", {"most": 2}, {"a": 2}),
        ("", {"share": 0.5}, {}),
    ],
)
def test_how_many_are_kept(groups: str, limits: dict[str, float], left: dict[str, int]) -> None:
    assert kept(groups, **limits) == left


@given(ITEMS, st.floats(0.1, 1), st.integers(1, 20), st.integers(0, 10))
def test_no_group_exceeds_its_share_and_the_first_are_kept(groups: list[str | None], share: float, most: int, floor: int) -> None:
    items = list(enumerate(groups))
    stay, out = capped(items, lambda item: item[1], share=share, most=most, floor=floor)
    assert sorted(stay + out) == items
    assert stay == sorted(stay)
    sizes = Counter(group for _, group in stay if group is not None)
    assert all(size <= most and (size <= floor or size <= share * len(stay)) for size in sizes.values())
    for group in {group for _, group in out}:
        assert group is not None
        mine = [number for number, of in stay if of == group]
        assert all(number > last for last in mine[-1:] for number, of in out if of == group)
