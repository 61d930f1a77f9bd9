"""Voxel grid: signed polarity, bilinear in time, bins at 0, 1, ... B-1 (Zhu et al., CVPR 2019; E2VID, FireNet, EFNet).

With the edges ``t0``, ``t1`` an event of sign s lies at tau = (B-1) (t - t0) / (t1 - t0) and adds s (1 - |tau - b|) to
the bins b on both sides of it. Where the span is zero all events lie in bin 0.
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import ROW, check, columns, span, target


@kernel()
def _bound(t: Array, low: int, limit: int) -> int:
    """First index from ``low`` on whose time is not below ``limit``."""
    high = t.size
    while low < high:
        middle = (low + high) >> 1
        if np.int64(t[middle]) < limit:
            low = middle + 1
        else:
            high = middle
    return low


@kernel()
def _deposit(
    t: Array, x: Array, y: Array, p: Array, on: int, steps: int, shift: int, inverse: np.float32, width: int,
    near: Array, far: Array,
) -> None:  # fmt: skip
    """Events of one segment between two bins. Plain loops over whole arrays: an index that starts elsewhere makes
    numba handle negative ones, which costs a third of the speed."""
    one = np.float32(1)
    for i in range(t.size):
        later = np.float32(np.int64(t[i]) * steps - shift) * inverse
        pixel = np.uint64(np.uint32(y[i] & ROW) * np.uint32(width) + np.uint32(x[i]))
        earlier = one - later
        if p[i] < on:
            earlier = -earlier
            later = -later
        near[pixel] += earlier
        far[pixel] += later


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, on: int, offset: int, duration: int, width: int, planes: Array, ready: int
) -> int:
    """Add events; ``offset`` is the window's start on the scale of ``t``. The first ``ready`` planes are zeroed
    already; a plane is zeroed when time reaches it, while the cache holds it anyway. Returns the new ``ready``."""
    steps = planes.shape[0] - 1
    inverse = np.float32(1.0 / duration)
    first = 0
    for k in range(steps):
        if first == t.size:
            break
        last = t.size
        if k < steps - 1:
            last = _bound(t, first, offset - (-(k + 1) * duration // steps))
        if last == first:
            continue
        while ready < k + 2:
            planes[ready, :] = 0
            ready += 1
        _deposit(
            t[first:last], x[first:last], y[first:last], p[first:last], on, steps, steps * offset + k * duration,
            inverse, width, planes[k], planes[k + 1],
        )  # fmt: skip
        first = last
    return ready


class Filler:
    """A voxel grid that is filled as packets arrive, the same bits however the events are cut into packets.

    float32 (bins, H, W); each cell is summed in order of events. Not thread-safe; coordinates must have been checked.
    """

    mask = None

    def __init__(self, resolution: Resolution, bins: int = 5) -> None:
        if bins < 2:
            raise InputError(f"bins: a voxel grid has at least 2, got {bins}")
        self.shape = (bins, resolution[1], resolution[0])
        self._width = resolution[0]

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a grid in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._planes = out.reshape(out.shape[0], -1)
        self._t0 = t0
        self._duration = max(t1 - t0, 1)
        self._ready = 0

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t <= t1``, not earlier than those added before."""
        t, x, y, p, on, base = columns(events)
        self._ready = _fill(t, x, y, p, on, self._t0 - base, self._duration, self._width, self._planes, self._ready)

    def close(self) -> None:
        """Finish: ``out`` holds the grid."""
        self._planes[self._ready :] = 0
        self._ready = len(self._planes)


def voxel_grid(
    events: Events | PackedEvents,
    *,
    bins: int = 5,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """Raw voxel grid, float32 (bins, H, W).

    Events with ``t0 <= t < t1`` (µs) count, time is measured between these edges; left out, the edges are the first
    and the last event, as the networks were trained. ``out`` (any content) is filled and returned where given. Raises
    ``InputError`` for events that do not fit ``resolution`` or are out of order.
    """
    check(events, resolution)
    filler = Filler(resolution, bins)
    grid = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(grid, start, end)
    if len(chosen):
        filler.add(chosen)
    filler.close()
    return grid
