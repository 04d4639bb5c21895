"""How many items one call takes: found when a device is new, halved when its memory runs out, tried larger again later."""

import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from schemas.errors import DeviceMemoryFull

log = logging.getLogger(__name__)

CPU_BATCH: Final = 16
"""Where larger batches gain nothing; see docs/adr/0005-openvino-streams.md for why it is not less."""
LARGEST: Final = 128
"""More threads than twice this fetch and decode for a device; no gain is worth them."""
WORTH: Final = 1.05
"""A doubled batch must bring this many times the rate, or the smaller one, which answers sooner, is taken."""
_PATIENCE: Final = 64
_LONGEST_PATIENCE: Final = 4096


@dataclass(frozen=True)
class Trial:
    """What one batch size brought: pictures a second, and the share of the device's memory in use after it, 0 to 1."""

    rate: float
    memory_share: float


def doublings(try_size: Callable[[int], Trial], memory_share: float, largest: int = LARGEST) -> Iterator[tuple[int, Trial]]:
    """Try 1, 2, 4 … for as long as memory allows.

    Args:
        try_size: measures a size; may raise DeviceMemoryFull.
        memory_share: of the device's memory that may be used; the size that exceeds it is the last one tried, and not given.
        largest: size to end at.

    Raises:
        DeviceMemoryFull: not even one picture fits.
    """
    size = 1
    while size <= largest:
        try:
            trial = try_size(size)
        except DeviceMemoryFull:
            if size == 1:
                raise
            return
        if trial.memory_share > memory_share and size > 1:
            return
        yield size, trial
        size *= 2


def best_batch(try_size: Callable[[int], Trial], memory_share: float, largest: int = LARGEST) -> int:
    """The smallest power of two whose double is hardly faster, as `doublings` tries them.

    Raises:
        DeviceMemoryFull: not even one picture fits.
    """
    best, best_rate = 1, 0.0
    for size, trial in doublings(try_size, memory_share, largest):
        log.info("a batch of %d: %.1f pictures/s, %.0f %% of the device's memory", size, trial.rate, 100 * trial.memory_share)
        if trial.rate < WORTH * best_rate:
            break
        best, best_rate = size, trial.rate
    log.info("batches of up to %d pictures", best)
    return best


class FittingSize:
    """The largest size that calls keep to: half of what did not fit, and twice as much again when all has long gone well.

    May be told of calls from several threads.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.now = most
        self._went_well = 0
        self._patience = _PATIENCE
        self._trying = False
        self._gate = threading.Lock()

    def ran_out(self, size: int) -> None:
        """A call of this size found no memory. Each time that trying more ends so, it is left alone for twice as long."""
        with self._gate:
            if size == 1 or self.now < size:
                return  # nothing to halve, or a call begun before the last halving
            self.now = size // 2
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE) if self._trying else _PATIENCE
            self._went_well, self._trying = 0, False
        log.warning("the device's memory does not hold %d pictures; going on with %d at a time", size, self.now)

    def fitted(self, size: int) -> None:
        """A call of this size went well."""
        with self._gate:
            if self.now == self.most or size < self.now:
                return
            self._went_well += 1
            if self._went_well < self._patience:
                return
            self.now = min(self.most, 2 * self.now)
            self._went_well, self._trying = 0, True
        log.info("trying %d pictures at a time again", self.now)
