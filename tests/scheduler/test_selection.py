"""What a night learns from: by order of hashes, under caps, and nothing that is held out or disputed."""

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduler.labels import History, LabelledPicture
from scheduler.selection import Selection, select
from schemas.learning_settings import PromotionSettings, SelectionSettings
from tests.scheduler.made import labelled, sha

HISTORY = History(finished=100, learned=50)
SMALL: dict[str, Any] = {
    "least_new": 4, "least_tampered": 4, "least_authentic": 2, "replay_least": 4, "replay_ratio": 1.0, "cap_floor": 5
}  # fmt: skip


def settings(**changes: Any) -> SelectionSettings:
    return SelectionSettings(**(SMALL | changes))


def pool(count: int, prefix: str = "p", **changes: Any) -> list[LabelledPicture]:
    """Boxed by two people each, so that no cap applies."""
    return [labelled(f"{prefix}{n}", **({"annotators": ("ann", "ben")} | changes)) for n in range(count)]


def night(**changes: Any) -> Selection:
    return select([*pool(12), *pool(8, "a", tampered=False)], HISTORY, settings(**changes), seed=1)


def count(selection: Selection, **wanted: Any) -> int:
    return sum(all(getattr(entry, name) == value for name, value in wanted.items()) for entry in selection.entries)


def test_a_plain_night() -> None:
    found = night()
    assert found.readiness == "ready"
    assert count(found, role="train") + count(found, role="tune") == 20
    assert count(found, role="tune", tampered=True) >= 1
    assert count(found, role="tune", tampered=False) >= 1
    assert sum(found.taken.values()) == len(found.entries)
    assert found.why.startswith("20 new pictures; ")
    assert found.left_out == {}
    assert found.account == f"{found.why}."


def test_the_order_of_rows_does_not_matter_and_the_seed_does() -> None:
    rows = [*pool(12), *pool(8, "a", tampered=False), *pool(40, "old", last_annotation_id=1)]
    chosen = select(rows, HISTORY, settings(replay_least=5), 1)
    for seed in range(3):
        assert select(random.Random(seed).sample(rows, len(rows)), HISTORY, settings(replay_least=5), 1) == chosen
    assert select(rows, HISTORY, settings(replay_least=5), 2).entries != chosen.entries


def test_unusable_pictures_are_counted_by_reason() -> None:
    bad = [
        labelled("gone", problem="bytes are gone from the blob store"),
        labelled("fight", disputed=True),
        labelled("fight2", disputed=True, side="held_out"),
        labelled("boxless", boxes=()),
        labelled("aside", side="set_aside"),
    ]
    found = select([*pool(12), *pool(8, "a", tampered=False), *bad], HISTORY, settings(), 1)
    assert found.left_out == {
        "annotators contradict each other": 2,
        "bytes are gone from the blob store": 1,
        "called manipulated, but without a box": 1,
        "related to both held-out and trained pictures": 1,
    }
    assert not {entry.sha256 for entry in found.entries} & {each.sha256 for each in bad}
    assert "2 annotators contradict each other" in found.account


def test_held_out_pictures_are_measured_whatever_the_seed_and_never_train() -> None:
    held = [*pool(9, "h", side="held_out"), *pool(5, "ha", tampered=False, side="held_out", last_annotation_id=3)]
    rows = [*pool(12), *pool(8, "a", tampered=False), *held]
    for seed in (1, 2):
        found = select(rows, HISTORY, settings(holdout_most=10), seed)
        measured = {entry.sha256 for entry in found.entries if entry.role == "holdout"}
        assert measured == {e.sha256 for e in select(rows, HISTORY, settings(holdout_most=10), 3).entries if e.role == "holdout"}
        assert len(measured) == 10
        assert measured <= {each.sha256 for each in held}
        assert not {entry.sha256 for entry in found.entries if entry.role != "holdout"} & {each.sha256 for each in held}
    assert found.left_out["held out, more than are measured in a run"] == 4


