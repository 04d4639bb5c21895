"""The way of one batch: gathered on the host, sent, computed, brought back, while the batch before still computes.

The order of steps is the same on every device; `model.hardware` says what each of them means there.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.hardware import Hardware, Passage, Step


@dataclass(frozen=True)
class _Lane:
    """Buffers of one batch under way: its pictures on the host and on the device, its answers on the host."""

    gathered: Tensor
    sent: Tensor
    masks: Tensor
    logits: Tensor
    passage: Passage


@dataclass(frozen=True)
class _Size:
    """All that batches padded to one size need: the input they share, the work on it, and their lanes."""

    pictures: Tensor
    compute: Callable[[], tuple[Tensor, Tensor]]
    lanes: "queue.SimpleQueue[_Lane]"


class Staging:
    """Runs batches from as many threads as the hardware has lanes; more threads wait."""

    def __init__(self, step: Step, side_px: int, mask_side: int, hardware: Hardware) -> None:
        """Nothing is allocated or recorded for a size before its first batch.

        Args:
            step: the network, with rounded masks.
            side_px: S of the pictures [B, S, S, 3].
            mask_side: M of the masks [B, M, M].
            hardware: where it runs.
        """
        self.busy_s = 0.0
        self._step = step
        self._side_px, self._mask_side = side_px, mask_side
        self._hardware = hardware
        self._sizes: dict[int, _Size] = {}
        self._order = threading.Lock()

    def run(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """[S, S, 3] uint8 each to masks [B, M, M] uint8 and score logits [B] float32, the caller's own."""
        with torch.inference_mode():
            size = self._size(padded(len(pictures)) if self._hardware.fixed_shapes else len(pictures))
            lane = size.lanes.get()
            try:
                return self._through(lane, size, pictures)
            finally:
                size.lanes.put(lane)

    def _through(
        self, lane: _Lane, size: _Size, pictures: Sequence[NDArray[np.uint8]]
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        n = len(pictures)
        np.stack(pictures, out=lane.gathered.numpy()[:n])
        with lane.passage.sending():
            lane.sent[:n].copy_(lane.gathered[:n], non_blocking=True)
        # What an earlier batch left behind the n-th picture is computed, too, and not looked at.
        with self._order, lane.passage.computing():
            size.pictures[:n].copy_(lane.sent[:n])
            masks, logits = size.compute()
            lane.masks[:n].copy_(masks[:n], non_blocking=True)
            lane.logits[:n].copy_(logits[:n], non_blocking=True)
        computed_s = lane.passage.wait()
        with self._order:
            self.busy_s += computed_s
        return lane.masks[:n].numpy().copy(), lane.logits[:n].numpy().copy()

    def _size(self, count: int) -> _Size:
        with self._order:
            if count not in self._sizes:
                self._sizes[count] = self._made(count)
            return self._sizes[count]

    def _made(self, count: int) -> _Size:
        side_px = self._side_px
        pictures = self._hardware.device_buffer(count, side_px, side_px, 3, dtype=torch.uint8)
        lanes: queue.SimpleQueue[_Lane] = queue.SimpleQueue()
        for _ in range(self._hardware.lanes):
            lanes.put(self._lane(count))
        return _Size(pictures, self._hardware.record(self._step, pictures), lanes)

    def _lane(self, count: int) -> _Lane:
        hardware, side_px, mask_side = self._hardware, self._side_px, self._mask_side
        return _Lane(
            gathered=hardware.host_buffer(count, side_px, side_px, 3, dtype=torch.uint8),
            sent=hardware.device_buffer(count, side_px, side_px, 3, dtype=torch.uint8),
            masks=hardware.host_buffer(count, mask_side, mask_side, dtype=torch.uint8),
            logits=hardware.host_buffer(count, dtype=torch.float32),
            passage=hardware.passage(),
        )


def padded(count: int) -> int:
    """The next power of two: few sizes, so that the work on each is recorded once."""
    return 1 << (count - 1).bit_length()
