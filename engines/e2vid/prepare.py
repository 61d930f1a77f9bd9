"""From a voxel grid to what the networks take: normalised over the cells that events touched, and padded.

E2VID and FireNet were trained on grids whose non-zero cells have mean 0 and standard deviation 1 (``"legacy"``, as the
training code of their successors calls it); E2VID+ and FireNet+ take them as they are (``"none"``). The published E2VID
code pads by reflection, that of its successors by zeros.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution

BINS = 5
MULTIPLE = 8
"""E2VID's sides are padded to multiples of this."""

SMALLEST = 8
"""Pixels of the shortest side: what is reflected must be there."""

LEAST_DEVIATION = 1e-6
"""A grid whose cells are all alike becomes zeros, not infinities."""

Normalisation: TypeAlias = Literal["legacy", "none"]
Padding: TypeAlias = Literal["reflect", "zeros", "none"]


def margins(side: int, padding: Padding) -> tuple[int, int]:
    """Pixels added before and after a side of this many; where they are odd the one before has more."""
    missing = 0 if padding == "none" else -side % MULTIPLE
    return (missing + 1) // 2, missing // 2


def padded(resolution: Resolution, padding: Padding) -> tuple[int, int]:
    """(height, width) of what the network takes for a sensor of this size."""
    width, height = resolution
    return height + sum(margins(height, padding)), width + sum(margins(width, padding))


@kernel(fastmath=True)
def _moments(cells: Array) -> tuple[int, float, float]:
    """How many cells are not zero, their sum, and the sum of their squares."""
    touched, total, squares = 0, 0.0, 0.0
    for i in range(cells.size):
        value = float(cells[i])
        touched += int(value != 0.0)
        total += value
        squares += value * value
    return touched, total, squares


@kernel()
def _place(voxel: Array, mean: np.float32, scale: np.float32, top: int, left: int, reflect: bool, out: Array) -> None:
    """``(v - mean) * scale`` of the cells that are not zero into the middle of ``out``, whose margins are mirrored
    about the outermost pixels or stay as they are."""
    bins, height, width = voxel.shape
    right, bottom = out.shape[2] - left - width, out.shape[1] - top - height
    for b in range(bins):
        plane = out[b]
        for y in range(height):
            row, taken = plane[top + y], voxel[b, y]
            for x in range(width):
                value = taken[x]
                row[left + x] = (value - mean) * scale if value != 0 else np.float32(0)
            if reflect:
                for i in range(left):
                    row[left - 1 - i] = row[left + 1 + i]
                for i in range(right):
                    row[left + width + i] = row[left + width - 2 - i]
        if reflect:
            for i in range(top):
                plane[top - 1 - i] = plane[top + 1 + i]
            for i in range(bottom):
                plane[top + height + i] = plane[top + height - 2 - i]


class Preparer:
    """Makes a network's input for one sensor size, in a buffer of its own. Not thread-safe."""

    def __init__(self, resolution: Resolution, normalisation: Normalisation, padding: Padding) -> None:
        width, height = resolution
        if min(resolution) < SMALLEST:
            raise InputError(f"{width}x{height}: too small for this network, which takes at least {SMALLEST} pixels")
        self.shape = (BINS, height, width)
        """Of the voxel grids that are taken."""
        self._legacy, self._reflect = normalisation == "legacy", padding == "reflect"
        self._top, self._left = margins(height, padding)[0], margins(width, padding)[0]
        self._out = np.zeros((1, BINS, *padded(resolution, padding)), np.float32)

    def prepare(self, voxel: Array) -> Array:
        """The input (1, 5, padded H, padded W), float32, of a raw grid (5, H, W), float32 in C order. Valid until the
        next call and as long as ``voxel`` is. Raises ``InputError`` for a grid of another shape."""
        if voxel.shape != self.shape or voxel.dtype != np.float32:
            raise InputError(f"a float32 voxel grid of {self.shape} wanted, got {voxel.dtype} {voxel.shape}")
        if not self._legacy and self._out.shape[1:] == self.shape:
            return voxel[None]
        mean, deviation = 0.0, 1.0
        if self._legacy:
            touched, total, squares = _moments(voxel.reshape(-1))
            if touched:
                mean = total / touched
                deviation = max(math.sqrt(max(squares / touched - mean * mean, 0.0)), LEAST_DEVIATION)
        scale = np.float32(1 / deviation)
        _place(voxel, np.float32(mean), scale, self._top, self._left, self._reflect, self._out[0])
        return self._out
