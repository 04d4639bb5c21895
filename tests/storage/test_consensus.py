import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.geometry import PixelBox
from storage.consensus import Outcome, agree, area_iou, box_iou

FACE = PixelBox.of(10, 10, 50, 50)
FACE_TOO = PixelBox.of(12, 8, 52, 50)
FACE_LOOSE = PixelBox.of(6, 10, 54, 56)
CAR = PixelBox.of(200, 100, 300, 160)


@st.composite
def boxes(draw: st.DrawFn) -> PixelBox:
    x0, y0 = draw(st.integers(0, 12)), draw(st.integers(0, 12))
    return PixelBox.of(x0, y0, x0 + draw(st.integers(1, 12)), y0 + draw(st.integers(1, 12)))


OPINIONS = st.dictionaries(st.sampled_from("abcde"), st.lists(boxes(), max_size=4), min_size=1)


def test_one_annotator_is_taken_at_their_word() -> None:
    alone = agree({"a": [CAR, FACE]})
    assert (alone.outcome, alone.boxes, alone.contested, alone.agreement) == (Outcome.BOXES, (FACE, CAR), (), None)
    assert agree({"a": []}).outcome is Outcome.AUTHENTIC


def test_boxes_that_match_become_their_median() -> None:
    three = agree({"a": [FACE], "b": [FACE_TOO], "c": [FACE_LOOSE]})
    assert (three.outcome, three.boxes, three.n_annotators) == (Outcome.BOXES, (PixelBox.of(10, 10, 52, 50),), 3)
    two = agree({"a": [PixelBox.of(10, 10, 50, 50)], "b": [PixelBox.of(11, 10, 51, 50)]})
    assert two.boxes == (PixelBox.of(10, 10, 51, 50),)  # 10.5 and 50.5: the half pixels are the box's


def test_a_box_of_a_minority_is_contested() -> None:
    found = agree({"a": [FACE, CAR], "b": [FACE_TOO], "c": [FACE]})
    assert (found.outcome, len(found.boxes), found.contested) == (Outcome.BOXES, 1, (CAR,))
    of_two = agree({"a": [FACE, CAR], "b": [FACE]})  # half is no majority
    assert (of_two.boxes, of_two.contested) == ((FACE,), (CAR,))


def test_those_who_call_it_authentic_have_none_of_the_boxes() -> None:
    two_of_three = agree({"a": [FACE], "b": [FACE], "c": []})
    assert (two_of_three.outcome, two_of_three.boxes) == (Outcome.BOXES, (FACE,))
    two_of_five = agree({"a": [FACE], "b": [FACE], "c": [CAR], "d": [], "e": []})
    assert (two_of_five.outcome, two_of_five.boxes, two_of_five.contested) == (Outcome.DISPUTED, (), (FACE, CAR))


@pytest.mark.parametrize(
    ("opinions", "outcome"),
    [
        ({"a": [FACE], "b": []}, Outcome.DISPUTED),
        ({"a": [FACE], "b": [CAR]}, Outcome.DISPUTED),
        ({"a": [FACE], "b": [], "c": []}, Outcome.AUTHENTIC),
        ({"a": [], "b": []}, Outcome.AUTHENTIC),
    ],
)
def test_majorities_and_ties(opinions: dict[str, list[PixelBox]], outcome: Outcome) -> None:
    assert agree(opinions).outcome is outcome


def test_an_authentic_verdict_still_shows_what_one_person_saw() -> None:
    found = agree({"a": [FACE], "b": [], "c": []})
    assert (found.boxes, found.contested) == ((), (FACE,))


def test_nested_boxes_chain_no_strangers_together() -> None:
    """b matches a and c matches b, but a and c do not match: the best pair is joined, the third is left."""
    a, b, c = PixelBox.of(0, 0, 10, 10), PixelBox.of(3, 0, 13, 10), PixelBox.of(6, 0, 16, 10)
    assert box_iou(a, b) >= 0.5 and box_iou(b, c) >= 0.5 and box_iou(a, c) < 0.5
    found = agree({"a": [a], "b": [b], "c": [c]})
    assert found.boxes == (PixelBox.of(1, 0, 12, 10),)
    assert found.contested == (c,)


def test_agreement_is_the_mean_iou_of_the_areas() -> None:
    half = PixelBox.of(10, 10, 30, 50)
    assert agree({"a": [FACE], "b": [half]}).agreement == pytest.approx(0.5)
    assert agree({"a": [FACE], "b": [FACE], "c": []}).agreement == pytest.approx(1 / 3)
    assert agree({"a": [], "b": []}).agreement == 1.0


def test_no_opinion_is_a_mistake() -> None:
    with pytest.raises(ValueError, match="no opinions"):
        agree({})


@given(OPINIONS, st.randoms(use_true_random=False))
def test_no_order_matters(opinions: dict[str, list[PixelBox]], chance: random.Random) -> None:
    names = list(opinions)
    chance.shuffle(names)
    shuffled = {name: chance.sample(opinions[name], len(opinions[name])) for name in names}
    assert agree(shuffled) == agree(opinions)


@given(st.lists(boxes(), min_size=1, max_size=6))
def test_one_annotators_boxes_are_agreed_whatever_they_are(drawn: list[PixelBox]) -> None:
    found = agree({"a": drawn})
    assert (found.outcome, set(found.boxes), found.contested) == (Outcome.BOXES, set(drawn), ())


@given(st.lists(boxes(), min_size=1, max_size=4), st.integers(2, 4))
def test_people_who_say_the_same_agree_fully(drawn: list[PixelBox], n_people: int) -> None:
    found = agree({str(number): drawn for number in range(n_people)})
    assert (found.outcome, set(found.boxes), found.agreement) == (Outcome.BOXES, set(drawn), 1.0)


@given(OPINIONS)
def test_what_holds_of_every_consensus(opinions: dict[str, list[PixelBox]]) -> None:
    found = agree(opinions)
    assert (found.outcome is Outcome.BOXES) == bool(found.boxes)
    drawn = [box for each in opinions.values() for box in each]
    assert set(found.contested) <= set(drawn)
    # Nothing is agreed where nobody drew.
    assert all(min(box.x0 for box in drawn) <= box.x0 and box.x1 <= max(each.x1 for each in drawn) for box in found.boxes)
    assert found.agreement is None if len(opinions) == 1 else 0 <= (found.agreement or 0) <= 1


@given(st.lists(boxes(), max_size=5), st.lists(boxes(), max_size=5))
def test_area_iou_is_that_of_painted_pixels(first: list[PixelBox], second: list[PixelBox]) -> None:
    painted = [{(x, y) for box in each for x in range(box.x0, box.x1) for y in range(box.y0, box.y1)} for each in (first, second)]
    union = painted[0] | painted[1]
    assert area_iou(first, second) == pytest.approx(len(painted[0] & painted[1]) / len(union) if union else 1.0)
