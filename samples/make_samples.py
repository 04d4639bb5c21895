"""Make the six manipulated sample pictures from the authentic ones, with their true masks and the manifest.

    python samples/make_samples.py

Needs numpy and Pillow only. Outlines were traced by hand (outlines.json), so masks do not depend on how a JPEG decodes;
nothing is random, so a second run gives the same files. A mask is white wherever the forger changed a pixel, soft edges
included. See ORIGINS.md for where the authentic pictures come from.
"""

import csv
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageOps

HERE = Path(__file__).resolve().parent
COLUMNS = ("set", "image", "mask", "label", "kind", "scene")
AUTHENTIC = ("astronaut.jpg", "chelsea.png", "coffee.jpg", "dahlia.jpg", "grace-hopper.jpg", "raccoon.jpg", "summer-palace.jpg")

Outline = list[list[float]]
Picture = npt.NDArray[np.float64]  # H x W x 3, 0..255, upright


@dataclass(frozen=True)
class Forgery:
    """One manipulated picture: `picture` H x W x 3, and `mask_orig`, white where it differs from the authentic one."""

    picture: Picture
    mask_orig: Image.Image


@dataclass(frozen=True)
class Move:
    """Where a cut-out goes: its `pivot_px` lands on `to_px`, scaled, then turned clockwise."""

    pivot_px: tuple[float, float]
    to_px: tuple[float, float]
    scale: float = 1.0
    turn_deg: float = 0.0

    def outline(self, points: Outline) -> Outline:
        """The traced outline after the move."""
        cos, sin = (self.scale * f(math.radians(self.turn_deg)) for f in (math.cos, math.sin))
        offsets = [(x - self.pivot_px[0], y - self.pivot_px[1]) for x, y in points]
        return [[self.to_px[0] + cos * dx - sin * dy, self.to_px[1] + sin * dx + cos * dy] for dx, dy in offsets]

    def warped(self, donor: Picture, size_px: tuple[int, int]) -> Picture:
        """The donor picture moved onto a canvas of width x height `size_px`."""
        small = as_image(donor)
        small = small.resize((round(small.width * self.scale), round(small.height * self.scale)), Image.Resampling.LANCZOS)
        cos, sin = math.cos(math.radians(self.turn_deg)), math.sin(math.radians(self.turn_deg))
        px, py, (tx, ty) = self.pivot_px[0] * self.scale, self.pivot_px[1] * self.scale, self.to_px
        inverse = (cos, sin, px - cos * tx - sin * ty, -sin, cos, py + sin * tx - cos * ty)
        return as_picture(small.transform(size_px, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC))


def as_image(picture: Picture) -> Image.Image:
    return Image.fromarray(np.rint(picture.clip(0, 255)).astype(np.uint8))


def as_picture(image: Image.Image) -> Picture:
    return np.asarray(image.convert("RGB"), dtype=np.float64)


def authentic(name: str) -> Picture:
    """An authentic sample, upright."""
    with Image.open(HERE / "pictures" / name) as image:
        return as_picture(ImageOps.exif_transpose(image))


def traced(name: str) -> Outline:
    """A hand-traced outline, x and y in pixels of the picture it was traced in."""
    outlines: dict[str, Outline] = json.loads((HERE / "outlines.json").read_text())
    return outlines[name]


def filled_outline(points: Outline, picture: Picture) -> Image.Image:
    """The outline's inside, 255 on 0, as large as the picture."""
    mask = Image.new("L", (picture.shape[1], picture.shape[0]), 0)
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in points], fill=255)
    return mask


def soft(mask: Image.Image, feather_px: int) -> Picture:
    """Opacity H x W x 1 that falls to zero towards the inside edge, so that nothing outside the mask changes."""
    layers, inner = [np.asarray(mask, dtype=np.float64)], mask
    for _ in range(feather_px):
        inner = inner.filter(ImageFilter.MinFilter(3))
        layers.append(np.asarray(inner, dtype=np.float64))
    opacity: Picture = np.mean(layers, axis=0)[..., None] / 255
    return opacity


def blended(base: Picture, top: Picture, mask: Image.Image, feather_px: int) -> Picture:
    opacity = soft(mask, feather_px)
    return base * (1 - opacity) + top * opacity


