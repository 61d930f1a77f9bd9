"""From a double integral and a blurred picture to a sharp picture without the sensor's noise in it."""

from __future__ import annotations

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array

SPECK = 0.5
"""A pixel brighter or darker than all its neighbours but one may be so by this many times the filter's reach."""

NEAR, FAR = np.float32(0.6), np.float32(0.4)
"""Weights of the filter's neighbours along and across, its centre being 1."""

SPARSE = np.float32(1 / 6)
"""Trust in the events for each one within 3x3 pixels; the rest goes to the blurred picture."""


@kernel()
def log_ratio(state: Array, at: Array, seen: Array, length: float, width: int, out: Array, support: Array) -> None:
    """Log of mean over sharp intensity, float32 (P,), for one instant; ``support`` uint16 (P,): events in 3x3 pixels.

    A pixel that fires alone, or far more than the eight around it, is a hot pixel or noise: it takes their mean.
    ``state``, ``seen`` as :func:`engines.integral.integrate` fills them, ``at`` float64 (P,) of that instant.
    """
    pixels = out.size
    height = pixels // width
    for q in range(pixels):
        out[q] = np.log(state[q, 2] / (length * at[q])) if seen[q] else 0.0
    for y in range(height):
        for x in range(width):
            q = y * width + x
            around = 0
            n = 0
            total = 0.0
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    p = j * width + i
                    if p != q:
                        around += seen[p] >> 2
                        total += out[p]
                        n += 1
            own = seen[q] >> 2
            if own and (around == 0 or (own >= 8 and own * n > 4 * (around + n))):
                out[q] = total / n
                own = 0
            support[q] = min(around + own, 0xFFFF)


@kernel(fastmath=True)
def restore(
    blurred: Array, logs: Array, ratio: Array, support: Array, offset: float, reach: float, white: float, sharp: Array
) -> None:
    """Write ``sharp`` (H, W, C), same dtype as ``blurred``: (blurred + offset) / exp(ratio) - offset, cleaned.

    ``logs`` float32 (H, W): log(grey + offset). ``ratio`` float32 (H, W), overwritten. The sharp log intensity is freed
    of single specks, then averaged over 3x3 pixels, each weighing less the further it is off in units of ``reach``, and
    drawn to the blurred picture where events are few. A pixel without any around it keeps its value bit for bit.
    """
    height, width, channels = blurred.shape
    margin = np.float32(SPECK * reach)
    narrow = np.float32(1 / reach)
    one = np.float32(1)
    for y in range(height):
        for x in range(width):
            ratio[y, x] = logs[y, x] - ratio[y, x]
    for y in range(height):
        for x in range(width):
            n = support[y * width + x]
            if n == 0:
                for k in range(channels):
                    sharp[y, x, k] = blurred[y, x, k]
                continue
            top = second = np.float32(-1e9)
            low = third = np.float32(1e9)
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    if i != x or j != y:
                        other = ratio[j, i]
                        second = max(second, min(top, other))
                        top = max(top, other)
                        third = min(third, max(low, other))
                        low = min(low, other)
            own = min(max(ratio[y, x], third - margin), second + margin)
            total = own
            weight = one
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    if i != x or j != y:
                        other = ratio[j, i]
                        off = (other - own) * narrow
                        fall = one + off * off
                        w = (NEAR if i == x or j == y else FAR) / (fall * fall)
                        total += w * other
                        weight += w
            trust = min(one, np.float32(n) * SPARSE)
            factor = np.exp(trust * (total / weight - logs[y, x]))
            for k in range(channels):
                value = (float(blurred[y, x, k]) + offset) * factor - offset
                sharp[y, x, k] = np.round(min(max(value, 0.0), white))
