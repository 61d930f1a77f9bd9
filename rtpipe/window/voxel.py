"""Voxel grid: signed polarity, bilinear in time, bins at 0, 1, ... B-1 (Zhu et al., CVPR 2019; E2VID, FireNet, EFNet).

With the edges ``t0``, ``t1`` an event of sign s lies at tau = (B-1) (t - t0) / (t1 - t0) and adds s (1 - |tau - b|) to
the bins b on both sides of it. Where the span is zero all events lie in bin 0.

Two ways to the same bits. ``planes``: straight into the two bins, for sensors whose planes fit the second-level cache.
``pairs``: for larger ones what costs time is the cache lines that an event touches; the two bins that time lies between
are kept side by side, one line for each event, and are written out when time reaches the next bin.
"""

from __future__ import annotations

import threading

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, span, target

PAIRS_FROM = 400_000
"""Pixels from which on ``pairs`` is faster."""


@kernel()
def first_not_before(t: Array, low: int, limit: int) -> int:
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
def _into_planes(
    t: Array, x: Array, y: Array, p: Array, form: Form, steps: int, shift: int, inverse: np.float32, width: int,
    near: Array, far: Array,
) -> None:  # fmt: skip
    """Events between two bins. Loops run over whole arrays: an index that starts elsewhere makes numba handle negative
    ones, which costs a third of the speed."""
    for i in range(t.size):
        sign = np.float32(np.int32(p[i] >> form.shift) * 2 - 1)
        later = np.float32(np.int64(t[i]) * steps - shift) * inverse * sign
        pixel = np.uint64(np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i]))
        near[pixel] += sign - later
        far[pixel] += later


@kernel()
def _into_pairs(
    t: Array, x: Array, y: Array, p: Array, form: Form, steps: int, shift: int, inverse: np.float32, width: int,
    pairs: Array,
) -> None:  # fmt: skip
    """The same into near and far bins that lie side by side."""
    for i in range(t.size):
        sign = np.float32(np.int32(p[i] >> form.shift) * 2 - 1)
        later = np.float32(np.int64(t[i]) * steps - shift) * inverse * sign
        pixel = np.uint64(np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i]))
        pixel += pixel
        pairs[pixel] += sign - later
        pairs[pixel + np.uint64(1)] += later


@kernel()
def _next_pair(pairs: Array, plane: Array) -> None:
    """Write the near bins out; the far ones become near. On bits: floats are only moved."""
    for i in range(plane.size):
        pair = pairs[i]
        plane[i] = np.uint32(pair)
        pairs[i] = pair >> np.uint64(32)


@kernel()
def _reach(planes: Array, pairs: Array, segment: int, until: int) -> int:
    """Go from one segment between two bins to another: planes are zeroed when time reaches them, while the cache holds
    them anyway; pairs are written out when time leaves them."""
    while segment < until:
        segment += 1
        if pairs.size == 0:
            if segment == 0:
                planes[0, :] = 0
            planes[segment + 1, :] = 0
        elif segment > 0:
            _next_pair(pairs.view(np.uint64), planes[segment - 1].view(np.uint32))
    return segment


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, duration: int, width: int,
    planes: Array, pairs: Array, segment: int,
) -> int:  # fmt: skip
    """Add events; ``offset`` is the window's start on the scale of ``t``. Returns the segment that time has reached."""
    steps = planes.shape[0] - 1
    inverse = np.float32(1.0 / duration)
    first = 0
    for k in range(steps):
        if first == t.size:
            break
        last = t.size
        if k < steps - 1:
            last = first_not_before(t, first, offset - (-(k + 1) * duration // steps))
        if last == first:
            continue
        segment = _reach(planes, pairs, segment, k)
        ts, xs, ys, ps = t[first:last], x[first:last], y[first:last], p[first:last]
        shift = steps * offset + k * duration
        if pairs.size == 0:
            _into_planes(ts, xs, ys, ps, form, steps, shift, inverse, width, planes[k], planes[k + 1])
        else:
            _into_pairs(ts, xs, ys, ps, form, steps, shift, inverse, width, pairs)
        first = last
    return segment


@kernel()
def _finish(planes: Array, pairs: Array, segment: int) -> None:
    steps = planes.shape[0] - 1
    _reach(planes, pairs, segment, steps - 1)
    if pairs.size:
        for k in range(steps - 1, steps + 1):
            _next_pair(pairs.view(np.uint64), planes[k].view(np.uint32))


class Filler:
    """A voxel grid that is filled as packets arrive, the same bits however the events are cut into packets.

    float32 (bins, H, W); each cell is summed in order of events. Not thread-safe; events must have been checked.
    ``in_pairs``: which of the two ways is taken; where left out, the one that is faster for this resolution.
    """

    def __init__(self, resolution: Resolution, bins: int = 5, in_pairs: bool | None = None) -> None:
        if bins < 2:
            raise InputError(f"bins: a voxel grid has at least 2, got {bins}")
        check_resolution(resolution)
        width, height = resolution
        self.shape = (bins, height, width)
        if in_pairs is None:
            in_pairs = width * height >= PAIRS_FROM
        self._pairs = np.zeros(2 * width * height if in_pairs else 0, np.float32)
        self._clean = True

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a grid in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        if not self._clean:  # the last grid was never closed
            self._pairs[:] = 0
        self._clean = False
        self._planes = out.reshape(self.shape[0], -1)
        self._t0 = t0
        self._duration = max(t1 - t0, 1)
        self._segment = -1

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t <= t1``, not earlier than those added before."""
        t, x, y, p, form, base = columns(events)
        self._segment = _fill(
            t, x, y, p, form, self._t0 - base, self._duration, self.shape[2], self._planes, self._pairs, self._segment
        )

    def close(self) -> None:
        """Finish: ``out`` holds the grid."""
        _finish(self._planes, self._pairs, self._segment)
        self._clean = True


_kept = threading.local()
"""Each thread's last filler of :func:`voxel_grid`: making pairs anew for every grid would cost more than filling it."""


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
    filler = getattr(_kept, "filler", None)
    if filler is None or filler.shape != (bins, resolution[1], resolution[0]):
        filler = _kept.filler = Filler(resolution, bins)
    grid = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(grid, start, end)
    filler.add(chosen)
    filler.close()
    return grid
