"""Two-polarity voxel grid: the events of each polarity counted apart, bilinear in time (EventHDR, CVPR 2021).

With B bins and the edges ``t0``, ``t1`` an event lies at tau = (B-1) (t - t0) / (t1 - t0) and adds 1 - |tau - b| to the
bins b on both sides of it: channels 0 to B-1 those of ON events, B to 2B-1 those of OFF. A window of fewer than three
events is all zeros, and so is one whose span is zero.

Straight into the bins: the pairs of ``voxel.py``, measured, gain nothing here, since each polarity has its own.
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, span, target
from rtpipe.window.voxel import first_not_before

FEWEST_EVENTS = 3
"""Of fewer the network was shown nothing."""


@kernel()
def _into_planes(
    t: Array, x: Array, y: Array, p: Array, form: Form, steps: int, shift: int, inverse: np.float32, width: int,
    off: int, near: Array, far: Array,
) -> None:  # fmt: skip
    """Events between two bins; ``off`` from a pixel's ON cell to its OFF cell. ``far`` is a view one plane on."""
    for i in range(t.size):
        later = np.float32(np.int64(t[i]) * steps - shift) * inverse
        pixel = np.uint64(np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i]))
        pixel += np.uint64(1 - np.int64(p[i] >> form.shift)) * np.uint64(off)
        near[pixel] += np.float32(1) - later
        far[pixel] += later


@kernel()
def _reach(planes: Array, segment: int, until: int) -> int:
    """Go from one segment between two bins to another; ``planes`` (2, B, pixels) are zeroed when time reaches them,
    while the cache holds them anyway."""
    while segment < until:
        segment += 1
        for half in range(2):
            if segment == 0:
                planes[half, 0, :] = 0
            planes[half, segment + 1, :] = 0
    return segment


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, duration: int, width: int, planes: Array,
    segment: int,
) -> int:  # fmt: skip
    """Add events; ``offset`` is the window's start on the scale of ``t``. Returns the segment that time has reached."""
    bins, pixels = planes.shape[1:]
    steps = bins - 1
    inverse = np.float32(1.0 / duration)
    flat = planes.reshape(-1)
    first = 0
    for k in range(steps):
        if first == t.size:
            break
        last = t.size
        if k < steps - 1:
            last = first_not_before(t, first, offset - (-(k + 1) * duration // steps))
        if last == first:
            continue
        segment = _reach(planes, segment, k)
        ts, xs, ys, ps = t[first:last], x[first:last], y[first:last], p[first:last]
        near, far = flat[k * pixels :], flat[(k + 1) * pixels :]
        shift = steps * offset + k * duration
        _into_planes(ts, xs, ys, ps, form, steps, shift, inverse, width, bins * pixels, near, far)
        first = last
    return segment


class Filler:
    """A grid that is filled as packets arrive, the same bits however the events are cut into packets.

    float32 (2 bins, H, W); each cell is summed in order of events. Not thread-safe; events must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int = 5) -> None:
        if bins < 2:
            raise InputError(f"bins: a two-polarity voxel grid has at least 2, got {bins}")
        check_resolution(resolution)
        width, height = resolution
        self.shape = (2 * bins, height, width)

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a grid in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._planes = out.reshape(2, self.shape[0] // 2, -1)
        self._t0, self._duration = t0, t1 - t0
        self._segment, self._n = -1, 0

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t <= t1``, not earlier than those added before."""
        self._n += len(events)
        if self._duration > 0:
            t, x, y, p, form, base = columns(events)
            offset, width = self._t0 - base, self.shape[2]
            self._segment = _fill(t, x, y, p, form, offset, self._duration, width, self._planes, self._segment)

    def close(self) -> None:
        """Finish: ``out`` holds the grid."""
        if self._n < FEWEST_EVENTS:
            self._planes[:] = 0
        else:
            _reach(self._planes, self._segment, self._planes.shape[1] - 2)


def two_polarity_voxel_grid(
    events: Events | PackedEvents,
    *,
    bins: int = 5,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """Raw two-polarity voxel grid, float32 (2 bins, H, W): the bins of ON events, then those of OFF.

    Events with ``t0 <= t < t1`` (µs) count, time is measured between these edges; left out, the edges are the first
    and the last event, as the network was trained. Fewer than three events, or a span of zero, give zeros. ``out`` (any
    content) is filled and returned where given. Raises ``InputError`` for events that do not fit ``resolution`` or are
    out of order.
    """
    check(events, resolution)
    filler = Filler(resolution, bins)
    grid = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(grid, start, end)
    filler.add(chosen)
    filler.close()
    return grid
