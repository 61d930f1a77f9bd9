"""The kernels behind :mod:`engines.contrast`: what one small block of pixels says of the thresholds."""

from __future__ import annotations

import math

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array


@kernel()
def busy(dt: Array, x: Array, yp: Array, offset: int, length: int, cells: Array, cell: int) -> None:
    """Count the exposure's events in square cells of ``cell`` pixels: ``cells`` int64, filled."""
    cells[:] = 0
    origin = np.int64(offset)
    for i in range(dt.size):
        now = origin + np.int64(dt[i])
        if 0 <= now < length:
            cells[(np.int64(yp[i]) & 0x7FFF) // cell, np.int64(x[i]) // cell] += 1


@kernel()
def probe(
    dt: Array,
    x: Array,
    yp: Array,
    offset: int,
    length: int,
    width: int,
    slots: Array,
    steps: Array,
    tables: Array,
    instants: Array,
    state: Array,
    tags: Array,
    at: Array,
    out: Array,
) -> tuple[int, int]:
    """R of both instants (``out`` float32 (2, 3, n or more)) for three pairs of thresholds at once, in the n pixels
    that have a slot (``state`` and ``tags`` have n rows).

    Returns the numbers of on and off events in these pixels.
    """
    n = state.shape[0]
    counts = np.zeros(2, np.int64)
    state[:, 0] = 0.0
    state[:, 1:4] = 1.0
    state[:, 4:] = 0.0
    tags[:] = 0
    origin = np.int64(offset)
    for i in range(dt.size):
        now = origin + np.int64(dt[i])
        if now < 0:
            continue
        if now >= length:
            break
        packed = np.int64(yp[i])
        q = np.int64(slots[(packed & 0x7FFF) * width + np.int64(x[i])])
        if q < 0:
            continue
        polarity = packed >> 15
        row = 3 * np.int64(tags[q]) + 1 + polarity
        counts[polarity] += 1
        since = state[q, 0]
        t = np.float64(now)
        for k in range(2):
            f = instants[k]
            if since <= f < t:
                u = (f - since) / (t - since)
                for j in range(3):
                    at[k, j, q] = state[q, 1 + j] * np.exp(u * (tables[j, row, 1] + u * tables[j, row, 2]))
        for j in range(3):
            state[q, 4 + j] += state[q, 1 + j] * tables[j, row, 0] * (t - since)
            state[q, 1 + j] *= steps[j, polarity]
        state[q, 0] = t
        tags[q] = 1 + polarity
    for p in range(n):
        row = 3 * np.int64(tags[p])
        since = state[p, 0]
        rest = length - since
        for k in range(2):
            f = instants[k]
            if f >= since:
                u = (f - since) / rest
                for j in range(3):
                    at[k, j, p] = state[p, 1 + j] * np.exp(u * (tables[j, row, 1] + u * tables[j, row, 2]))
        for j in range(3):
            total = state[p, 4 + j] + state[p, 1 + j] * tables[j, row, 0] * rest
            for k in range(2):
                out[k, j, p] = np.log(total / (length * at[k, j, p]))
    return counts[1], counts[0]


@kernel()
def gather(logs: Array, slots: Array, probed: Array, y0: int, x0: int, steps: Array, planes: Array) -> None:
    """Fill ``planes`` float32 (S, S, 7) of one block: log B, then R and its derivatives by on and off, at f1 and f2."""
    side = planes.shape[0]
    width = logs.shape[1]
    for y in range(side):
        for x in range(side):
            q = slots[(y0 + y) * width + x0 + x]
            planes[y, x, 0] = logs[y0 + y, x0 + x]
            for k in range(2):
                planes[y, x, 1 + k] = probed[k, 0, q]
                for j in range(2):
                    planes[y, x, 3 + 2 * j + k] = (probed[k, 1 + j, q] - probed[k, 0, q]) / steps[j]


@kernel()
def fit_block(planes: Array, dx: float, dy: float, rows: Array, fit: Array) -> None:
    """Regress one block, moved by ``dx``, ``dy`` from f1 to f2; ``planes`` as :func:`gather` fills them, filtered.

    ``fit``: m00, m01, m11 (normal matrix), v0, v1 (right side), share explained by a common step, energy.
    """
    side = planes.shape[0]
    rim = 4 + math.ceil(max(abs(dx), abs(dy)) / 2)
    n = 0
    for y in range(rim, side - rim):
        for x in range(rim, side - rim):
            value = np.zeros(4)
            for which in range(2):
                sign = 1.0 if which else -1.0
                fy = y + sign * dy / 2
                fx = x + sign * dx / 2
                j = math.floor(fy)
                i = math.floor(fx)
                b = fy - j
                a = fx - i
                for c in range(4):
                    k = 0 if c == 0 else 2 * c - 1 + which
                    top = (1 - a) * planes[j, i, k] + a * planes[j, i + 1, k]
                    low = (1 - a) * planes[j + 1, i, k] + a * planes[j + 1, i + 1, k]
                    value[c] -= sign * ((1 - b) * top + b * low)
            rows[n, 0] = value[0]
            rows[n, 1] = value[0] - value[1]
            rows[n, 2] = value[2]
            rows[n, 3] = value[3]
            n += 1
    fit[:] = 0.0
    if n == 0:
        return
    common = 0.0
    for again in range(4):
        spread = 0.0
        for i in range(n):
            spread += abs(rows[i, 1] - common * (rows[i, 2] + rows[i, 3]))
        spread = max(2.5 * spread / n, 1e-3)
        fit[:5] = 0.0
        for i in range(n):
            off = (rows[i, 1] - common * (rows[i, 2] + rows[i, 3])) / spread
            w = 1.0 / (1.0 + off * off) ** 2 if again else 1.0
            fit[0] += w * rows[i, 2] * rows[i, 2]
            fit[1] += w * rows[i, 2] * rows[i, 3]
            fit[2] += w * rows[i, 3] * rows[i, 3]
            fit[3] += w * rows[i, 2] * rows[i, 1]
            fit[4] += w * rows[i, 3] * rows[i, 1]
        common = (fit[3] + fit[4]) / max(fit[0] + 2 * fit[1] + fit[2], 1e-9)
    left = 0.0
    whole = 1e-9
    for i in range(n):
        left += (rows[i, 1] - common * (rows[i, 2] + rows[i, 3])) ** 2
        whole += rows[i, 0] ** 2
    fit[5] = 1.0 - left / whole
    fit[6] = fit[0] + 2 * fit[1] + fit[2]
