"""From voxel grids to what the network takes: as they are, gathered while hardly anything happens.

PIE-Net takes the grid of five bins raw, without normalisation; padding is part of its graph. It was trained on scenes
that move. Where nothing does, each step makes its picture worse: after some twenty empty grids a face is gone. So a
window of too few events is no step; its grid is added to those after it until there are enough, and none is lost.
"""

from __future__ import annotations

import numpy as np

from engines.pienet.weights import BINS
from rtpipe.errors import InputError
from rtpipe.types import Array, Resolution

SMALLEST = 20
"""Pixels of the shortest side: below this a level of the network has none."""


class Preparer:
    """Gathers grids of one sensor size. Not thread-safe. ``quiet``: events per 1000 pixels that make a step."""

    def __init__(self, resolution: Resolution, quiet: float) -> None:
        width, height = resolution
        if min(resolution) < SMALLEST:
            raise InputError(f"{width}x{height}: too small for PIE-Net, which takes at least {SMALLEST} pixels")
        self._shape = (BINS, height, width)
        self._enough = quiet * 1e-3 * width * height
        self._gathered = np.zeros(self._shape, np.float32)
        self._events = 0

    def reset(self) -> None:
        """Forget what was gathered."""
        if self._events:
            self._gathered.fill(0)
        self._events = 0

    def prepare(self, voxel: Array, n_events: int) -> Array | None:
        """The input (1, 5, H, W), float32, of a raw grid (5, H, W) of so many events, float32 in C order; None while
        there are too few. Valid until the next call and as long as ``voxel`` is.

        Raises ``InputError`` for a grid of another shape.
        """
        if voxel.shape != self._shape or voxel.dtype != np.float32 or not voxel.flags.c_contiguous:
            raise InputError(f"a float32 voxel grid of {self._shape} wanted, got {voxel.dtype} {voxel.shape}")
        if n_events + self._events < max(self._enough, 1):
            if n_events:
                self._gathered += voxel
                self._events += n_events
            return None
        if not self._events:
            return voxel[None]
        given = self._gathered + voxel
        self.reset()
        return given[None]
