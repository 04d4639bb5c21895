"""Small drawn pictures and masks on disk, for tests that measure."""

from pathlib import Path

from PIL import Image


def draw(path: Path, size: tuple[int, int] = (128, 96), box: tuple[int, int, int, int] | None = None, grey: int = 120) -> Path:
    """A grey picture, with a red box where it is 'manipulated'."""
    image = Image.new("RGB", size, (grey, grey, grey))
    if box:
        image.paste((255, 0, 0), box)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


def draw_mask(
    path: Path, size: tuple[int, int] = (128, 96), box: tuple[int, int, int, int] | None = None, mode: str = "L"
) -> Path:
    mask = Image.new("L", size, 0)
    if box:
        mask.paste(255, box)
    path.parent.mkdir(parents=True, exist_ok=True)
    mask.convert(mode).save(path)
    return path
