"""Nobody trains and is measured, whatever arrives in whatever order."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.near_duplicates import THRESHOLD
from scheduler.holdout import Arrival, Ledger, Pin, Placed, drawn, packed, placed
from tests.scheduler.made import arrival, looks, sha, unlike

HALF = 0.5


def source_drawn(held_out: bool, avoid: Sequence[str] = ()) -> str:
    """The first source id that the draw puts on a side."""
    names = (f"s{number}" for number in itertools.count())
    return next(name for name in names if drawn(f"source:{name}", HALF) is held_out and name not in avoid)


HELD, TRAINING = source_drawn(True), source_drawn(False)
HELD_2, TRAINING_2 = source_drawn(True, [HELD]), source_drawn(False, [TRAINING])


def sides(ledger: Ledger) -> dict[str, str]:
    return {each.sha256: each.side for each in ledger.placed}


def test_the_source_decides_for_all_its_pictures() -> None:
    ledger = placed(Ledger(), [arrival(n, unlike(n), HELD if n < 3 else TRAINING) for n in range(6)], HALF)
    found = sides(ledger)
    assert [found[sha(n)] for n in range(6)] == ["held_out"] * 3 + ["trains"] * 3
    assert len({each.cluster for each in ledger.placed}) == 2


def test_without_a_source_the_cluster_decides_and_a_chain_is_one_cluster() -> None:
    ledger = placed(Ledger(), [arrival(n, looks(15 * n)) for n in range(5)] + [arrival("far", looks(180))], HALF)
    by_sha256 = ledger.by_sha256()
    chain = {by_sha256[sha(n)].cluster for n in range(5)}
    assert len(chain) == 1
    assert by_sha256[sha("far")].cluster not in chain
    founder = min(sha(n) for n in range(5))
    assert (by_sha256[founder].side == "held_out") is drawn(f"picture:{founder}", HALF)


def test_about_the_stated_share_is_held_out_and_salt_draws_anew() -> None:
    names = [f"picture-{number}" for number in range(2000)]
    plain, salted = ([drawn(name, 0.2, salt) for name in names] for salt in ("", "secret"))
    assert 340 < sum(plain) < 460
    assert plain != salted
    assert all(drawn(name, 0.3) for name in names if drawn(name, 0.2)), "a larger share keeps what a smaller one held out"


def test_a_flat_or_unreadable_picture_resembles_nothing() -> None:
    blank = packed(np.zeros(256, np.float32))
    assert len({each.cluster for each in placed(Ledger(), [arrival(n, blank) for n in range(3)], HALF).placed}) == 3


def test_a_picture_joins_the_cluster_it_resembles_and_the_first_word_stands() -> None:
    first = placed(Ledger(), [arrival("a", looks(0), HELD)], HALF)
    ledger = placed(first, [arrival("b", looks(10), TRAINING), arrival("a", looks(90), TRAINING)], HALF)
    a, b = ledger.by_sha256()[sha("a")], ledger.by_sha256()[sha("b")]
    assert (a.source_id, a.side) == (HELD, "held_out")
    assert (b.cluster, b.side) == (a.cluster, "held_out")
    assert ledger.removed == ()


def test_a_link_holds_the_joined_cluster_out_and_tells_what_stops_training() -> None:
    # held 0 .. link 15 .. next 30 (trained) .. end 45 (not trained, but a near-duplicate of the trained one)
    parts = [arrival("held", looks(0), HELD), arrival("next", looks(30), TRAINING), arrival("end", looks(45), TRAINING)]
    parts.append(arrival("apart", unlike(1), TRAINING_2))
    before = placed(Ledger(), parts, HALF).marked_used([sha("next")])
    after = placed(before, [arrival("link", looks(15))], HALF)
    found = after.by_sha256()
    assert {name: found[sha(name)].side for name in ("held", "link", "next", "end", "apart")} == {
        "held": "held_out",
        "link": "set_aside",
        "next": "set_aside",
        "end": "set_aside",
        "apart": "trains",
    }
    assert len({found[sha(name)].cluster for name in ("held", "link", "next", "end")}) == 1
    assert found[sha("held")].cluster == before.by_sha256()[sha("held")].cluster
    assert {(each.sha256, each.used) for each in after.removed} == {(sha("next"), True), (sha("end"), False)}


def test_what_never_trained_is_measured_after_a_link() -> None:
    before = placed(Ledger(), [arrival("held", looks(0), HELD), arrival("other", looks(30), TRAINING)], HALF)
    after = placed(before, [arrival("link", looks(15))], HALF)
    assert set(sides(after).values()) == {"held_out"}
    assert [(each.sha256, each.used) for each in after.removed] == [(sha("other"), False)]


def test_a_link_of_two_training_clusters_trains() -> None:
    before = placed(Ledger(), [arrival("a", looks(0), TRAINING), arrival("b", looks(30), TRAINING_2)], HALF)
    after = placed(before, [arrival("link", looks(15))], HALF)
    assert set(sides(after).values()) == {"trains"}
    assert len({each.cluster for each in after.placed}) == 1


def test_the_base_set_keeps_its_sides_and_what_trained_is_never_measured() -> None:
    base = [arrival("b1", looks(0), pinned="trains", used=True), arrival("b2", looks(90), HELD, pinned="trains", used=True)]
    base.append(arrival("b3", looks(180), TRAINING, pinned="held_out"))
    ledger = placed(Ledger(), base, HALF)
    assert [sides(ledger)[sha(name)] for name in ("b1", "b2", "b3")] == ["trains", "trains", "held_out"]
    later = placed(ledger, [arrival("n", looks(5), HELD_2)], HALF)
    assert sides(later)[sha("n")] == "trains", "a near-duplicate of a training picture of the base set"


def test_a_base_set_that_comes_later_sets_its_relatives_aside() -> None:
    ledger = placed(Ledger(), [arrival("held", looks(0), HELD), arrival("more", looks(30), HELD)], HALF)
    later = placed(ledger, [arrival("base", looks(10), pinned="trains", used=True)], HALF)
    assert {name: sides(later)[sha(name)] for name in ("held", "more", "base")} == {
        "held": "set_aside",
        "more": "held_out",
        "base": "set_aside",
    }


def test_a_held_out_picture_that_turns_out_to_have_trained_is_set_aside() -> None:
    ledger = placed(Ledger(), [arrival("a", looks(0), HELD), arrival("b", looks(9), HELD), arrival("c", looks(30), HELD)], HALF)
    later = placed(ledger, [arrival("a", looks(0), HELD, used=True)], HALF)
    # One source: all are direct relatives of it.
    assert set(sides(later).values()) == {"set_aside"}
    assert later.by_sha256()[sha("a")].used


def test_only_what_trains_can_be_marked_used() -> None:
    ledger = placed(Ledger(), [arrival("a", looks(0), HELD), arrival("b", looks(90), TRAINING)], HALF)
    assert ledger.marked_used([sha("b")]).by_sha256()[sha("b")].used
    for wrong in ("a", "unknown"):
        with pytest.raises(ValueError, match="may not train"):
            ledger.marked_used([sha(wrong)])


def test_nothing_new_changes_nothing() -> None:
    ledger = placed(Ledger(), [arrival("a", looks(0), HELD)], HALF)
    assert placed(ledger, [arrival("a", looks(0))], HALF) == ledger
    assert placed(Ledger(), [], HALF) == Ledger()


NEWCOMER = st.tuples(
    st.integers(0, 40).map(lambda step: 9 * step),
    st.sampled_from([None, None, "s0", "s1", "s2", "s3"]),
    st.sampled_from([None, None, None, "trains", "held_out"]),
)
NIGHTS = st.lists(st.tuples(st.lists(NEWCOMER, min_size=1, max_size=6), st.integers(0, 2**16)), min_size=1, max_size=6)


def batch(night: int, newcomers: Sequence[tuple[int, str | None, Pin | None]]) -> list[Arrival]:
    return [
        arrival((night, number), looks(degrees), source, pinned=pinned, used=pinned == "trains")
        for number, (degrees, source, pinned) in enumerate(newcomers)
    ]


def direct_relatives(one: Placed, other: Placed) -> bool:
    if one.source_id is not None and one.source_id == other.source_id:
        return True
    a, b = (np.frombuffer(each.fingerprint, np.int8).astype(np.float64) for each in (one, other))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) >= THRESHOLD


@settings(max_examples=150)
@given(NIGHTS)
def test_growth_never_lets_a_picture_train_and_be_measured(
    nights: list[tuple[list[tuple[int, str | None, Pin | None]], int]],
) -> None:
    ledger, trained, measured, barred = Ledger(), set[str](), set[str](), set[str]()
    for night, (newcomers, chosen) in enumerate(nights):
        arrivals = batch(night, newcomers)
        before = ledger
        ledger = placed(before, arrivals, HALF)
        assert placed(before, arrivals[::-1], HALF) == ledger, "the order of rows matters"
        assert barred <= {sha256 for sha256, side in sides(ledger).items() if side != "trains"}, "held out, now trains"
        stopped = {s for s, side in sides(before).items() if side == "trains" and sides(ledger)[s] != "trains"}
        assert {each.sha256 for each in ledger.removed} == stopped
        may_train = [each.sha256 for each in ledger.placed if each.side == "trains"]
        ledger = ledger.marked_used([s for number, s in enumerate(may_train) if chosen >> (number % 16) & 1])
        trained |= {each.sha256 for each in ledger.placed if each.used}
        measured |= {each.sha256 for each in ledger.placed if each.side == "held_out"}
        barred |= {each.sha256 for each in ledger.placed if each.side != "trains"}
        assert not trained & measured
        used = [each for each in ledger.placed if each.used]
        held = [each for each in ledger.placed if each.side == "held_out"]
        assert not any(direct_relatives(one, other) for one in held for other in used)
        for one, other in itertools.combinations(ledger.placed, 2):
            assert one.cluster == other.cluster or not direct_relatives(one, other)


@given(NIGHTS)
def test_one_night_or_many_hold_out_by_the_same_rule_when_nothing_links(
    nights: list[tuple[list[tuple[int, str | None, Pin | None]], int]],
) -> None:
    """Pictures that resemble none and share no source are drawn alone, so it does not matter when they come."""
    names = [(night, number) for night, (newcomers, _) in enumerate(nights) for number in range(len(newcomers))]
    arrivals = [arrival(name, unlike(index)) for index, name in enumerate(names)]
    at_once = placed(Ledger(), arrivals, HALF)
    one_by_one = Ledger()
    for each in arrivals:
        one_by_one = placed(one_by_one, [each], HALF)
    assert one_by_one == at_once
