from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.config import TrainConfig
from model.manifest import Manifest, ManifestRow
from model.mask_files import packed
from model.pseudo_masks import PseudoMasks, build_pseudo_masks, weight
from model.teacher import GivenMasks, GrabCutTeacher, PseudoMask, Teacher, TrueMaskTeacher
from schemas.errors import InvalidInput
from schemas.geometry import PixelBox


class ScriptedTeacher:
    """Marks its boxes, counts its calls, and gives its masks the qualities of a list, in turn."""

    name = "scripted"

    def __init__(self, qualities: Sequence[float] = (0.5,)) -> None:
        self.boxes: list[PixelBox] = []
        self.qualities = qualities

    def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
        self.boxes += boxes
        soft = np.full((image.height, image.width), 200, dtype=np.uint8)
        return PseudoMask(soft, self.qualities[(len(self.boxes) - 1) % len(self.qualities)])


def build(manifest: Manifest, teacher: Teacher, folder: Path, config: TrainConfig) -> PseudoMasks:
    return build_pseudo_masks(manifest, teacher, folder, config, lambda *_: None)


def taught(manifest: Manifest) -> list[ManifestRow]:
    return [row for row in manifest.split("training") if row.tampered]


def changed(manifest: Manifest, changes: dict[str, dict[str, object]]) -> Manifest:
    """The manifest with some fields of some rows replaced."""
    return replace(manifest, rows=tuple(replace(row, **changes.get(row.image, {})) for row in manifest.rows))