@pytest.mark.parametrize(
    ("rows", "readiness", "said"),
    [
        ([], "nothing_new", "0 newly annotated pictures"),
        (pool(3), "nothing_new", "3 newly annotated pictures to train on since the last run; it takes 4"),
        (pool(20, last_annotation_id=100), "nothing_new", "0 newly"),
        (pool(20, side="held_out"), "nothing_new", "0 newly"),
        (pool(20), "too_few", "0 authentic training pictures; it takes 2: mark pictures as authentic"),
        ([*pool(3), *pool(9, "a", tampered=False)], "too_few", "manipulated training pictures; it takes 4: draw boxes"),
        ([*pool(9, cluster="one"), *pool(9, "a", tampered=False)], "too_few", "no manipulated picture is left to tune on"),
    ],
)
def test_when_no_run_starts(rows: list[LabelledPicture], readiness: str, said: str) -> None:
    found = select(rows, HISTORY, settings(), 1)
    assert found.readiness == readiness
    assert said in found.why


def test_a_run_whose_candidate_could_not_be_judged_does_not_start() -> None:
    rows = [*pool(12), *pool(8, "a", tampered=False), *pool(6, "h", side="held_out")]
    rows += pool(3, "ha", tampered=False, side="held_out")
    rules = PromotionSettings(least_tampered=6, least_authentic=4, least_clusters=3)
    found = select(rows, HISTORY, settings(), 1, rules)
    assert found.readiness == "too_few"
    assert found.why == ("3 authentic pictures from 3 sources or clusters are held out; it takes 4 from 3 to judge a candidate")
    assert select(rows, HISTORY, settings(), 1, rules.model_copy(update={"least_authentic": 3})).readiness == "ready"


def test_replay_is_limited_and_refused_nights_get_half_of_it() -> None:
    rows = [
        *pool(12),
        *pool(8, "a", tampered=False),
        *pool(100, "refused", last_annotation_id=60),
        *pool(100, "old", last_annotation_id=50),
    ]
    found = select(rows, HISTORY, settings(replay_ratio=2.0), 1)
    assert count(found, origin="new") == 20
    assert (count(found, origin="refused"), count(found, origin="old")) == (20, 20)
    assert found.left_out["from refused runs, not drawn this time"] == 80
    few_old = select([each for each in rows if each.sha256 not in {sha(f"old{n}") for n in range(95)}], HISTORY, settings(), 1)
    assert (count(few_old, origin="refused"), count(few_old, origin="old")) == (15, 5)
    no_refused = select(rows, History(finished=100, learned=100), settings(replay_ratio=2.0), 1)
    assert count(no_refused, origin="old") == 40


def test_one_annotator_cannot_take_the_night() -> None:
    rows = [*pool(10), *pool(8, "a", tampered=False), *pool(90, "mallory", annotators=("mallory",))]
    found = select(rows, HISTORY, settings(annotator_share=0.4, class_share=1.0), 1)
    mine = sum(entry.annotators == ("mallory",) for entry in found.entries)
    assert mine == 12
    assert mine <= 0.4 * len(found.entries)
    assert found.left_out["over the limit of one annotator"] == 78


def test_old_boxes_of_one_annotator_count_with_the_new_ones_which_come_first() -> None:
    rows = [*pool(10), *pool(8, "a", tampered=False), *pool(10, "m", annotators=("mallory",))]
    rows += pool(30, "mo", annotators=("mallory",), last_annotation_id=2)
    found = select(rows, HISTORY, settings(annotator_share=0.4, class_share=1.0, replay_ratio=9), 1)
    assert Counter(entry.origin for entry in found.entries if entry.annotators == ("mallory",)) == {"new": 10, "old": 2}


