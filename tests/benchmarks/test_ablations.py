"""The table of an ablation: what it reads of cards, and what it holds against what."""

import io
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.ablations import Run, differences, main, plot, print_table, read_runs
from model.card import Card, builtin_directory
from schemas.errors import InvalidInput


def run(variant: str, seed: int, f1: float) -> Run:
    return Run(variant, seed, f1, f1 - 0.03, f1 + 0.03, 0.8, 0.018, 0.97)


RUNS = [run("base", 1, 0.10), run("base", 2, 0.12), run("less", 1, 0.07), run("less", 2, 0.11), run("more", 3, 0.2)]


def test_seeds_are_held_against_their_own() -> None:
    """Nothing is said of a seed that the base has not run with."""
    assert differences(RUNS, "base") == {"less": [pytest.approx(-0.03), pytest.approx(-0.01)]}


def test_the_table_and_the_plot(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(RUNS, "base")
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["base-1", "0.100", "[0.070,", "0.130]", "0.800", "1.8%", "97%"]
    assert lines[-2:] == ["seeds of base alone differ by up to 0.020", "less           -0.020  (-0.030, -0.010)"]
    with Image.open(io.BytesIO(plot(RUNS, "base"))) as image:
        assert image.width > 800


def test_cards_are_read_where_they_lie(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    card = Card.load(builtin_directory())
    for name in ("base-1", "base-2", "not-a-run"):
        (tmp_path / name / "student").mkdir(parents=True)
        card.save(tmp_path / name / "student")
    main([str(tmp_path), "--plot", str(tmp_path / "plot.png")])
    assert (tmp_path / "plot.png").exists()
    assert "base-2" in capsys.readouterr().out
    found = read_runs(tmp_path)
    assert [(each.variant, each.seed) for each in found] == [("base", 1), ("base", 2)]
    assert found[0].f1 == card.metrics["overall"]["f1"] and found[0].low < found[0].f1 < found[0].high
    assert 0.9 < found[0].kept < 1.0


def test_a_folder_without_runs_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="VARIANT-SEED"):
        read_runs(tmp_path)
