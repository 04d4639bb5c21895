"""From people's words in the store, and a base set's rows, to labelled pictures and a manifest."""

from collections.abc import Sequence

import numpy as np
import pytest

from model.manifest import ManifestRow
from model.near_duplicates import fingerprint_of
from scheduler.frozen_manifest import freeze, thaw
from scheduler.holdout import Arrival, Ledger, Placed, packed, placed
from scheduler.label_sources import arrival, base_arrival, from_annotations, from_base
from scheduler.labels import History
from scheduler.selection import select
from schemas.geometry import PixelBox
from schemas.learning_settings import SelectionSettings
from schemas.learning_tables import BoxAnnotation
from schemas.states import AnnotationKind, AnnotationOrigin
from storage import canonical
from storage.annotation_checks import NewAnnotation
from storage.annotation_queries import judged, judged_pictures, newest_annotation
from storage.annotations import add_annotations
from storage.database import Database
from tests.pictures import picture_bytes
from tests.scheduler.made import sha, unlike

ONE, ELSEWHERE = PixelBox.of(10, 10, 30, 30), PixelBox.of(60, 40, 90, 70)
PLACE = Placed(sha("p"), None, unlike(1), "c" * 16, "trains")


def said(annotator: str, *boxes: PixelBox, number: int = 1, source_id: str | None = None) -> BoxAnnotation:
    return BoxAnnotation(
        id=number,
        sha256=sha("p"),
        kind=AnnotationKind.BOXES if boxes else AnnotationKind.AUTHENTIC,
        boxes=[box.model_dump() for box in boxes],
        width_px=96,
        height_px=72,
        annotator=annotator,
        source_id=source_id,
        origin=AnnotationOrigin.PAGE,
    )


@pytest.mark.parametrize(
    ("words", "tampered", "annotators", "disputed", "weight"),
    [
        ([said("ann", ONE)], True, ("ann",), False, 1.0),
        ([said("ann")], False, ("ann",), False, 1.0),
        ([said("ann", ONE), said("ben", ONE)], True, ("ann", "ben"), False, 1.0),
        ([said("ann", ONE), said("ben")], False, ("ben",), True, 1.0),
        ([said("ann", ONE), said("ben", ONE), said("cat")], True, ("ann", "ben"), False, 1.0),
        ([said("ann", ONE), said("ben", ONE), said("cat", ELSEWHERE)], True, ("ann", "ben"), False, 0.5),
        ([said("ann", ELSEWHERE), said("ben"), said("cat")], False, ("ben", "cat"), False, 0.5),
    ],
)
def test_who_stands_behind_a_label(
    words: Sequence[BoxAnnotation], tampered: bool, annotators: tuple[str, ...], disputed: bool, weight: float
) -> None:
    found = from_annotations(judged(sha("p"), words), PLACE, "its bytes are gone")
    assert (found.tampered, found.annotators, found.disputed) == (tampered, annotators, disputed)
    assert disputed or found.weight == weight
    assert found.boxes == ((ONE,) if tampered else ())
    assert (found.cluster, found.side, found.problem) == ("c" * 16, "trains", "its bytes are gone")


def test_the_newest_word_and_its_source_count() -> None:
    found = from_annotations(judged(sha("p"), [said("a", ONE, number=3, source_id="s"), said("b", ONE, number=9)]), PLACE)
    assert (found.last_annotation_id, found.source_id) == (9, "s")


def test_pictures_arrive_with_their_fingerprint_or_resemble_nothing() -> None:
    data = picture_bytes(1)
    word = judged(sha("p"), [said("ann", ONE, source_id="s")])
    assert arrival(word, data) == Arrival(sha("p"), "s", packed(fingerprint_of(data)))
    blank = packed(np.zeros(256, np.float32))
    assert arrival(word, None).fingerprint == arrival(word, b"no picture").fingerprint == blank


def test_a_base_sets_training_side_has_trained_a_student() -> None:
    row = ManifestRow("set", "a.jpg", "m.png", True, "", "scene-1", (ONE,), (), None)
    trained, held = (base_arrival(row, sha("b"), picture_bytes(2), pin) for pin in ("trains", "held_out"))
    assert (trained.source_id, trained.pinned, trained.used) == ("base:scene-1", "trains", True)
    assert (held.pinned, held.used) == ("held_out", False)
    found = from_base(row, sha("b"), PLACE)
    assert (found.base, found.tampered, found.boxes, found.annotators) == (True, True, (ONE,), ())
    assert found.source_id == "base:scene-1"
    untouched = from_base(ManifestRow("set", "a.jpg", None, False, "", "s", (ONE,), (), None), sha("b"), PLACE)
    assert (untouched.tampered, untouched.boxes) == (False, ())


def test_from_the_store_to_a_frozen_manifest(sqlite: Database) -> None:
    """What stood when a run began is frozen to the same bytes, whatever is said afterwards."""
    pictures = {sha(number): picture_bytes(number) for number in range(30)}
    words = [
        NewAnnotation(
            sha256=sha256,
            annotator=("ann", "ben")[number % 2],
            kind=AnnotationKind.BOXES if number < 20 else AnnotationKind.AUTHENTIC,
            origin=AnnotationOrigin.IMPORT,
            boxes=(ONE,) if number < 20 else (),
            width_px=96,
            height_px=72,
            source_id=f"source-{number % 12}",
        )
        for number, sha256 in enumerate(pictures)
    ]
    rules = SelectionSettings(least_new=4, least_tampered=4, least_authentic=2, holdout_share=0.3)

    def frozen(up_to: int) -> bytes:
        with sqlite.read() as session:
            found = list(judged_pictures(session, up_to))
            ledger = placed(Ledger(), [arrival(each, pictures[each.sha256]) for each in found], rules.holdout_share)
            places = ledger.by_sha256()
            labelled = [from_annotations(each, places[each.sha256]) for each in found]
        selection = select(labelled, History(), rules, seed=1)
        assert selection.readiness == "ready", selection.account
        return freeze(
            selection.entries, seed=1, last_annotation_id=up_to, parent_version="student-2", ledger_sha256=sha("ledger")
        )

    with sqlite.write() as session:
        add_annotations(session, words)
    with sqlite.read() as session:
        up_to = newest_annotation(session)
    first = frozen(up_to)
    with sqlite.write() as session:
        add_annotations(session, [NewAnnotation(sha(0), "ben", AnnotationKind.AUTHENTIC, AnnotationOrigin.PAGE)])
    assert frozen(up_to) == first
    manifest = thaw(first, canonical.digest(first))
    held = {entry.source_id for entry in manifest.of_role("holdout")}
    assert held
    assert not held & {entry.source_id for entry in (*manifest.of_role("train"), *manifest.of_role("tune"))}
    with sqlite.read() as session:
        assert {each.sha256 for each in judged_pictures(session)} == set(pictures)
