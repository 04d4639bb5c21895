"""Plots come out for whatever there is data for, with the words and numbers that belong on them."""

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from model import plot_style
from model.card import Calibration
from model.evaluation_plots import plots
from model.evaluation_report import Measurement, Outcome, Subject, summary
from model.sweeps import Variant, variants

CALIBRATION = Calibration(
    temperature=1, bias=0, review_threshold=0.6, flag_threshold=0.8, review_false_alarm_rate=0.05, flag_false_alarm_rate=0.01
)
SUBJECT = Subject(
    model_version="drawn-1", checkpoint_sha256=None, engine="none", input_size=64, dataset_sha256="5e" * 32, n_pictures=24
)


def outcomes_of(names: list[str], kinds: tuple[bool, ...] = (True, False), count: int = 12) -> list[Outcome]:
    rng, found = np.random.default_rng(0), []
    for name in names:
        for index in range(count * len(kinds)):
            tampered, logit = kinds[index % len(kinds)], float(rng.normal(1.5 if kinds[index % len(kinds)] else -1.5, 2))
            score = 1 / (1 + np.exp(-logit))
            found.append(
                Outcome(
                    image=Path(f"{index}.jpg"), set_name=f"set{index % 3}", tampered=tampered, variant=name,
                    f1=float(rng.random()) if tampered else None, iou=0.3 if tampered else None, auc=None,
                    alarm_area=float(rng.random() / 10), score_logit=logit, score=score,
                    verdict="flag" if score > 0.8 else "review" if score > 0.6 else "pass",
                )
            )  # fmt: skip
    return found


def drawn(chosen: tuple[Variant, ...], kinds: tuple[bool, ...] = (True, False)) -> dict[str, bytes]:
    outcomes = outcomes_of(["none", *(variant.name for variant in chosen)], kinds)
    return dict(plots(summary(Measurement(SUBJECT, chosen, outcomes, [], 1.0)), outcomes, CALIBRATION))


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every text of every figure."""
    found: list[str] = []
    original = Figure.savefig

    def listening(figure: Figure, *given: Any, **options: Any) -> None:
        original(figure, *given, **options)
        found.extend(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))

    monkeypatch.setattr(Figure, "savefig", listening)
    monkeypatch.setattr(plot_style, "_DPI", 50)
    return found


@pytest.mark.slow
def test_everything_is_drawn_and_labelled(texts: list[str]) -> None:
    pngs = drawn(variants(["facebook", "weibo"], ["jpeg", "resize"]))

    assert list(pngs) == ["f1-by-set", "profiles", "sweeps", "scores", "reliability", "roc"]
    for data in pngs.values():
        with Image.open(io.BytesIO(data)) as image:
            pixels = np.asarray(image.convert("L"))
        assert image.format == "PNG"
        assert pixels.std() > 5
        assert pixels.max(axis=0)[0] == 255  # nothing is cut off at the left edge
    about = "drawn-1 · none · input 64 px · 24 pictures (12 tampered, 12 authentic) · data 5e5e5e5e5e5e"
    assert texts.count(about) == 6
    for expected in ("set0  (4)", "facebook", "JPEG quality (4:2:0)", "review above 0.60 ", "flag above 0.80 ", "authentic (12)"):
        assert expected in texts
    assert any(text.startswith("area under the curve") for text in texts)
    assert any(text.startswith("expected calibration error") for text in texts)


@pytest.mark.parametrize(("kinds", "names"), [((False,), ["scores"]), ((True,), ["f1-by-set", "scores"])])
def test_what_has_no_data_is_left_out(texts: list[str], kinds: tuple[bool, ...], names: list[str]) -> None:
    assert list(drawn((), kinds)) == names
    assert texts


def test_one_kind_of_picture_and_one_sweep(texts: list[str]) -> None:
    assert list(drawn(variants(["weibo"], ["resize"]), (False,))) == ["profiles", "sweeps", "scores"]
    assert "factor of both sides" in texts
    assert "JPEG quality (4:2:0)" not in texts


def test_a_set_may_have_any_name(texts: list[str]) -> None:
    outcomes = [replace(outcome, set_name="a$\\frac$_^{") for outcome in outcomes_of(["none"], (True,))]

    names = [name for name, _ in plots(summary(Measurement(SUBJECT, (), outcomes, [], 1.0)), outcomes, CALIBRATION)]

    assert names == ["f1-by-set", "scores"]
    assert "a$\\frac$_^{  (12)" in texts


def test_nothing_measured_draws_nothing() -> None:
    assert list(plots(summary(Measurement(SUBJECT, (), [], [], 1.0)), [], CALIBRATION)) == []
