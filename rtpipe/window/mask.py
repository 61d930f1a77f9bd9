"""Masks of EFNet: where a SCER tensor says that something happened."""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array


@kernel()
def _closed(tensor: Array, active: Array, wide: Array, mask: Array) -> None:
    """3x3 closing in separable passes; ``active`` and ``wide`` have a border of one pixel."""
    channels, height, width = tensor.shape
    active[:, :] = 0
    for y in range(height):
        row = active[y + 1, 1 : width + 1]
        for c in range(channels):
            values = tensor[c, y]
            for x in range(width):
                row[x] |= np.uint8(values[x] != 0)
    # dilation: outside counts as empty
    for y in range(1, height + 1):
        above, here, below, out = active[y - 1], active[y], active[y + 1], wide[y]
        for x in range(1, width + 1):
            out[x] = (
                above[x - 1] | above[x] | above[x + 1] | here[x - 1] | here[x] | here[x + 1]
                | below[x - 1] | below[x] | below[x + 1]
            )  # fmt: skip
    # erosion: outside counts as full
    wide[0, :] = 1
    wide[height + 1, :] = 1
    for y in range(1, height + 1):
        wide[y, 0] = 1
        wide[y, width + 1] = 1
    for y in range(1, height + 1):
        above, here, below, out = wide[y - 1], wide[y], wide[y + 1], mask[y - 1]
        for x in range(1, width + 1):
            out[x - 1] = (
                above[x - 1] & above[x] & above[x + 1] & here[x - 1] & here[x] & here[x + 1]
                & below[x - 1] & below[x] & below[x + 1]
            )  # fmt: skip


def closed_mask(tensor: Array, *, out: Array | None = None) -> Array:
    """1 where any channel is not zero, then closed with a 3x3 square (as EFNet stores it), uint8 (H, W) 0/1.

    ``tensor``: raw counts, float32 (C, H, W). ``out`` is filled and returned where given.
    """
    _, height, width = tensor.shape
    mask = np.empty((height, width), np.uint8) if out is None else out
    if mask.shape != (height, width) or mask.dtype != np.uint8 or not mask.flags.c_contiguous:
        raise InputError(f"out: a C-ordered uint8 array of shape {(height, width)} wanted")
    active, wide = np.empty((2, height + 2, width + 2), np.uint8)
    _closed(tensor, active, wide, mask)
    return mask


def davis_mask(tensor: Array, bounds: tuple[float, float] = (0.0, 0.0)) -> Array:
    """1 where the channels do not add up to zero (EFNet's DAVIS346 demo), uint8 (H, W) 0/1.

    ``tensor``: raw counts, float32 (C, H, W). ``bounds``: what the robust normalisation clips to; ``(0, 0)``, where it
    leaves the tensor alone, clips nothing. Decided on the clipped counts, where rounding cannot make a zero.
    """
    low, high = bounds
    counts = tensor if low == 0 and high == 0 else np.clip(tensor, low, high)
    mask: Array = (counts.sum(axis=0) != 0).astype(np.uint8)
    return mask