def colour_matched(top: Picture, base: Picture, mask: Image.Image, strength: float, reach_px: int = 41) -> Picture:
    """Pull the pasted part's mean and spread per channel towards its new surroundings (Reinhard et al. 2001, in RGB)."""
    inside = np.asarray(mask) > 0
    around = (np.asarray(mask.filter(ImageFilter.MaxFilter(reach_px))) > 0) & ~inside
    mean_top, mean_base = top[inside].mean(axis=0), base[around].mean(axis=0)
    spread = top[inside].std(axis=0), base[around].std(axis=0)
    gain = (1 - strength) + strength * (spread[1] / spread[0]).clip(0.6, 1.4)
    matched: Picture = (top - mean_top) * gain + mean_top + strength * (mean_base - mean_top)
    return matched


def diffused(picture: Picture, known: npt.NDArray[np.bool_]) -> Picture:
    """Fill the unknown pixels from the known ones, coarse to fine (the push-pull pyramid of Gortler et al. 1996)."""
    height, width = known.shape
    if known.all() or min(height, width) < 2 or not known.any():
        return picture
    even = [(0, height % 2), (0, width % 2)]
    weight = np.pad(known.astype(np.float64), even)
    colour = np.pad(picture * known[..., None], [*even, (0, 0)])
    cells = (weight.shape[0] // 2, 2, weight.shape[1] // 2, 2)
    weight_half = weight.reshape(cells).sum(axis=(1, 3))
    half = colour.reshape(*cells, 3).sum(axis=(1, 3)) / np.maximum(weight_half, 1)[..., None]
    coarse = diffused(half, weight_half > 0)
    bands = [Image.fromarray(coarse[..., c].astype(np.float32)) for c in range(3)]
    fine = [band.resize((cells[2] * 2, cells[0] * 2), Image.Resampling.BICUBIC) for band in bands]
    smooth = np.stack([np.asarray(band, dtype=np.float64)[:height, :width] for band in fine], axis=-1)
    return np.where(known[..., None], picture, smooth)


def settled(picture: Picture, hole: npt.NDArray[np.bool_], rounds: int = 120) -> Picture:
    """Let the filled hole relax towards the harmonic surface through its rim (Jacobi sweeps)."""
    picture = picture.copy()
    for _ in range(rounds):
        padded = np.pad(picture, [(1, 1), (1, 1), (0, 0)], mode="edge")
        mean = (padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]) / 4
        picture[hole] = mean[hole]
    return picture


def grain(picture: Picture, box_px: tuple[int, int, int, int]) -> Picture:
    """The fine noise of a plain part of the picture, mirrored over the whole canvas: a smooth fill alone would show."""
    x0, y0, x1, y1 = box_px
    patch = picture[y0:y1, x0:x1]
    noise = patch - as_picture(as_image(patch).filter(ImageFilter.GaussianBlur(2)))
    reach = [(0, picture.shape[0] - noise.shape[0]), (0, picture.shape[1] - noise.shape[1]), (0, 0)]
    return np.pad(noise, reach, mode="symmetric")


def background(picture: Picture, mask: Image.Image, avoid: Image.Image, grain_box_px: tuple[int, int, int, int]) -> Picture:
    """The picture with the masked object painted over from around it; `avoid` marks other pixels that are no background."""
    foreground = (np.asarray(mask) > 0) | (np.asarray(avoid) > 0)
    return settled(diffused(picture, ~foreground), foreground) + grain(picture, grain_box_px)


def coffee_splice() -> Forgery:
    """A dahlia lies on the café table, with a shadow."""
    base, donor = authentic("coffee.jpg"), authentic("dahlia.jpg")
    move = Move(pivot_px=(306, 222), to_px=(530, 318), scale=0.42, turn_deg=25)
    flower = filled_outline(move.outline(traced("dahlia")), base)
    fallen = ImageChops.offset(flower, 5, 7).filter(ImageFilter.MaxFilter(5))
    shadow = ImageChops.lighter(fallen, flower)
    shaded = blended(base, base * 0.38, shadow, feather_px=9)
    top = colour_matched(move.warped(donor, flower.size), base, flower, strength=0.22)
    return Forgery(blended(shaded, top, flower, feather_px=2), shadow)