def test_the_teacher_is_asked_once_a_picture_with_loosened_boxes(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    teacher, seen = ScriptedTeacher(), []
    masks = build_pseudo_masks(drawn, teacher, tmp_path, tiny_training, lambda done, count: seen.append((done, count)))
    rows = taught(drawn)
    assert list(masks.files) == list(masks.weights) == [row.image for row in rows]
    assert seen == [(done, len(rows)) for done in range(len(rows) + 1)]
    tight = [box for row in rows for box in row.boxes]
    assert len(teacher.boxes) == len(tight)
    assert all(loose.area >= box.area for loose, box in zip(teacher.boxes, tight, strict=True))
    assert sum(box.area for box in teacher.boxes) > sum(box.area for box in tight)
    with Image.open(masks.files[rows[0].image]) as image:
        assert image.size == (120, 90)
        assert image.getextrema() == (200, 200)


def test_masks_and_their_qualities_outlive_the_process(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny_training, least_quality=0.2, trusted_quality=0.8)
    first = build(drawn, ScriptedTeacher([0.1, 0.35, 0.9]), tmp_path, config)
    again = ScriptedTeacher([0.0])
    assert build(drawn, again, tmp_path, config) == first
    assert again.boxes == []
    assert first.mean_quality == pytest.approx((0.1 + 0.35 + 0.9) / 3)


def test_a_damaged_mask_is_made_again(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    masks = build(drawn, ScriptedTeacher(), tmp_path, tiny_training)
    broken, unrated = list(masks.files.values())[:2]
    broken.write_bytes(b"")
    Image.new("L", (120, 90)).save(unrated)
    again = ScriptedTeacher()
    assert build(drawn, again, tmp_path, tiny_training) == masks
    assert len(again.boxes) == 2
    with Image.open(broken) as image:
        assert image.getextrema() == (200, 200)


def test_another_teacher_margin_or_seed_gets_masks_of_its_own(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    configs = [tiny_training, replace(tiny_training, seed=1), replace(tiny_training, box_margin=0.5)]
    built = [build(drawn, ScriptedTeacher(), tmp_path, config) for config in configs]
    built.append(build(drawn, GrabCutTeacher(), tmp_path, tiny_training))
    files = [file for masks in built for file in masks.files.values()]
    assert len(set(files)) == len(files) == 4 * len(taught(drawn))


def test_poor_masks_are_dropped_and_doubtful_ones_weigh_less(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    config = replace(tiny_training, least_quality=0.2, trusted_quality=0.8)
    masks = build(drawn, ScriptedTeacher([0.1, 0.2, 0.4, 0.8, 0.9, 0.0]), tmp_path, config)
    images = [row.image for row in taught(drawn)]
    assert masks.dropped == (images[0], images[5])
    assert list(masks.files) == images[1:5]
    assert masks.weights == pytest.approx(dict(zip(images[1:5], (0.25, 0.5, 1.0, 1.0), strict=True)))
    assert masks.mean_quality == pytest.approx(0.4)


def test_without_limits_every_mask_weighs_fully(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    masks = build(drawn, ScriptedTeacher([0.0, 0.3]), tmp_path, tiny_training)
    assert set(masks.weights.values()) == {1.0}
    assert masks.dropped == ()


@pytest.mark.parametrize(("quality", "expected"), [(0.0, 0.0), (0.2, 0.5), (0.4, 1.0), (1.0, 1.0)])
def test_weight_rises_to_the_trusted_quality(quality: float, expected: float) -> None:
    assert weight(quality, 0.4) == pytest.approx(expected)


def test_nothing_good_enough_is_an_error(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"none of 6 pseudo-masks reaches least_quality 0.9 \(the best is 0.50\): lower it"):
        build(drawn, ScriptedTeacher(), tmp_path, replace(tiny_training, least_quality=0.9))


def test_a_manifest_without_manipulated_pictures_has_no_masks(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path
) -> None:
    authentic = replace(drawn, rows=tuple(row for row in drawn.rows if not row.tampered))
    masks = build(authentic, ScriptedTeacher(), tmp_path, tiny_training)
    assert masks.files == masks.weights == {}
    assert np.isnan(masks.mean_quality)


def test_all_problems_are_listed_before_the_first_mask(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    truncated = tmp_path / "truncated.jpg"
    truncated.write_bytes((drawn.root / "8.jpg").read_bytes()[:900])
    images = [row.image for row in taught(drawn)]
    bad = changed(
        drawn,
        {
            images[0]: {"boxes": ()},
            images[1]: {"boxes": (PixelBox.of(0, 0, 5, 5), PixelBox.of(0, 0, 121, 9))},
            images[2]: {"image": str(truncated)},
            images[3]: {"image": "gone.jpg"},
        },
    )
    teacher = ScriptedTeacher()
    with pytest.raises(InvalidInput) as caught:
        build(bad, teacher, tmp_path / "masks", tiny_training)
    message = caught.value.message
    assert message.startswith("4 manipulated training pictures cannot be taught from: ")
    assert f"{images[0]}: no box" in message
    assert f"{images[1]}: box [0, 0, 121, 9] lies outside 120x90 pixels" in message
    assert f"{truncated}: " in message
    assert "gone.jpg: cannot be read (No such file or directory)" in message
    assert teacher.boxes == []


def test_a_long_list_of_problems_is_cut(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    row = replace(taught(drawn)[0], boxes=())
    many = replace(drawn, rows=tuple(replace(row, mask=f"{index}.png") for index in range(23)))
    many = replace(many, rows=tuple(replace(row, image=f"./{'/' * index}{row.image}") for index, row in enumerate(many.rows)))
    with pytest.raises(InvalidInput, match=r"23 manipulated .*; … and 3 more$"):
        build(many, ScriptedTeacher(), tmp_path, tiny_training)


def test_true_masks_teach_where_they_are_asked_for(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    boxless = replace(drawn, rows=tuple(replace(row, boxes=()) for row in drawn.rows))
    masks = build(boxless, TrueMaskTeacher(), tmp_path, tiny_training)
    assert masks.mean_quality == 1.0
    for row in taught(drawn):
        with Image.open(masks.files[row.image]) as made, Image.open(drawn.root / str(row.mask)) as truth:
            assert np.array_equal(np.asarray(made) > 127, np.asarray(truth) > 127)


def test_rows_without_a_fitting_true_mask_are_all_named(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    images = [row.image for row in taught(drawn)]
    Image.new("L", (10, 10), 255).save(tmp_path / "small.png")
    bad = changed(
        drawn, {images[0]: {"mask": None}, images[1]: {"mask": str(tmp_path / "small.png")}, images[2]: {"mask": "gone.png"}}
    )
    with pytest.raises(InvalidInput) as caught:
        build(bad, TrueMaskTeacher(), tmp_path / "masks", tiny_training)
    message = caught.value.message
    assert message.startswith("3 manipulated training pictures")
    assert f'{images[0]}: no true mask, which teacher = "masks" needs' in message
    assert f"{images[1]}: its true mask is 10 x 10 pixels, the picture 120 x 90" in message
    assert f"{images[2]}: cannot be read (No such file or directory)" in message


def test_grabcut_in_threads_gives_the_same_files_as_alone(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    class Alone:
        """The same teacher, which `build_pseudo_masks` does not know to be safe in threads."""

        name = GrabCutTeacher().name

        def pseudo_mask(self, image: Image.Image, boxes: Sequence[PixelBox]) -> PseudoMask:
            return GrabCutTeacher().pseudo_mask(image, boxes)

    together = build(drawn, GrabCutTeacher(), tmp_path / "together", tiny_training)
    alone = build(drawn, Alone(), tmp_path / "alone", tiny_training)
    assert [file.read_bytes() for file in together.files.values()] == [file.read_bytes() for file in alone.files.values()]
    assert 0 < together.mean_quality <= 1


@pytest.mark.parametrize("teacher", [GrabCutTeacher(), ScriptedTeacher()], ids=["threads", "one thread"])
def test_an_interrupted_run_keeps_what_is_done_and_goes_on(
    drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path, teacher: Teacher
) -> None:
    row = taught(drawn)[0]
    many = replace(drawn, rows=tuple(replace(row, image=f"./{'/' * index}{row.image}") for index in range(24)))

    def interrupt(done: int, _count: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_pseudo_masks(many, teacher, tmp_path, tiny_training, interrupt)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.png")}
    assert 2 <= len(kept) < 24
    masks = build(many, teacher, tmp_path, tiny_training)
    assert len(masks.files) == 24
    assert {path: path.stat().st_mtime_ns for path in kept} == kept


def given(manifest: Manifest, folder: Path, quality: float = 0.5) -> GivenMasks:
    """Masks that somebody made of all manipulated training pictures, named by their files."""
    for row in taught(manifest):
        made = PseudoMask(np.full((30, 40), 200, dtype=np.uint8), quality)
        (folder / f"{Path(row.image).name}.png").write_bytes(packed(made, (120, 90)))
    return GivenMasks("somebody", folder)


def test_given_masks_are_taken_where_they_lie(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    masks = build(drawn, given(drawn, tmp_path, 0.4), tmp_path / "run", replace(tiny_training, trusted_quality=0.8))
    assert masks.files == {row.image: tmp_path / f"{row.image}.png" for row in taught(drawn)}
    assert set(masks.weights.values()) == {0.5}
    assert masks.mean_quality == pytest.approx(0.4)
    assert not (tmp_path / "run").exists()


def test_a_given_mask_that_is_missing_is_named(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    teacher, first = given(drawn, tmp_path), taught(drawn)[0]
    teacher.file_of(first).unlink()
    with pytest.raises(InvalidInput, match=f"1 manipulated training pictures.*{first.image}: no readable mask at"):
        build(drawn, teacher, tmp_path / "run", tiny_training)


def test_a_rows_own_weight_counts_beside_its_masks_quality(drawn: Manifest, tiny_training: TrainConfig, tmp_path: Path) -> None:
    first = taught(drawn)[0].image
    config = replace(tiny_training, trusted_quality=1.0)
    masks = build(changed(drawn, {first: {"weight": 0.25}}), ScriptedTeacher([0.5]), tmp_path, config)
    assert masks.weights == {row.image: 0.125 if row.image == first else 0.5 for row in taught(drawn)}
