"""Boxes in a picture's own pixels."""

from typing import Self

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveInt, model_validator


class PixelBox(BaseModel):
    """A rectangle in original pixels (EXIF orientation applied): x0, y0 inclusive; x1, y1 exclusive."""

    model_config = ConfigDict(frozen=True)

    x0: NonNegativeInt
    y0: NonNegativeInt
    x1: PositiveInt
    y1: PositiveInt

    @model_validator(mode="after")
    def _has_area(self) -> Self:
        if self.x1 <= self.x0 or self.y1 <= self.y0:
            raise ValueError(f"box has no area: x {self.x0}..{self.x1}, y {self.y0}..{self.y1} (x1 and y1 are exclusive)")
        return self

    @classmethod
    def of(cls, x0: int, y0: int, x1: int, y1: int) -> Self:
        """Build a box from four numbers in the order manifests use."""
        return cls(x0=x0, y0=y0, x1=x1, y1=y1)

    @property
    def width(self) -> int:
        return self.x1 - self.x0

    @property
    def height(self) -> int:
        return self.y1 - self.y0

    @property
    def area(self) -> int:
        return self.width * self.height

    def as_tuple(self) -> tuple[int, int, int, int]:
        """(x0, y0, x1, y1), the order Pillow's `crop` and SAM's box prompts take."""
        return self.x0, self.y0, self.x1, self.y1

    def fits(self, width_px: int, height_px: int) -> bool:
        """Whether the box lies wholly inside a picture of this size."""
        return self.x1 <= width_px and self.y1 <= height_px

    def clipped(self, width_px: int, height_px: int) -> "PixelBox":
        """The part of the box inside a picture of this size.

        Raises:
            ValueError: the box lies wholly outside.
        """
        return PixelBox(x0=self.x0, y0=self.y0, x1=min(self.x1, width_px), y1=min(self.y1, height_px))

    def loosened(self, margin: float, width_px: int, height_px: int) -> "PixelBox":
        """Grow each side by `margin` times the box's own extent, clipped to the picture (a careless annotator's box)."""
        dx, dy = round(self.width * margin), round(self.height * margin)
        return PixelBox(
            x0=max(0, self.x0 - dx),
            y0=max(0, self.y0 - dy),
            x1=min(width_px, self.x1 + dx),
            y1=min(height_px, self.y1 + dy),
        )