def grace_hopper_splice() -> Forgery:
    """The model of a space shuttle stands behind the officer."""
    base, donor = authentic("grace-hopper.jpg"), authentic("astronaut.jpg")
    move = Move(pivot_px=(350, 0), to_px=(362, 0), scale=1.4)
    shuttle = filled_outline(move.outline(traced("shuttle")), base)
    mask = ImageChops.darker(shuttle, filled_outline(traced("beside the officer"), base))
    top = colour_matched(move.warped(donor, mask.size), base, mask, strength=0.12)
    return Forgery(blended(base, top, mask, feather_px=3), mask)


def summer_palace_copy_move() -> Forgery:
    """A smaller twin of the pavilion rises behind the shrubs, paler with distance."""
    base = authentic("summer-palace.jpg")
    move = Move(pivot_px=(205, 300), to_px=(484, 306), scale=0.4, turn_deg=-1)
    twin = filled_outline(move.outline(traced("pavilion")), base)
    mask = ImageChops.darker(twin, filled_outline(traced("above shrubs"), base))
    top = colour_matched(move.warped(base, mask.size), base, mask, strength=0.4)
    return Forgery(blended(base, top, mask, feather_px=1), mask)


def raccoon_copy_move() -> Forgery:
    """A piece of the leaf hides the raccoon's paw."""
    base = authentic("raccoon.jpg")
    mask = filled_outline(traced("leaf over paw"), base)
    move = Move(pivot_px=(660, 434), to_px=(538, 430), scale=1.04, turn_deg=-4)
    return Forgery(blended(base, move.warped(base, mask.size), mask, feather_px=4), mask)


def astronaut_removal() -> Forgery:
    """The shuttle model is gone from the table behind the astronaut; the table's edge is drawn on."""
    base = authentic("astronaut.jpg")
    mask = filled_outline(traced("model and its stand"), base)
    plain = background(base, mask, filled_outline(traced("suit and table"), base), grain_box_px=(470, 20, 508, 250))
    table = filled_outline(traced("table"), base)
    return Forgery(blended(base, blended(plain, np.zeros_like(base), table, feather_px=4), mask, feather_px=3), mask)


def dahlia_removal() -> Forgery:
    """The second bloom at the lower edge is gone."""
    base = authentic("dahlia.jpg")
    mask = filled_outline(traced("lower bloom"), base)
    upper_bloom = filled_outline(traced("dahlia"), base).filter(ImageFilter.MaxFilter(11))
    plain = background(base, mask, upper_bloom, grain_box_px=(470, 250, 560, 400))
    return Forgery(blended(base, plain, mask, feather_px=3), mask)


FORGERIES: dict[str, tuple[Callable[[], Forgery], str, str, dict[str, Any]]] = {
    "astronaut-removal.jpg": (astronaut_removal, "removal", "astronaut", {"quality": 90}),
    "coffee-splice.jpg": (coffee_splice, "splice", "coffee", {"quality": 90}),
    "dahlia-removal.jpg": (dahlia_removal, "removal", "dahlia", {"quality": 92}),
    "grace-hopper-splice.webp": (grace_hopper_splice, "splice", "grace-hopper", {"quality": 88, "method": 6}),
    "raccoon-copy-move.jpg": (raccoon_copy_move, "copymove", "raccoon", {"quality": 88}),
    "summer-palace-copy-move.jpg": (summer_palace_copy_move, "copymove", "summer-palace", {"quality": 92}),
}


def manifest_rows() -> Iterator[tuple[str, ...]]:
    """One row a picture, authentic ones first; paths relative to the manifest."""
    for name in AUTHENTIC:
        yield "samples", f"pictures/{name}", "", "authentic", "", Path(name).stem
    for name, (_, kind, scene, _) in FORGERIES.items():
        yield "samples", f"pictures/{name}", f"masks/{Path(name).stem}.png", "tampered", kind, scene


def write_samples(folder: Path) -> None:
    """Write forgeries, masks and manifest under `folder`, overwriting what is there."""
    for part in ("pictures", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for name, (forge, _, _, options) in FORGERIES.items():
        forgery = forge()
        as_image(forgery.picture).save(folder / "pictures" / name, **options)
        forgery.mask_orig.save(folder / "masks" / f"{Path(name).stem}.png", optimize=True)
    with (folder / "manifest.csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([COLUMNS, *manifest_rows()])


if __name__ == "__main__":
    write_samples(HERE)
    print(f"{len(FORGERIES)} manipulated pictures, their masks and manifest.csv in {HERE}")
