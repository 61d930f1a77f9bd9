"""The last frame as what the complementary filter falls back to, and what frames tell of the contrast thresholds."""

from __future__ import annotations

import cv2
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, Frame

DARK, BRIGHT = 0.03, 0.97
"""Parts of white between which a frame is trusted fully; towards black and white, less and less."""

LEAST_TRUST = 0.1
"""Share of the cutoff that is left where the frame is black or white: there the picture comes from the events."""

LOWEST, HIGHEST = 0.02, 1.2
"""Thresholds are kept between these."""

STRENGTH = 3000.0
"""Pixels with one event, of each polarity, that the prior of the thresholds is worth."""

MEMORY = 300_000.0
"""Such pixels after which what was learned begins to fade."""

SPREAD = 0.35
"""Differences between two frames and their events (log intensity) beyond which a pixel weighs less and less."""

MOST = 16
"""Pixels with more events between two frames are left out: hot, or changed beyond what a frame shows."""


@kernel(fastmath=True)
def regress(before: Array, after: Array, counts: Array, trust: Array, on: float, off: float, sums: Array) -> None:
    """Normal equations of ``after - before = on * counts[:, 1] - off * counts[:, 0]`` over pixels with events.

    All flat; ``trust`` (P,) 1 where both frames show the pixel. Differences far from what ``on`` and ``off`` say weigh
    less, as do pixels with many events. Added to ``sums`` float64 (6,): on², on·off, off², on·d, off·d, and the
    weights' sum.
    """
    for q in range(before.size):
        n, m = np.float64(counts[q, 1]), np.float64(counts[q, 0])
        if n + m == 0 or n + m > MOST or trust[q] < 1:
            continue
        change = np.float64(after[q]) - np.float64(before[q])
        miss = (change - on * n + off * m) / SPREAD
        w = 1.0 / ((1.0 + miss * miss) * (n + m))
        sums[0] += w * n * n
        sums[1] -= w * n * m
        sums[2] += w * m * m
        sums[3] += w * n * change
        sums[4] -= w * m * change
        sums[5] += w


@kernel(fastmath=True)
def render(
    image: Array, levels: Array, logs: Array, cleaned: Array, narrow: float, offset: float, white: float, out: Array
) -> None:
    """Write ``out`` (H, W, C): (image + offset) * exp(level) - offset, cut to 0 and ``white``.

    ``levels``, ``logs`` float32 (H, W): what events say beyond the frame, and the frame's own log; ``cleaned`` float32
    (H + 2, W + 2): their sum without noise, which counts as far as ``abs(level) * narrow`` goes towards 1. A pixel
    whose level is 0 keeps its value.
    """
    height, width, channels = image.shape
    for y in range(height):
        for x in range(width):
            level = levels[y, x]
            trust = min(np.float32(1), abs(level) * np.float32(narrow))
            factor = np.exp(level + trust * (cleaned[y + 1, x + 1] - logs[y, x] - level))
            for k in range(channels):
                value = (np.float32(image[y, x, k]) + np.float32(offset)) * factor - np.float32(offset)
                out[y, x, k] = np.round(min(max(value, np.float32(0)), np.float32(white)))


class Reference:
    """The last frame, its log, and the running estimate of the thresholds. Depends on the sequence of windows alone."""

    def __init__(self, offset: float, prior: float) -> None:
        self._offset, self._prior = offset, prior
        self._tables: dict[np.dtype[np.generic], tuple[Array, Array]] = {}
        self.reset()

    def reset(self) -> None:
        """Forget the frame and the estimate."""
        self._image: Array | None = None
        self.logs = np.empty((0, 0), np.float32)
        """Log intensity of the frame, float32 (H, W)."""
        self._trust = self.logs
        self.on = self.off = self._prior
        """Thresholds as far as known, log intensity per event."""
        self._sums = np.zeros(6)

    @property
    def shown(self) -> bool:
        """Whether there was a frame."""
        return self._image is not None

    def take(self, frame: Frame, rate: float, gain: float, levels: Array, rates: Array, counts: Array) -> None:
        """Take in a frame (its image is copied). ``levels`` (P,) become those beyond it, less the share ``gain``;
        ``rates`` (P,) what it is trusted with, of ``rate``, as is ``gain``; ``counts`` (P, 2), the events since the
        frame before, are used and set to zero."""
        image = np.array(frame.image)
        grey = image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
        log_table, trust_table = self._table(image.dtype)
        logs, trust = log_table[grey], trust_table[grey]
        if self._image is not None and self._image.shape == image.shape:
            both = np.minimum(trust, self._trust).ravel()
            self._learn(self.logs.ravel(), logs.ravel(), counts, both)
            levels += (self.logs - logs).ravel()
            levels *= 1 - gain * trust.ravel()
        else:
            levels[:] = 0
        counts[:] = 0
        np.multiply(rate, LEAST_TRUST + (1 - LEAST_TRUST) * trust.ravel(), out=rates)
        self._image, self.logs, self._trust = image, logs, trust

    def picture(self, levels: Array, cleaned: Array, threshold: float) -> Array:
        """The frame with what events say beyond it, ``levels`` (H, W); a new array of the frame's shape and dtype."""
        assert self._image is not None
        height, width = self._image.shape[:2]
        white = float(np.iinfo(self._image.dtype).max)
        image = self._image.reshape(height, width, -1)
        out = np.empty_like(image)
        render(image, levels, self.logs, cleaned, 1 / threshold, self._floor(white), white, out)
        return out.reshape(self._image.shape)

    def _learn(self, before: Array, after: Array, counts: Array, trust: Array) -> None:
        sums = np.zeros(6)
        regress(before, after, counts, trust, self.on, self.off, sums)
        if sums[5] == 0:
            return
        self._sums += sums
        self._sums *= min(1.0, MEMORY / self._sums[5])
        # the prior as so many pixels with one event each, which moved as it says
        on2, cross, off2, on_change, off_change, _ = self._sums
        matrix = np.array([[on2 + STRENGTH, cross], [cross, off2 + STRENGTH]])
        right = np.array([on_change, off_change]) + STRENGTH * self._prior
        self.on, self.off = (float(each) for each in np.clip(np.linalg.solve(matrix, right), LOWEST, HIGHEST))

    def _floor(self, white: float) -> float:
        return max(self._offset * white, 0.25)

    def _table(self, dtype: np.dtype[np.generic]) -> tuple[Array, Array]:
        """By grey value: log intensity and how far the frame is trusted, both float32."""
        if dtype not in self._tables:
            white = int(np.iinfo(dtype).max)  # type: ignore[type-var]
            values = np.arange(white + 1)
            logs = np.log(values + self._floor(white)).astype(np.float32)
            part = values / white
            trust = np.clip(np.minimum(part / DARK, (1 - part) / (1 - BRIGHT)), 0, 1).astype(np.float32)
            self._tables[dtype] = logs, trust
        return self._tables[dtype]
