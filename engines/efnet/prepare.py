"""From a window to EFNet's inputs as the checkpoint was trained: picture, events, mask, padded to the size it takes.

Order matters: mask and normalisation are made of the whole sensor's tensor, the padding comes after both: the picture
mirrored at its lower and right edges (the edge pixel twice), events and mask zero there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution
from rtpipe.window.mask import closed_mask, davis_mask

BINS = 6
MULTIPLE = 4
"""The sides of what the network is given are multiples of this."""

ColorOrder = Literal["bgr", "rgb"]
Norm = Literal["maxabs", "robust", "meanstd"]
Masking = Literal["none", "closed", "davis"]
Rounding = Literal["nearest", "truncate"]

LOW, HIGH = 35, 65
"""Percentiles that the robust normalisation clips to."""
MOST_LEVELS = 1 << 20
TINY = np.float32(1e-6)
"""What is smaller is rounding in a grid, where the definition has zero; an event that counts at all leaves more."""


@dataclass(frozen=True, slots=True)
class Route:
    """What lies between a frame and the network, and back. ``color_order`` of the picture's channels; ``norm`` of the
    events; ``mask``: none, where any channel is not zero, closed 3x3, or where the channels do not add up to zero;
    ``rounding`` of the result."""

    color_order: ColorOrder = "bgr"
    norm: Norm = "maxabs"
    mask: Masking = "closed"
    rounding: Rounding = "nearest"


def padded(resolution: Resolution) -> tuple[int, int]:
    """(height, width) of what the network is given for pictures of this ``resolution``."""
    width, height = resolution
    return height + -height % MULTIPLE, width + -width % MULTIPLE


class Inputs:
    """The network's input arrays for pictures of one size, made once and filled for every window.

    ``arrays``: image (1, 3, H, W) from 0 to 1, events (1, 6, H, W), and the mask (1, 1, H, W) where the route has one;
    float32, sides padded to multiples of 4. Not thread-safe.
    """

    def __init__(self, route: Route, resolution: Resolution) -> None:
        self.route, self.resolution = route, resolution
        width, height = resolution
        high, wide = padded(resolution)
        channels = (3, BINS) if route.mask == "none" else (3, BINS, 1)
        self.arrays = [np.zeros((1, count, high, wide), np.float32) for count in channels]
        self._rows = np.pad(np.arange(height), (0, high - height), mode="symmetric")
        self._columns = np.pad(np.arange(width), (0, wide - width), mode="symmetric")

    def fill(self, image: Array, tensor: Array, mask: Array | None = None) -> bool:
        """Fill ``arrays`` from a frame's ``image`` (8 or 16 bits, grey or BGR) and a window's raw ``tensor`` (6, H, W);
        ``mask`` (H, W) is the closed one where the window has it already. False where the events say nothing at all.
        Raises ``InputError`` for what does not fit."""
        width, height = self.resolution
        wanted = (height, width)
        if image.dtype not in (np.uint8, np.uint16) or image.shape not in (wanted, (*wanted, 3)):
            raise InputError(f"efnet takes grey or BGR pictures {width}x{height}, not {image.dtype} {image.shape}")
        if tensor.shape != (BINS, *wanted) or tensor.dtype != np.float32:
            raise InputError(f"efnet takes float32 tensors {(BINS, *wanted)}, not {tensor.dtype} {tensor.shape}")
        fill_picture(image, self.route.color_order, self._rows, self._columns, self.arrays[0][0])
        tensor = np.ascontiguousarray(tensor)
        if self.route.mask == "closed":
            self.arrays[2][0, 0, :height, :width] = closed_mask(tensor) if mask is None else mask
        elif self.route.mask == "davis":
            bounds = robust_bounds(tensor) if self.route.norm == "robust" else (0.0, 0.0)
            self.arrays[2][0, 0, :height, :width] = davis_mask(tensor, bounds)
        return normalise(tensor, self.route.norm, self.arrays[1][0])


def fill_picture(image: Array, order: ColorOrder, rows: Array, columns: Array, out: Array) -> None:
    """``image`` as parts of white into ``out`` float32 (3, len(rows), len(columns)); grey goes into all three."""
    white = int(np.iinfo(image.dtype).max)
    table = np.arange(white + 1, dtype=np.float32) / np.float32(white)
    view = np.ascontiguousarray(image).reshape(*image.shape[:2], -1).view()
    view.flags.writeable = False  # however it came: one compiled kernel for all
    channels = (0, 0, 0) if view.shape[2] == 1 else ((0, 1, 2) if order == "bgr" else (2, 1, 0))
    _picture(view, table, channels, rows, columns, out)


@kernel()
def _picture(
    image: Array, table: Array, channels: tuple[int, int, int], rows: Array, columns: Array, out: Array
) -> None:
    first, second, third = channels
    for y in range(rows.size):
        row = image[rows[y]]
        for x in range(columns.size):
            pixel = row[columns[x]]
            out[0, y, x] = table[pixel[first]]
            out[1, y, x] = table[pixel[second]]
            out[2, y, x] = table[pixel[third]]


def normalise(tensor: Array, norm: Norm, out: Array) -> bool:
    """``tensor`` float32 (C, H, W), C-contiguous, normalised into the upper left of ``out`` float32 (C, >=H, >=W).

    ``"maxabs"``: over its greatest absolute value. ``"robust"``: clipped to its 35th and 65th percentiles, then over
    the greatest absolute value (plus 1e-6); as it is where both percentiles are zero. ``"meanstd"``: cells that are not
    zero less their mean, over their standard deviation. What has no scale (empty, or one value in each cell that
    ``"meanstd"`` is to divide) becomes zeros, and False is returned.
    """
    low, high = _extent(tensor)
    if not (low < 0 or high > 0):
        out[:] = 0
        return False
    if norm == "meanstd":
        mean, deviation = _moments(tensor)
        _standardise(tensor, mean, deviation, out)
        return bool(deviation > 0)
    most = max(-low, high)
    if norm == "robust":
        lowest, highest = robust_bounds(tensor)
        if lowest == 0 and highest == 0:
            most = np.float32(1)
        else:
            low, high = np.float32(lowest), np.float32(highest)
            most = np.float32(max(abs(lowest), abs(highest)) + 1e-6)
    _scale(tensor, low, high, most, out)
    return True


def robust_bounds(tensor: Array) -> tuple[float, float]:
    """The 35th and the 65th percentile of all cells of a tensor of counts: of n sorted cells the k-th, where
    k = 1 + round(q (n - 1) / 100), half to even."""
    low, high = _extent(tensor)
    ranks = [round(0.01 * q * (tensor.size - 1)) for q in (LOW, HIGH)]
    if high - low >= MOST_LEVELS:  # no counts of events
        ordered = np.partition(tensor, ranks, axis=None)
        return float(ordered[ranks[0]]), float(ordered[ranks[1]])
    tally = np.zeros(int(high) - int(low) + 1, np.int64)
    _tally(tensor, int(low), tally)
    below = np.cumsum(tally)
    return tuple(float(low) + int(np.searchsorted(below, rank, side="right")) for rank in ranks)  # type: ignore[return-value]


@kernel(fastmath=True)
def _extent(tensor: Array) -> tuple[np.float32, np.float32]:
    low, high = np.float32(0), np.float32(0)
    flat = tensor.reshape(tensor.size)
    for i in range(flat.size):
        low = min(low, flat[i])
        high = max(high, flat[i])
    return low, high


@kernel()
def _tally(tensor: Array, low: int, tally: Array) -> None:
    for value in tensor.ravel():
        tally[np.int64(value) - low] += 1


@kernel()
def _scale(tensor: Array, low: np.float32, high: np.float32, most: np.float32, out: Array) -> None:
    channels, height, width = tensor.shape
    for c in range(channels):
        for y in range(height):
            row, target = tensor[c, y], out[c, y]
            for x in range(width):
                target[x] = min(max(row[x], low), high) / most


@kernel(fastmath={"reassoc", "contract"})
def _moments(tensor: Array) -> tuple[float, float]:
    """Mean and standard deviation of the cells that are not zero; a deviation of 0 where there is none to speak of."""
    flat = tensor.reshape(tensor.size)
    n, total, squares = 0, 0.0, 0.0
    for i in range(flat.size):
        counts = abs(flat[i]) > TINY
        n += counts
        total += float(flat[i]) if counts else 0.0
    if n == 0:
        return 0.0, 0.0
    mean = total / n
    for i in range(flat.size):
        squares += (flat[i] - mean) ** 2 if abs(flat[i]) > TINY else 0.0
    deviation = np.sqrt(squares / n)
    return mean, deviation if deviation > 1e-6 * abs(mean) else 0.0


@kernel()
def _standardise(tensor: Array, mean: float, deviation: float, out: Array) -> None:
    channels, height, width = tensor.shape
    for c in range(channels):
        for y in range(height):
            row, target = tensor[c, y], out[c, y]
            for x in range(width):
                value = row[x]
                counts = abs(value) > TINY and deviation > 0
                target[x] = (value - mean) / deviation if counts else 0.0
