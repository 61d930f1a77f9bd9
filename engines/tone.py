"""From levels of log intensity to a picture for people: specks out, noise smoothed, tones that do not flicker."""

from __future__ import annotations

import math

import numpy as np

from engines.decay import LIMIT
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution

BINS = 1024
"""Levels are told apart this finely when their tones are chosen."""

LOWEST, HIGHEST = 0.025, 0.985
"""Shares of the touched pixels that are darker than black and not brighter than white."""

NARROWEST = 4.0
"""Contrast thresholds from black to white at least: quiet scenes are not blown up into noise."""

SETTLING_US = 400_000
"""Time constant (µs of the camera) with which black and white follow the scene."""

SPECK = 0.1
"""Thresholds by which a pixel may stand out from all of its neighbours but one."""

PASSES = 2
"""How often the picture is smoothed."""

NEAR, FAR = 0.7, 0.5
"""Weights of the neighbours along and across, the centre being 1."""


@kernel(fastmath=True)
def unspeckle(src: Array, margin: float, out: Array) -> None:
    """Bring every pixel to at most ``margin`` beyond the second highest and the second lowest of its eight neighbours:
    a speck goes, an edge and a line stay. Float32 (H + 2, W + 2) with a rim; the rim of ``out`` is not written."""
    height, width = src.shape[0] - 2, src.shape[1] - 2
    reach = np.float32(margin)
    for y in range(height):
        up, mid, low, row = src[y], src[y + 1], src[y + 2], out[y + 1]
        for x in range(width):
            a, b, c, d = up[x], up[x + 1], up[x + 2], mid[x]
            e, f, g, h = mid[x + 2], low[x], low[x + 1], low[x + 2]
            first, second = max(a, b), min(a, b)
            last, other = second, first
            second = max(second, min(first, c))
            first = max(first, c)
            other = min(other, max(last, c))
            last = min(last, c)
            second = max(second, min(first, d))
            first = max(first, d)
            other = min(other, max(last, d))
            last = min(last, d)
            second = max(second, min(first, e))
            first = max(first, e)
            other = min(other, max(last, e))
            last = min(last, e)
            second = max(second, min(first, f))
            first = max(first, f)
            other = min(other, max(last, f))
            last = min(last, f)
            second = max(second, min(first, g))
            first = max(first, g)
            other = min(other, max(last, g))
            last = min(last, g)
            second = max(second, min(first, h))
            other = min(other, max(last, h))
            row[x + 1] = min(max(mid[x + 1], other - reach), second + reach)


@kernel(fastmath=True)
def smooth(src: Array, reach: float, out: Array) -> None:
    """Average over 3x3 pixels, each weighing less the further its level is off in units of ``reach``. Shapes as for
    :func:`unspeckle`."""
    height, width = src.shape[0] - 2, src.shape[1] - 2
    narrow = np.float32(1 / reach)
    one, near, far = np.float32(1), np.float32(NEAR), np.float32(FAR)
    for y in range(height):
        up, mid, low, row = src[y], src[y + 1], src[y + 2], out[y + 1]
        for x in range(width):
            own = mid[x + 1]
            total = own
            weight = one
            for value, share in (
                (up[x], far), (up[x + 1], near), (up[x + 2], far), (mid[x], near),
                (mid[x + 2], near), (low[x], far), (low[x + 1], near), (low[x + 2], far),
            ):  # fmt: skip
                off = (value - own) * narrow
                fall = one + off * off
                w = share / (fall * fall)
                total += w * value
                weight += w
            row[x + 1] = total / weight


@kernel(fastmath=True)
def _bin(level: float) -> int:
    at = (np.float32(level) + np.float32(LIMIT)) * np.float32(BINS / (2 * LIMIT))
    return int(min(max(at, np.float32(0)), np.float32(BINS - 1)))


@kernel(fastmath=True)
def _count(plane: Array, least: float, histogram: Array) -> None:
    histogram[:] = 0
    for y in range(1, plane.shape[0] - 1):
        for x in range(1, plane.shape[1] - 1):
            level = plane[y, x]
            if abs(level) >= least:
                histogram[_bin(level)] += 1


@kernel(fastmath=True)
def _draw(plane: Array, table: Array, image: Array) -> None:
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            image[y, x] = table[_bin(plane[y + 1, x + 1])]


class Cleaner:
    """Frees planes of one size from specks and noise. Not thread-safe; keeps its buffers."""

    def __init__(self, resolution: Resolution) -> None:
        width, height = resolution
        self._planes = [np.zeros((height + 2, width + 2), np.float32) for _ in range(2)]

    def clean(self, levels: Array, threshold: float, strength: float) -> Array:
        """``levels`` float32 (H, W) without specks and smoothed within ``strength`` thresholds: (H + 2, W + 2) with a
        rim, a buffer that the next call overwrites."""
        plane, spare = self._planes
        plane[1:-1, 1:-1] = levels
        if strength > 0:
            _rim(plane)
            unspeckle(plane, SPECK * threshold, spare)
            for _ in range(PASSES):
                _rim(spare)
                smooth(spare, strength * threshold, plane)
                plane, spare = spare, plane
            self._planes = [spare, plane]
            return spare
        return plane


def _rim(plane: Array) -> None:
    """Repeat the outermost pixels around the plane."""
    plane[0], plane[-1] = plane[1], plane[-2]
    plane[:, 0], plane[:, -1] = plane[:, 1], plane[:, -2]


class Tones:
    """Chooses black and white from what the scene shows, and follows it slowly. Not thread-safe.

    ``even``: levels are drawn as they are about a middle grey, not as the light they stand for.
    """

    def __init__(self, even: bool = False) -> None:
        self._even = even
        self._histogram = np.zeros(BINS, np.int64)
        self._centres = ((np.arange(BINS) + 0.5) / BINS * 2 - 1) * LIMIT
        self.reset()

    def reset(self) -> None:
        """Forget what was black and white."""
        self.black = self.white = 0.0
        """Levels drawn as 0 and as 255."""
        self._seen = 0

    def draw(self, plane: Array, threshold: float, elapsed_us: int) -> Array:
        """A new picture, uint8 (H, W), of ``plane`` as :meth:`Cleaner.clean` returns it: the light that levels stand
        for, exp(level), from black to white. ``elapsed_us`` since the picture before."""
        _count(plane, 0.25 * threshold, self._histogram)
        self._follow(threshold, elapsed_us)
        curve = np.array if self._even else np.exp
        dark, bright = curve(self.black), curve(self.white)
        table = (curve(self._centres) - dark) * (255 / (bright - dark))
        image = np.empty((plane.shape[0] - 2, plane.shape[1] - 2), np.uint8)
        _draw(plane, np.clip(np.rint(table), 0, 255).astype(np.uint8), image)
        return image

    def _follow(self, threshold: float, elapsed_us: int) -> None:
        total = int(self._histogram.sum())
        black = white = 0.0
        if total:
            below = np.cumsum(self._histogram)
            lowest, highest = (int(at) for at in np.searchsorted(below, [LOWEST * total, HIGHEST * total]))
            black, white = float(self._centres[lowest]), float(self._centres[min(highest, BINS - 1)])
        short = NARROWEST * threshold - (white - black)
        if short > 0:
            black, white = black - short / 2, white + short / 2
        black, white = min(black, -threshold), max(white, threshold)
        if self._even:
            white = max(-black, white)
            black = -white
        self._seen += 1
        share = max(1 / self._seen, 1 - math.exp(-elapsed_us / SETTLING_US))
        self.black += share * (black - self.black)
        self.white += share * (white - self.white)
