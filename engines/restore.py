"""From a double integral and a blurred picture to a sharp picture without the sensor's noise in it."""

from __future__ import annotations

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array


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


@kernel()
def restore(
    blurred: Array, logs: Array, ratio: Array, support: Array, offset: float, reach: float, white: float, sharp: Array
) -> None:
    """Write ``sharp`` (H, W, C), same dtype as ``blurred``: (blurred + offset) / exp(ratio) - offset, cleaned.

    ``logs`` float32 (H, W): log(grey + offset). The sharp log intensity is averaged over 3x3 pixels, each weighing
    less the further it is off in units of ``reach``; only where events were, the more the better supported. A pixel
    without events in its neighbourhood keeps its value bit for bit.
    """
    height, width, channels = blurred.shape
    for y in range(height):
        for x in range(width):
            q = y * width + x
            n = support[q]
            if n == 0:
                for k in range(channels):
                    sharp[y, x, k] = blurred[y, x, k]
                continue
            own = logs[y, x] - ratio[q]
            total = own
            weight = 1.0
            for j in range(max(y - 1, 0), min(y + 2, height)):
                for i in range(max(x - 1, 0), min(x + 2, width)):
                    if i == x and j == y:
                        continue
                    other = logs[j, i] - ratio[j * width + i]
                    off = (other - own) / reach
                    w = (0.6 if i == x or j == y else 0.4) / (1.0 + off * off) ** 2
                    total += w * other
                    weight += w
            trust = min(1.0, n / 6.0)
            clean = logs[y, x] + trust * (total / weight - logs[y, x])
            factor = np.exp(clean - logs[y, x])
            for k in range(channels):
                value = (float(blurred[y, x, k]) + offset) * factor - offset
                sharp[y, x, k] = np.round(min(max(value, 0.0), white))
