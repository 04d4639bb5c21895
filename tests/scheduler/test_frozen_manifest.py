"""What is frozen comes back as it was, whatever order it was given in, and a changed byte is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from scheduler.frozen_manifest import ManifestEntry, freeze, freeze_ledger, thaw, thaw_ledger
from scheduler.holdout import Ledger, placed
from schemas.errors import BlobCorrupt, InvalidInput
from schemas.geometry import PixelBox
from storage import canonical
from tests.scheduler.made import arrival, sha, unlike

HEAD: dict[str, Any] = {"seed": 7, "last_annotation_id": 12, "parent_version": "student-2-ab", "ledger_sha256": sha("ledger")}

BOXES = st.tuples(st.integers(0, 500), st.integers(0, 500), st.integers(1, 500), st.integers(1, 500)).map(
    lambda edges: PixelBox.of(edges[0], edges[1], edges[0] + edges[2], edges[1] + edges[3])
)
ENTRIES = st.lists(
    st.builds(
        ManifestEntry,
        sha256=st.integers().map(sha),
        tampered=st.booleans(),
        boxes=st.lists(BOXES, max_size=3).map(tuple),
        weight=st.floats(0, 1),
        origin=st.sampled_from(["new", "refused", "old", "base"]),
        role=st.sampled_from(["train", "tune", "holdout"]),
        annotators=st.lists(st.text(), max_size=3).map(tuple),
        source_id=st.none() | st.text(),
        cluster=st.text(min_size=1),
    ),
    max_size=8,
    unique_by=lambda entry: entry.sha256,
)


def entry(name: str, **changes: Any) -> ManifestEntry:
    values: dict[str, Any] = {"sha256": sha(name), "tampered": False, "origin": "new", "role": "train", "cluster": "c"}
    return ManifestEntry(**(values | changes))


@given(ENTRIES)
def test_round_trip_in_any_order(entries: list[ManifestEntry]) -> None:
    data = freeze(entries, **HEAD)
    back = thaw(data, canonical.digest(data))
    assert sorted(back.entries, key=lambda each: each.sha256) == sorted(entries, key=lambda each: each.sha256)
    assert back.header.model_dump(include=set(HEAD)) == HEAD
    assert freeze(reversed(back.entries), **HEAD) == data
    assert sum(len(back.of_role(role)) for role in ("train", "tune", "holdout")) == len(entries)


@given(st.data())
def test_any_changed_byte_is_refused(data: st.DataObject) -> None:
    frozen = freeze([entry("a"), entry("b", source_id="s")], **HEAD)
    place = data.draw(st.integers(0, len(frozen) - 1))
    flipped = frozen[place] ^ data.draw(st.integers(1, 255))
    with pytest.raises(BlobCorrupt, match="was frozen as"):
        thaw(frozen[:place] + bytes([flipped]) + frozen[place + 1 :], canonical.digest(frozen))


def test_the_bytes_are_ascii_lines_that_people_can_read() -> None:
    frozen = freeze([entry("a", tampered=True, boxes=(PixelBox.of(1, 2, 3, 4),), annotators=("Zoë",))], **HEAD)
    first, second, rest = frozen.decode("ascii").split("\n")
    assert '"kind":"tamperwatch training manifest"' in first
    assert '"boxes":[[1,2,3,4]]' in second
    assert rest == ""


def test_every_field_counts_for_the_hash() -> None:
    frozen = {freeze([entry("a")], **HEAD)}
    frozen |= {
        freeze([entry("a")], **(HEAD | change)) for change in ({"seed": 8}, {"parent_version": "x"}, {"last_annotation_id": 13})
    }
    frozen |= {freeze([entry("a", **change)], **HEAD) for change in ({"role": "tune"}, {"weight": 0.5}, {"cluster": "d"})}
    assert len(frozen) == 7


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "kind|seed"),
        (b"\xff\n", "not JSON Lines"),
        (b"[]\n", "no object"),
        (b'{"kind":"something else"}\n', "kind"),
        (freeze([entry("a")], **HEAD) + b"{}\n", "sha256"),
        (freeze([entry("a")], **HEAD).splitlines(keepends=True)[0], "names 1 pictures and holds 0"),
    ],
)
def test_what_is_no_manifest_is_told(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        thaw(data, canonical.digest(data))


def test_a_picture_is_listed_once_and_numbers_are_finite() -> None:
    with pytest.raises(ValueError, match="twice"):
        freeze([entry("a"), entry("a", role="tune")], **HEAD)
    with pytest.raises(ValidationError):
        entry("a", weight=float("nan"))
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical.encoded([{"weight": float("inf")}])


def test_the_ledger_comes_back_and_a_changed_byte_is_refused() -> None:
    ledger = placed(
        Ledger(), [arrival(n, unlike(n), "s" if n % 2 else None, used=n == 3, pinned="trains") for n in range(5)], 0.5
    )
    frozen = freeze_ledger(ledger)
    assert thaw_ledger(frozen, canonical.digest(frozen)) == ledger
    assert freeze_ledger(Ledger(ledger.placed[::-1])) == frozen
    with pytest.raises(BlobCorrupt):
        thaw_ledger(frozen.replace(b'"trains"', b'"trainz"', 1), canonical.digest(frozen))
    for broken in (b"", frozen.replace(b'"format":1', b'"format":2'), frozen.replace(b'"trains"', b'"trainz"', 1)):
        with pytest.raises(InvalidInput, match="ledger"):
            thaw_ledger(broken, canonical.digest(broken))
