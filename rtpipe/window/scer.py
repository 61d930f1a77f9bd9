"""SCER: symmetric cumulative event representation of EFNet (Sun et al., ECCV 2022), six channels, and its masks.

The window is cut in six equal segments, h_s the sum of polarities of segment s per pixel. Channels count away from the
middle: c2 = -h2, c1 = -(h2+h1), c0 = -(h2+h1+h0); c3 = h3, c4 = h3+h4, c5 = h3+h4+h5. All integers, held in float32.
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import ROW, check, columns, span, target
from rtpipe.window.voxel import _bound

CHANNELS = 6


@kernel()
def _deposit(x: Array, y: Array, p: Array, on: int, width: int, plane: Array) -> None:
    for i in range(x.size):
        pixel = np.uint64(np.uint32(y[i] & ROW) * np.uint32(width) + np.uint32(x[i]))
        plane[pixel] += np.float32(1) if p[i] >= on else np.float32(-1)


@kernel()
def _turn(planes: Array, segment: int, until: int) -> None:
    """End the segments before ``until``. The first half is summed up in channel 0, the second in channel 5; what they
    hold at a segment's end is what the channels between need."""
    while segment < until:
        if segment == -1:
            planes[0, :] = 0
        elif segment <= 1:
            planes[segment + 1, :] = planes[0]
        elif segment == 2:
            total, one, two = planes[0], planes[1], planes[2]
            for i in range(total.size):
                one[i] -= total[i]
                two[i] -= total[i]
                total[i] = np.float32(0) - total[i]
            planes[5, :] = 0
        else:
            planes[segment, :] = planes[5]
        segment += 1


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, on: int, offset: int, duration: int, width: int, planes: Array, segment: int
) -> int:
    """Add events; ``offset`` is the window's start on the scale of ``t``. Returns the segment that time has reached."""
    first = 0
    for s in range(6):
        if first == t.size:
            break
        last = _bound(t, first, offset - (-(s + 1) * duration // 6))
        if last == first:
            continue
        if segment < s:
            _turn(planes, segment, s)
            segment = s
        _deposit(x[first:last], y[first:last], p[first:last], on, width, planes[0] if s < 3 else planes[5])
        first = last
    return segment


class Filler:
    """A SCER tensor that is filled as packets arrive; exact, so the same however the events are cut into packets.

    float32 (6, H, W). Events at or after ``t1`` belong to no segment. Coordinates must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int = CHANNELS) -> None:
        if bins != CHANNELS:
            raise InputError(f"bins: SCER has {CHANNELS}, got {bins}")
        self.shape = (CHANNELS, resolution[1], resolution[0])
        self._width = resolution[0]

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a tensor in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._planes = out.reshape(CHANNELS, -1)
        self._t0 = t0
        self._duration = t1 - t0
        self._segment = -1

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t``, not earlier than those added before."""
        t, x, y, p, on, base = columns(events)
        self._segment = _fill(t, x, y, p, on, self._t0 - base, self._duration, self._width, self._planes, self._segment)

    def close(self) -> None:
        """Finish: ``out`` holds the tensor."""
        _turn(self._planes, self._segment, CHANNELS - 1)
        self._segment = CHANNELS - 1


def scer(
    events: Events | PackedEvents,
    *,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """Raw SCER counts, float32 (6, H, W).

    Events with ``t0 <= t < t1`` (µs) count; left out, the edges are the first and the last event, as the network was
    trained: then the events at the very last instant fall in no segment, and a span of zero gives zeros. ``out`` (any
    content) is filled and returned where given. Raises ``InputError`` for events that do not fit ``resolution``.
    """
    check(events, resolution)
    filler = Filler(resolution)
    tensor = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(tensor, start, end)
    if len(chosen):
        filler.add(chosen)
    filler.close()
    return tensor
