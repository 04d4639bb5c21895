"""The simulated fortnight: who is revealed when, who is careless, and what its verdicts count."""

import csv
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.fortnight_data import NIGHTS, Fortnight, Word, fortnight, write_base
from benchmarks.fortnight_figures import live_by_morning, plot, print_table, worst_steps
from benchmarks.fortnight_nights import NightFigures, Truth
from model.manifest import read_manifest
from model.splits import clustered
from tests.nights import SIZE_PX, box_of, drawn

START = ("known",)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Drawn pictures of two sets, half of them manipulated, with boxes and masks."""
    folder = tmp_path_factory.mktemp("data")
    lines = []
    for number in range(240):
        box = box_of(number) if number % 2 else None
        (folder / f"{number}.png").write_bytes(drawn(number, box))
        if box:
            mask = Image.new("L", SIZE_PX)
            mask.paste(255, box.as_tuple())
            mask.save(folder / f"{number}.mask.png")
        lines.append(
            {
                "set": "known" if number < 80 else "later",
                "image": f"{number}.png",
                "mask": f"{number}.mask.png" if box else "",
                "label": "tampered" if box else "authentic",
                "boxes": f"[{list(box.as_tuple())}]" if box else "[]",
            }
        )
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return folder


@pytest.fixture(scope="module")
def plan(data: Path) -> Fortnight:
    return fortnight(data, START)


def said(plan: Fortnight) -> list[Word]:
    return [word for night in plan.nights for word in night]


def test_every_picture_has_one_place(data: Path, plan: Fortnight) -> None:
    revealed = [word.image for word in said(plan)]
    assert len(set(revealed)) == len(revealed) and len(plan.nights) == NIGHTS
    known = {data / row.image for row, _ in plan.base}
    measured = {item.image for item in plan.measured}
    assert not known & set(revealed) and not measured & set(revealed)
    assert len(known) == 80 and plan.later == measured - known
    kept_apart = {data / row.image for row, side in plan.base if side == "validation"}
    assert measured & known <= kept_apart
    assert {data / row.image for row in clustered(read_manifest(data)).split("validation")} >= measured


def test_the_nights_are_alike_and_repeat(data: Path, plan: Fortnight) -> None:
    assert fortnight(data, START) == plan
    sizes = [len(night) for night in plan.nights]
    assert max(sizes) - min(sizes) <= 1
    boxed = sum(bool(word.boxes) for word in said(plan))
    assert 0 <= 2 * boxed - len(said(plan)) <= 10  # as many authentic ones, where there are


def test_boxes_are_loose_and_a_few_lie_elsewhere(plan: Fortnight) -> None:
    boxed = [word for word in said(plan) if word.boxes]
    careless = [word for word in boxed if word.careless]
    assert 0 < len(careless) < len(boxed) / 4
    for word in boxed:
        true, (drawn_box,) = box_of(int(word.image.stem)), word.boxes
        assert drawn_box.fits(*word.size_px)
        inside = drawn_box.x0 <= true.x0 and drawn_box.y0 <= true.y0 and true.x1 <= drawn_box.x1 and true.y1 <= drawn_box.y1
        assert inside is not word.careless


def test_the_base_is_a_manifest_that_names_files_where_they_lie(data: Path, plan: Fortnight, tmp_path: Path) -> None:
    write_base(plan, tmp_path / "new" / "base.csv")
    read = read_manifest(tmp_path / "new" / "base.csv")
    assert len(read.rows) == 80 and {Path(row.image).parent for row in read.rows} == {data}
    sides = {row.image: side for row, side in plan.base}
    assert all(sides[Path(row.image).name] == row.pinned for row in read.rows)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["base.csv"]


def truth(version: str, f1: float, area: float = 0.01) -> Truth:
    return Truth(version=version, f1=f1, f1_start=f1, f1_later=f1, auc=f1 / 2 + 0.5, false_area=area)


def night(number: int, state: str, live: Truth, candidate: Truth | None) -> NightFigures:
    return NightFigures(
        night=number,
        state=state,
        reason="",
        words=10,
        careless=1,
        live=live,
        candidate=candidate,
        hold_out_live=live.f1,
        hold_out_candidate=candidate.f1 if candidate else None,
        hold_out_pictures=50,
        steps=30,
        wall_s=60.0,
        cpu_s=40.0,
    )


def test_the_live_model_follows_promotions_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, worse, better = truth("a", 0.2), truth("b", 0.1), truth("c", 0.17, area=0.03)
    figures = [night(1, "rejected", first, worse), night(2, "promoted", first, better), night(3, "skipped", better, None)]
    assert [each.version for each in live_by_morning(figures)] == ["a", "a", "c", "c"]
    assert worst_steps(live_by_morning(figures)) == (pytest.approx(0.03), pytest.approx(0.02))
    assert worst_steps([worse, first]) == (0.0, 0.0)
    print_table(figures)
    text = capsys.readouterr().out
    assert "3 nights, 2 candidates, 1 went live; F1 0.200 to 0.170" in text
    assert "image AUC 0.600 to 0.585" in text
    assert text.count("MORE than the margin") == 2
    assert "a night that trained: 60 s of wall time, 40 s of CPU (longest 60 and 40)" in text
    print_table(figures[2:])
    assert "1 nights, 0 candidates, 0 went live" in capsys.readouterr().out
    plot(figures, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as image:
        assert image.width > 1000
