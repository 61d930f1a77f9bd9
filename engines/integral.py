"""The event double integral, pixel by pixel, in one pass over the events.

Between two events of a pixel the camera saw its log intensity stay within one threshold. ``HOLD`` is the model of the
paper: the level holds and jumps at each event. ``RAMP`` says what is known besides: at an event the level has just
arrived there, so between two events of one polarity it ran from the one to the other; where the polarity turns it went
on a little (``OVERSHOOT`` thresholds) before it came back. Both integrals are exact in the event times: the mean of
exp over an interval depends on the threshold alone and is taken from a table.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array

HOLD: Final = "hold"
RAMP: Final = "ramp"

OVERSHOOT = 0.4
"""Thresholds by which a level is taken to go on before it turns back."""

SLOPE = 2 * OVERSHOOT + 2 * math.sqrt(OVERSHOOT * (OVERSHOOT + 1))
"""With which a parabola must start to turn there and be one threshold back after one interval."""

UNTOLD = 1.1
"""Thresholds that one event of the ``RAMP`` model is worth. Turns that do not reach a threshold send no event, and so
events tell too little; simulated cameras are met best by a tenth more, whatever their threshold (0.12 to 0.35)."""

NODES, WEIGHTS = (np.polynomial.legendre.leggauss(12) + np.array([[1.0], [0.0]])) / 2
"""Gauss-Legendre quadrature over 0..1."""

TAIL = 0.2
"""Thresholds by which a level is taken to go on from its last event to the end of the exposure."""

MOST = 0x3FFF
"""Events of one pixel are counted up to this."""

NONE, OFF, ON = 0, 1, 2
"""A pixel's last polarity; a table's rows are 3 * last + next, next NONE for the end of the exposure."""


def factors(on: float, off: float, model: str) -> tuple[float, float]:
    """What one on and one off event multiply the intensity by, for thresholds ``on`` and ``off``."""
    worth = UNTOLD if model == RAMP else 1.0
    return math.exp(worth * on), math.exp(-worth * off)


def intervals(on: float, off: float, model: str) -> Array:
    """Float64 (9, 3): for each kind of interval its mean of ``exp(level - level at its start)`` and the two
    coefficients of ``level(u) = first * u + second * u**2`` over its length ``u`` in 0..1."""
    table = np.zeros((9, 3))
    table[:, 0] = 1.0
    if model == HOLD:
        return table
    signed = (0.0, -UNTOLD * off, UNTOLD * on)
    for last in (NONE, OFF, ON):
        for coming in (NONE, OFF, ON):
            if coming == NONE:
                first, second = TAIL * signed[last], 0.0
            elif last in (NONE, coming):
                first, second = signed[coming], 0.0
            else:
                first, second = -SLOPE * signed[coming], (SLOPE + 1) * signed[coming]
            mean = float(WEIGHTS @ np.exp(NODES * (first + second * NODES)))
            table[3 * last + coming] = mean, first, second
    return table


@kernel()
def integrate(
    dt: Array,
    x: Array,
    yp: Array,
    offset: int,
    length: int,
    width: int,
    step_on: float,
    step_off: float,
    table: Array,
    instants: Array,
    state: Array,
    at: Array,
    seen: Array,
) -> int:
    """Integrate the events with ``0 <= offset + dt < length`` (µs since the exposure began).

    ``step_on``, ``step_off`` from :func:`factors`; ``table`` from :func:`intervals`;
    ``instants`` float64 (K,) µs in 0..length, ascending. Filled for every pixel: ``state`` float64 (P, 3): intensity at
    the end, time of the last event, integral of intensity over the exposure, all relative to the intensity at its
    start; ``at`` float64 (K, P): intensity at the instants; ``seen`` uint16 (P,): events << 2 | last polarity.
    Returns the number of events inside the exposure. Coordinates must have been checked.
    """
    pixels = state.shape[0]
    wanted = instants.size
    origin = np.int64(offset)
    state[:, 0] = 1.0
    state[:, 1:] = 0.0
    seen[:] = 0
    used = 0
    for i in range(dt.size):
        now = origin + np.int64(dt[i])
        if now < 0:
            continue
        if now >= length:
            break
        packed = np.int64(yp[i])
        q = (packed & 0x7FFF) * width + np.int64(x[i])
        coming = 1 + (packed >> 15)
        tag = np.int64(seen[q])
        row = 3 * (tag & 3) + coming
        level = state[q, 0]
        since = state[q, 1]
        t = np.float64(now)
        state[q, 2] += level * table[row, 0] * (t - since)
        for k in range(wanted):
            f = instants[k]
            if since <= f < t:
                u = (f - since) / (t - since)
                at[k, q] = level * np.exp(u * (table[row, 1] + u * table[row, 2]))
        state[q, 0] = level * (step_on if coming == 2 else step_off)
        state[q, 1] = t
        count = tag >> 2
        if count < MOST:
            count += 1
        used += 1
        seen[q] = np.uint16(count << 2 | coming)
    for p in range(pixels):
        tag = np.int64(seen[p])
        level = state[p, 0]
        since = state[p, 1]
        rest = length - since
        row = 3 * (tag & 3)
        state[p, 2] += level * table[row, 0] * rest
        for k in range(wanted):
            f = instants[k]
            if f >= since:
                u = (f - since) / rest
                at[k, p] = level * np.exp(u * (table[row, 1] + u * table[row, 2]))
    return used
