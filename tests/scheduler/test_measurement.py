"""Figures of single pictures, from a student that sees red and from the one that ships."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from numpy.typing import NDArray

from model.card import CARD_NAME, Calibration, Card, FileRecord, builtin_directory
from model.config import StudentConfig
from model.predictor import Predictor
from scheduler import measurement as room
from scheduler.frozen_manifest import ManifestEntry
from scheduler.hold_out_files import HoldOut, TruthMask, laid_out
from scheduler.measurement import ROUNDS, compared, measured, paces_ms
from scheduler.promotion import decide
from schemas.geometry import PixelBox
from schemas.learning_settings import PromotionSettings
from tests.drawings import draw, draw_mask
from tests.pictures import picture_bytes
from tests.scheduler.made import sha

LEFT, RIGHT = PixelBox.of(0, 0, 64, 96), PixelBox.of(64, 0, 128, 96)
VARIANTS = {"none", "facebook", "weibo", "wechat", "whatsapp"}


class SeesRed:
    """Probability = redness, in cells of 2 x 2 network pixels; the score logit is +4 or -4."""

    name = "red"

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.calls += 1
        redness = (pictures[..., 0].astype(np.float32) - pictures[..., 1]) / 255
        prob = redness.reshape(len(pictures), 32, 2, 32, 2).mean(axis=(2, 4)).clip(0, 1)
        return prob, np.where((prob > 0.5).any(axis=(1, 2)), 4, -4).astype(np.float32)


@pytest.fixture
def red() -> Predictor:
    judge = Calibration(
        temperature=1, bias=0, review_threshold=0.3, flag_threshold=0.9, review_false_alarm_rate=0.05, flag_false_alarm_rate=0.01
    )
    weights = FileRecord(name="student.bin", sha256=sha("weights"), bytes=123)
    parity = {"parity_with_torch": {"prob": 2e-4, "score_probability": 5e-5}}
    card = Card(
        name="red",
        version="red-1",
        created="2020-01-01T00:00:00+00:00",
        student=StudentConfig(input_size=64),
        files={"openvino_bin": weights},
        calibration=judge,
        training=parity,
        licence="test",
    )
    return Predictor(card, SeesRed())


def entry(name: str, *boxes: PixelBox) -> ManifestEntry:
    return ManifestEntry(
        sha256=sha(name),
        tampered=bool(boxes),
        boxes=boxes,
        origin="new",
        role="holdout",
        cluster=f"c-{name}",
        annotators=("ann",),
        source_id="camp",
    )


def hold_out(folder: Path, *entries: ManifestEntry, broken: str = "") -> HoldOut:
    """Pictures with a red left half; true masks are their boxes; authentic ones are grey."""
    red, grey = draw(folder / "red.png", box=LEFT.as_tuple()), draw(folder / "grey.png")

    def read(wanted: ManifestEntry) -> bytes:
        return b"no picture" if wanted.sha256 == sha(broken) else (red if wanted.tampered else grey).read_bytes()

    def mask(wanted: ManifestEntry) -> TruthMask:
        return TruthMask(draw_mask(folder / "mask.png", box=wanted.boxes[0].as_tuple()).read_bytes(), "teacher")

    return laid_out(entries, folder / "files", read, mask)


def test_what_is_noted_of_each_picture(tmp_path: Path, red: Predictor) -> None:
    entries = [entry("seen", LEFT, RIGHT), entry("missed", RIGHT), entry("clean")]
    found = measured(red, hold_out(tmp_path, *entries))
    seen, missed, clean = found.pictures
    assert [each.sha256 for each in found.pictures] == [each.sha256 for each in entries]
    assert set(seen.f1) == set(seen.alarm_area) == set(clean.alarm_area) == VARIANTS
    assert seen.f1["none"] == pytest.approx(1.0, abs=0.03)
    assert (seen.inside, seen.found) == (1.0, 0.5)
    assert missed.f1["none"] == pytest.approx(0.0, abs=0.05)
    assert (missed.inside, missed.found) == (pytest.approx(0.0, abs=0.03), 0.0)
    assert (clean.f1, clean.inside, clean.found, clean.truth) == ({}, None, None, None)
    assert clean.alarm_area["none"] == 0.0
    assert seen.alarm_area["none"] == pytest.approx(0.5, abs=0.02)
    assert [each.verdict for each in found.pictures] == ["flag", "flag", "pass"]
    assert (seen.cluster, seen.source_id, seen.annotators, seen.truth) == ("c-seen", "camp", ("ann",), "teacher")
    assert (found.version, found.weights_sha256, found.weights_bytes, found.parity) == ("red-1", sha("weights"), 123, 2e-4)


def test_pictures_that_cannot_be_measured_are_named(tmp_path: Path, red: Predictor) -> None:
    found = measured(red, hold_out(tmp_path, entry("good", LEFT), entry("bad", LEFT), broken="bad"))
    assert [each.sha256 for each in found.pictures] == [sha("good")]
    assert set(found.failures) == {sha("bad")}
    nothing = measured(red, HoldOut((), {sha("x"): "gone"}))
    assert (nothing.pictures, nothing.failures) == ((), {sha("x"): "gone"})


def test_a_card_that_states_no_parity_has_none(tmp_path: Path, red: Predictor) -> None:
    silent = Predictor(red.card.model_copy(update={"training": {}}), red.engine)
    assert measured(silent, hold_out(tmp_path, entry("a", LEFT))).parity is None


def test_time_is_taken_in_turns(tmp_path: Path, red: Predictor) -> None:
    other = Predictor(red.card, SeesRed())
    times = paces_ms([red, other], [draw(tmp_path / "a.png")] * 3)
    assert len(times) == 2
    assert min(times) > 0
    assert isinstance(red.engine, SeesRed)
    assert isinstance(other.engine, SeesRed)
    assert red.engine.calls == other.engine.calls == ROUNDS + 1
    assert min(paces_ms([red], [])) > 0


def test_a_machine_that_is_busy_for_most_rounds_slows_nobody(
    tmp_path: Path, red: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second student takes ten times as long in all rounds but one."""
    readings = iter([second for number in range(2 * (ROUNDS + 1)) for second in (0, 10 if number % 2 and number != 5 else 1)])
    monkeypatch.setattr(room, "time", SimpleNamespace(perf_counter=lambda: next(readings)))
    assert paces_ms([red, red], [draw(tmp_path / "a.png")]) == [1000, 1000]


