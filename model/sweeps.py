"""What a picture is put through before it is measured: as it is, a simulated delivery, or one step of a sweep. Pillow only.

A sweep changes one thing in small steps, so that the figures become a curve: the quality of one JPEG pass (4:2:0), or both
sides by one factor (Lanczos, not recompressed). The steps are our choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

from PIL import Image

from model.compress import PROFILES, deliver, recompressed, rescaled
from schemas.errors import InvalidInput

AS_IS: Final = "none"
"""The variant of the picture as it is."""

Kind = Literal["profile", "jpeg", "resize"]

SWEEPS: Final[dict[str, tuple[float, ...]]] = {
    "jpeg": (50, 60, 70, 80, 90, 95, 100),
    "resize": (0.5, 0.6, 0.7, 0.8, 0.9, 1.0),
}
"""Steps of each sweep: JPEG quality as libjpeg counts it, and the factor of both sides."""


@dataclass(frozen=True)
class Variant:
    """One thing done to every picture.

    Attributes:
        name: of a profile of `model.compress.PROFILES`, or "jpeg-50", "resize-0.5" and so on.
        kind: what `value` means.
        value: the sweep's step; 0 for a profile.
    """

    name: str
    kind: Kind
    value: float = 0.0

    def apply(self, image: Image.Image) -> Image.Image:
        """The changed picture, of another size where the variant resizes.

        Args:
            image: RGB, original pixels; not changed.
        """
        if self.kind == "profile":
            return deliver(image, PROFILES[self.name])
        if self.kind == "jpeg":
            return recompressed(image, round(self.value))
        return rescaled(image, self.value)


def variants(profiles: Sequence[str] = (), sweeps: Sequence[str] = ()) -> tuple[Variant, ...]:
    """What the names stand for, profiles first, each once.

    Args:
        profiles: names of `model.compress.PROFILES`; "none", the picture as it is, needs no variant.
        sweeps: names of `SWEEPS`.

    Raises:
        InvalidInput: an unknown name.
    """
    _refuse_unknown("profile", profiles, [AS_IS, *PROFILES])
    _refuse_unknown("sweep", sweeps, list(SWEEPS))
    found = [Variant(name, "profile") for name in dict.fromkeys(profiles) if name != AS_IS]
    if "jpeg" in sweeps:
        found += [Variant(f"jpeg-{quality:g}", "jpeg", quality) for quality in SWEEPS["jpeg"]]
    if "resize" in sweeps:
        found += [Variant(f"resize-{factor:g}", "resize", factor) for factor in SWEEPS["resize"]]
    return tuple(found)


def _refuse_unknown(what: str, names: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise InvalidInput(f"unknown {what} {', '.join(unknown)}; there are: {', '.join(known)}")
