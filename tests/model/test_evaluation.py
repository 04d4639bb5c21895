"""The protocol from files to report, with an engine that sees red: pictures are grey, manipulated parts red."""

import io
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from model import evaluation
from model.calibration import score
from model.card import Calibration, Card
from model.config import StudentConfig
from model.evaluation import measure
from model.evaluation_data import EvaluationItem
from model.evaluation_report import Report, summary
from model.predictor import Predictor
from model.preprocess import PictureLimits
from model.sweeps import variants
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox
from tests.drawings import draw, draw_mask

CARD = Card(
    name="red",
    version="red-1",
    created="2020-01-01T00:00:00+00:00",
    student=StudentConfig(input_size=64),
    files={},
    calibration=Calibration(
        temperature=1.0,
        bias=0.0,
        review_threshold=0.3,
        flag_threshold=0.9,
        review_false_alarm_rate=0.05,
        flag_false_alarm_rate=0.01,
    ),
    licence="test",
)


class RedEngine:
    """Probability = redness, in cells of 2 x 2 network pixels; score logit = 20 x share of red - 3."""

    name = "red"

    def __init__(self) -> None:
        self.batch_sizes: list[int] = []

    def __call__(self, pictures: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        self.batch_sizes.append(len(pictures))
        redness = (pictures[..., 0].astype(np.float32) - pictures[..., 1]) / 255
        prob = redness.reshape(len(pictures), 32, 2, 32, 2).mean(axis=(2, 4)).clip(0, 1)
        return prob, 20 * (prob > 0.5).mean(axis=(1, 2), dtype=np.float32) - 3


@pytest.fixture
def predictor() -> Predictor:
    return Predictor(CARD, RedEngine())


def evaluate(
    predictor: Predictor,
    items: Sequence[EvaluationItem],
    profiles: Sequence[str] = (),
    progress: Callable[[int, int], None] | None = None,
    sweeps: Sequence[str] = (),
    **options: Any,
) -> Report:
    """The whole way, as the command goes it."""
    return summary(measure(predictor, items, variants(profiles, sweeps), progress, **options))


def tampered(
    folder: Path, name: str, seen: tuple[int, int, int, int] | None, true: tuple[int, int, int, int], **more: str
) -> EvaluationItem:
    """A tampered picture whose red (seen) box need not be the true one."""
    image, mask = draw(folder / f"{name}.png", box=seen), draw_mask(folder / f"{name}_mask.png", box=true, **more)
    return EvaluationItem("drawn", image, mask, True)


def authentic(folder: Path, name: str, seen: tuple[int, int, int, int] | None = None, grey: int = 120) -> EvaluationItem:
    return EvaluationItem("drawn", draw(folder / f"{name}.png", box=seen, grey=grey), None, False)


def test_figures_of_a_worked_example(tmp_path: Path, predictor: Predictor) -> None:
    items = [
        tampered(tmp_path, "found", (0, 0, 64, 48), (0, 0, 64, 48)),
        tampered(tmp_path, "missed", None, (0, 0, 64, 48)),
        authentic(tmp_path, "clean"),
        authentic(tmp_path, "alarm", (0, 0, 128, 48)),
    ]

    report = evaluate(predictor, items)

    assert report.n_pictures == 4
    assert (report.model_version, report.engine, report.input_size) == ("red-1", "red", 64)
    figures = report.sets["drawn"]
    assert (figures.n_tampered, figures.n_authentic) == (2, 2)
    assert figures.f1 == pytest.approx(0.5, abs=0.02)  # 1 and 0
    assert figures.iou == pytest.approx(0.5, abs=0.02)
    assert figures.auc == pytest.approx(0.75, abs=0.02)  # 1 and, all tied, .5
    assert figures.fa_area == pytest.approx(0.25, abs=0.02)  # 0 and half a picture
    # The red quarter of `found` gives logit 2, .88: review; the red half of `alarm` 7, .999: flag; no red -3, .05: pass.
    assert (figures.tampered_flag_rate, figures.tampered_review_rate) == (0.0, 0.5)
    assert (figures.fa_rate, figures.review_rate) == (0.5, 0.0)
    assert report.image_auc == pytest.approx((0 + 1 + 0 + 0.5) / 4)
    assert (report.image_f1, report.balanced_accuracy) == (0.0, 0.25)
    assert report.ece == pytest.approx(
        (abs(1 - score(2.0, CARD.calibration)) + abs(1 - 2 * score(-3.0, CARD.calibration)) + 1) / 4, abs=0.02
    )
    assert report.overall == figures
    assert report.errors == []


def test_masks_are_compared_at_the_pictures_own_size(tmp_path: Path, predictor: Predictor) -> None:
    """A long picture is stretched to the network's square; its mask must come back in its own proportions."""
    size, box = (1000, 50), (900, 0, 1000, 25)
    item = EvaluationItem("long", draw(tmp_path / "a.png", size, box), draw_mask(tmp_path / "m.png", size, box), True)

    f1 = evaluate(predictor, [item]).sets["long"].f1

    assert f1 is not None and f1 > 0.95


def test_an_exif_rotated_picture_is_measured_upright(tmp_path: Path, predictor: Predictor) -> None:
    stored = Image.new("RGB", (96, 64), (120, 120, 120))
    stored.paste((255, 0, 0), (0, 0, 48, 32))  # top left as stored; top right once turned clockwise
    exif = Image.Exif()
    exif[0x0112] = 6
    stored.save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    mask = draw_mask(tmp_path / "mask.png", (64, 96), (32, 0, 64, 48))

    f1 = evaluate(predictor, [EvaluationItem("turned", tmp_path / "turned.jpg", mask, True)]).sets["turned"].f1

    assert f1 is not None and f1 > 0.95


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA"])
def test_every_common_kind_of_mask_is_read_alike(tmp_path: Path, predictor: Predictor, mode: str) -> None:
    item = tampered(tmp_path, "a", (0, 0, 64, 48), (0, 0, 64, 48), mode=mode)

    f1 = evaluate(predictor, [item]).sets["drawn"].f1

    assert f1 is not None and f1 > 0.98


def test_sets_without_tampered_pictures_have_no_f1(tmp_path: Path, predictor: Predictor) -> None:
    report = evaluate(predictor, [authentic(tmp_path, "a"), authentic(tmp_path, "b")])

    figures = report.sets["drawn"]
    assert (figures.f1, figures.iou, figures.auc, figures.tampered_flag_rate) == (None, None, None, None)
    assert (figures.fa_area, figures.fa_rate) == (0.0, 0.0)
    assert (report.image_auc, report.image_f1, report.balanced_accuracy, report.set_mean_f1) == (None, None, None, None)
    assert report.profiles == {"none": {}}


def test_profiles_are_measured_beside_the_pictures_as_they_are(tmp_path: Path, predictor: Predictor) -> None:
    items = [tampered(tmp_path, "a", (0, 0, 64, 48), (0, 0, 64, 48)), authentic(tmp_path, "b")]

    report = evaluate(predictor, items, ["wechat"])

    assert list(report.profiles) == list(report.profile_figures) == ["none", "wechat"]
    assert report.profiles["none"]["drawn"] == report.sets["drawn"].f1
    assert report.profiles["wechat"]["drawn"] == pytest.approx(report.profiles["none"]["drawn"], abs=0.05)
    assert report.profile_figures["wechat"].overall.n_authentic == 1
    assert report.profile_figures["wechat"].image_auc == 1.0
    assert "simulations" in report.profiles_note


def test_sweeps_are_points_in_ascending_steps(tmp_path: Path, predictor: Predictor) -> None:
    items = [tampered(tmp_path, "a", (0, 0, 64, 48), (0, 0, 64, 48)), authentic(tmp_path, "b")]

    report = evaluate(predictor, items, sweeps=["jpeg", "resize"])

    assert list(report.profiles) == ["none"]
    assert [point.value for point in report.sweeps["jpeg"]] == [50, 60, 70, 80, 90, 95, 100]
    assert [point.value for point in report.sweeps["resize"]] == [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    for point in (*report.sweeps["jpeg"], *report.sweeps["resize"]):
        assert (point.overall.n_tampered, point.overall.n_authentic, point.image_auc) == (1, 1, 1.0)
        assert point.overall.fa_area == 0.0
        assert point.overall.f1 is not None and report.overall.f1 is not None
        assert point.f1_kept == pytest.approx(point.overall.f1 / report.overall.f1)
        assert point.f1_kept == pytest.approx(1.0, abs=0.1)
    assert report.sweeps["resize"][-1].overall.f1 == report.overall.f1  # a PNG has no scaled decode to differ by


def test_what_is_kept_of_nothing_is_undefined(tmp_path: Path, predictor: Predictor) -> None:
    missed = evaluate(predictor, [tampered(tmp_path, "a", None, (0, 0, 64, 48))], ["weibo"])
    none = evaluate(predictor, [authentic(tmp_path, "b")], ["weibo"])

    assert missed.profile_figures["weibo"].overall.f1 == 0.0
    assert [report.profile_figures["weibo"].f1_kept for report in (missed, none)] == [None, None]


def test_a_picture_is_read_and_decoded_once_for_all_its_variants(
    tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    for name in ("read_bytes", "decode"):
        work = getattr(evaluation, name)
        monkeypatch.setattr(evaluation, name, lambda *given, work=work, name=name: calls.append(name) or work(*given))

    measurement = measure(predictor, [authentic(tmp_path, "a")], variants(["facebook", "weibo"], ["jpeg", "resize"]))

    assert sorted(calls) == ["decode", "read_bytes"]
    assert len(measurement.outcomes) == 1 + 2 + 7 + 6


def test_the_auc_is_of_raw_logits(tmp_path: Path) -> None:
    """The probabilities of both pictures round to 1.0, and so would tie."""
    steep = Predictor(CARD.model_copy(update={"calibration": CARD.calibration.model_copy(update={"bias": 50.0})}), RedEngine())
    items = [tampered(tmp_path, "a", (0, 0, 64, 48), (0, 0, 64, 48)), authentic(tmp_path, "b")]

    measurement = measure(steep, items)

    assert [outcome.score for outcome in measurement.outcomes] == [1.0, 1.0]
    assert summary(measurement).image_auc == 1.0


def test_json_has_the_contracted_keys(tmp_path: Path, predictor: Predictor) -> None:
    report = evaluate(predictor, [tampered(tmp_path, "a", None, (0, 0, 9, 9)), authentic(tmp_path, "b")]).model_dump(mode="json")

    contract = {"model_version", "engine", "input_size", "sets", "image_auc", "image_f1", "balanced_accuracy", "ece", "profiles"}
    of_a_set = {"n_tampered", "f1", "iou", "auc", "n_authentic", "fa_area", "fa_rate", "review_rate"}
    assert contract <= report.keys()
    assert of_a_set <= report["sets"]["drawn"].keys()
    assert next(iter(report)) == "model_version"


def truncated_noise() -> bytes:
    """The first bytes of a PNG of 128 x 96: its header is whole, its pixels are not."""
    noise = np.random.default_rng(0).integers(0, 255, (96, 128), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()[:2000]


def broken(folder: Path, kind: str) -> EvaluationItem:
    """An item that has to fail alone."""
    item = tampered(folder, kind, (0, 0, 9, 9), (0, 0, 9, 9))
    if kind == "truncated picture":
        item.image.write_bytes(truncated_noise())
    elif kind == "text":
        item.image.write_text("not a picture", encoding="utf-8")
    elif kind == "empty mask":
        draw_mask(folder / f"{kind}_mask.png")
    elif kind == "16-bit mask":
        Image.new("I;16", (128, 96), 65535).save(folder / f"{kind}_mask.png")
    elif kind == "gone":
        item.image.unlink()
    return item


@pytest.mark.parametrize(
    ("kind", "code", "message"),
    [
        ("truncated picture", "decode_failed", "truncated"),
        ("text", "unsupported_format", "not a picture"),
        ("empty mask", "decode_failed", "marks nothing"),
        ("16-bit mask", "decode_failed", "8-bit grey"),
        ("gone", "unreadable", "No such file"),
    ],
)
def test_a_bad_picture_is_listed_and_the_others_measured(
    tmp_path: Path, predictor: Predictor, kind: str, code: str, message: str
) -> None:
    good = tampered(tmp_path, "good", (0, 0, 64, 48), (0, 0, 64, 48))

    report = evaluate(predictor, [broken(tmp_path, kind), good, authentic(tmp_path, "clean")])

    (failure,) = report.errors
    assert (failure.image, failure.code) == (str(tmp_path / f"{kind}.png"), code)
    assert message in failure.message
    assert (report.sets["drawn"].n_tampered, report.sets["drawn"].n_authentic, report.n_pictures) == (1, 1, 2)


def test_a_truncated_mask_is_listed(tmp_path: Path, predictor: Predictor) -> None:
    item = tampered(tmp_path, "a", (0, 0, 9, 9), (0, 0, 9, 9))
    assert item.mask is not None
    item.mask.write_bytes(truncated_noise())

    report = evaluate(predictor, [item])

    assert "true mask cannot be decoded" in report.errors[0].message
    assert report.sets == {}
    assert report.n_pictures == 0


def test_limits_hold(tmp_path: Path, predictor: Predictor) -> None:
    report = evaluate(predictor, [authentic(tmp_path, "a")], limits=PictureLimits(max_pixels=1000))

    assert [failure.code for failure in report.errors] == ["too_large"]


def test_nothing_to_evaluate_is_refused(predictor: Predictor) -> None:
    with pytest.raises(InvalidInput, match="no pictures"):
        evaluate(predictor, [])


def test_every_misfit_mask_is_listed_before_the_first_inference(tmp_path: Path, predictor: Predictor) -> None:
    image = draw(tmp_path / "a.png")
    items = [
        EvaluationItem("s", image, None, True),
        EvaluationItem("s", image, tmp_path / "nowhere.png", True),
        EvaluationItem("s", image, draw_mask(tmp_path / "small.png", (64, 48)), True),
        EvaluationItem("s", image, Path(__file__), True),
        EvaluationItem("s", image, draw_mask(tmp_path / "fits.png"), True),
        EvaluationItem("s", image, tmp_path / "not looked at", False),
    ]

    with pytest.raises(InvalidInput) as caught:
        evaluate(predictor, items)

    lines = caught.value.message.splitlines()
    assert lines[0].startswith("4 true masks do not fit")
    assert ["no mask is named" in lines[1], "nowhere.png" in lines[2], "64 x 48, but the picture is 128 x 96" in lines[3]] == [
        True
    ] * 3
    assert "not a readable picture" in lines[4]
    assert predictor.engine.batch_sizes == []  # type: ignore[attr-defined]


def test_the_data_hash_knows_content_and_label_but_not_names_or_order(tmp_path: Path, predictor: Predictor) -> None:
    first, second = authentic(tmp_path, "a", grey=100), authentic(tmp_path, "b", grey=101)
    renamed = authentic(tmp_path / "elsewhere", "c", grey=100)
    relabelled = EvaluationItem("drawn", first.image, draw_mask(tmp_path / "m.png", box=(0, 0, 5, 5)), True)

    def digest(*items: EvaluationItem) -> str:
        return evaluate(predictor, items).dataset_sha256

    assert digest(first, second) == digest(second, renamed)
    assert len({digest(first), digest(second), digest(first, second), digest(relabelled)}) == 4


def test_batches_are_full_and_progress_reaches_the_end(tmp_path: Path) -> None:
    engine = RedEngine()
    items = [authentic(tmp_path, str(index), grey=100 + index) for index in range(10)]
    steps: list[tuple[int, int]] = []

    evaluate(Predictor(CARD, engine), items, ["none", "weibo"], lambda done, total: steps.append((done, total)), batch_size=4)

    assert steps == [(done, 10) for done in range(1, 11)]
    assert engine.batch_sizes == [4] * 5


def test_no_more_pictures_are_held_than_the_window(tmp_path: Path, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Constant memory: loading stays at most a few batches ahead of measuring."""
    held, most, lock = 0, 0, threading.Lock()

    def counting(work: Callable[..., object], change: int) -> Callable[..., object]:
        def counted(*arguments: object) -> object:
            nonlocal held, most
            result = work(*arguments)
            with lock:
                held += change
                most = max(most, held)
            return result

        return counted

    monkeypatch.setattr(evaluation, "_load", counting(evaluation._load, +1))
    monkeypatch.setattr(evaluation, "_measure", counting(evaluation._measure, -1))
    image = authentic(tmp_path, "a").image

    evaluate(predictor, [EvaluationItem("s", image, None, False)] * 100, batch_size=2)

    assert held == 0
    assert most <= 8  # a window of two batches being loaded, one in inference, one being measured


def test_boxes_that_people_drew_are_pointed_at_or_not(tmp_path: Path, predictor: Predictor) -> None:
    left, right = PixelBox.of(0, 0, 64, 96), PixelBox.of(64, 0, 128, 96)
    boxed = replace(tampered(tmp_path, "boxed", left.as_tuple(), left.as_tuple()), boxes=(left, right))
    boxless = tampered(tmp_path, "boxless", left.as_tuple(), left.as_tuple())
    unharmed = replace(authentic(tmp_path, "unharmed", seen=left.as_tuple()), boxes=(left,))

    outcomes = measure(predictor, [boxed, boxless, unharmed]).outcomes

    assert [outcome.pointing for outcome in outcomes] == [(1.0, 0.5), None, None]