@pytest.mark.slow
def test_the_student_that_ships_against_its_twin_on_openvino(tmp_path: Path) -> None:
    """The whole way: two folders, real inference, all profiles; the twin is refused because it is the same."""
    twin = shutil.copytree(builtin_directory(), tmp_path / "twin")
    card = json.loads((twin / CARD_NAME).read_text(encoding="utf-8"))
    (twin / CARD_NAME).write_text(json.dumps(card | {"version": "twin-1"}), encoding="utf-8")
    names = [f"p{number}" for number in range(6)]
    pictures = {sha(name): picture_bytes(number, 400, 300) for number, name in enumerate(names)}
    entries = [entry(name, PixelBox.of(20, 10, 60, 50)) if number % 2 else entry(name) for number, name in enumerate(names)]
    mask = TruthMask(draw_mask(tmp_path / "m.png", (400, 300), (20, 10, 60, 50)).read_bytes(), "mask")
    files = laid_out(entries, tmp_path / "files", lambda each: pictures[each.sha256], lambda _: mask)
    seen: list[tuple[int, int]] = []

    ours, theirs = compared(twin, builtin_directory(), files, threads=1, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(done, 12) for done in range(1, 13)]
    assert ours.pictures == theirs.pictures
    assert (ours.version, theirs.version) == ("twin-1", card["version"])
    assert 0.3 < ours.ms_per_picture / theirs.ms_per_picture < 3
    rules = PromotionSettings(least_tampered=2, least_authentic=2, least_clusters=2, resamples=200)
    assert "it is the live model" in decide(ours, theirs, rules).summary