def test_one_source_cannot_either_and_the_base_set_is_nobodys() -> None:
    rows = [*pool(10), *pool(20, "a", tampered=False), *pool(40, "s", source_id="camp")]
    rows += [*pool(30, "base", base=True, source_id="camp", annotators=(), tampered=False)]
    found = select(rows, HISTORY, settings(source_most=7, class_share=1.0), 1)
    assert count(found, source_id="camp", origin="new") == 7
    assert count(found, source_id="camp", origin="base") == 30
    assert found.left_out == {"over the limit of one source": 33}


def test_caps_hold_for_what_is_measured() -> None:
    rows = [*pool(12), *pool(8, "a", tampered=False), *pool(50, "m", side="held_out", annotators=("mallory",))]
    rows += pool(10, "h", side="held_out")
    found = select(rows, HISTORY, settings(), 1)
    assert sum(entry.annotators == ("mallory",) for entry in found.entries if entry.role == "holdout") == 10
    assert found.left_out == {"held out, over the limit of one annotator": 40}


def test_a_lone_moderator_may_be_trusted_by_a_setting() -> None:
    rows = pool(60, annotators=("ann",)) + pool(30, "a", tampered=False, annotators=("ann",))
    assert len(select(rows, HISTORY, settings(), 1).entries) == 5
    assert len(select(rows, HISTORY, settings(annotator_share=1.0), 1).entries) == 90


def test_the_larger_class_shrinks_from_its_end() -> None:
    rows = [*pool(5), *pool(10, "a", tampered=False), *pool(30, "base", base=True, annotators=(), tampered=False)]
    found = select(rows, HISTORY, settings(class_share=0.75), 1)
    assert count(found, tampered=False, origin="new") == 10
    assert count(found, tampered=False, origin="base") == 5
    assert found.left_out["more authentic pictures than fit the balance"] == 25


def test_people_overrule_the_base_set() -> None:
    base = labelled("p0", tampered=False, base=True, annotators=(), last_annotation_id=0)
    for rows in ([*pool(12), base], [base, *pool(12)]):
        found = select([*rows, *pool(8, "a", tampered=False)], HISTORY, settings(), 1)
        assert [entry.tampered for entry in found.entries if entry.sha256 == sha("p0")] == [True]


def test_a_cluster_is_never_torn_between_training_and_tuning() -> None:
    rows = [labelled(n, annotators=("a", "b"), cluster=f"c{n // 5}", tampered=n % 3 > 0) for n in range(100)]
    found = select(rows, HISTORY, settings(tuning_share=0.2), 1)
    roles: dict[str, set[str]] = {}
    for entry in found.entries:
        roles.setdefault(entry.cluster, set()).add(entry.role)
    assert all(len(each) == 1 for each in roles.values())
    assert 20 <= count(found, role="tune") <= 40


PICTURES = st.lists(
    st.builds(
        labelled,
        st.integers(0, 40),
        tampered=st.booleans(),
        annotators=st.sampled_from([(), ("ann",), ("ben",), ("ann", "ben")]),
        last_annotation_id=st.sampled_from([10, 60, 200]),
        source_id=st.sampled_from([None, "s", "t"]),
        cluster=st.sampled_from("abcdefgh"),
        side=st.sampled_from(["trains", "held_out", "set_aside"]),
        disputed=st.booleans(),
        base=st.booleans(),
    ),
    max_size=60,
)


@given(PICTURES, st.integers(0, 3))
def test_whatever_comes_every_picture_is_taken_once_or_accounted_for(pictures: list[LabelledPicture], seed: int) -> None:
    found = select(pictures, HISTORY, settings(), seed)
    taken = [entry.sha256 for entry in found.entries]
    assert len(taken) == len(set(taken))
    assert len(taken) + sum(found.left_out.values()) == len({each.sha256 for each in pictures})
    known = {(each.sha256, each.side, each.disputed, each.base) for each in pictures}
    for entry in found.entries:
        side = "held_out" if entry.role == "holdout" else "trains"
        assert (entry.sha256, side, False, entry.origin == "base") in known
