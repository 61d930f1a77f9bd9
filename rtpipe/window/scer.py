"""SCER: symmetric cumulative event representation of EFNet (Sun et al., ECCV 2022), six channels.

The window is cut in six equal segments, h_s the sum of polarities of segment s per pixel. Channels count away from the
middle: c2 = -h2, c1 = -(h2+h1), c0 = -(h2+h1+h0); c3 = h3, c4 = h3+h4, c5 = h3+h4+h5. All integers, held in float32.
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, span, target
from rtpipe.window.voxel import first_not_before

CHANNELS = 6


@kernel()
def _deposit(x: Array, y: Array, p: Array, form: Form, sign: np.float32, width: int, plane: Array) -> None:
    for i in range(x.size):
        pixel = np.uint64(np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i]))
        plane[pixel] += sign if p[i] >> form.shift else -sign


@kernel()
def _copy(source: Array, into: Array) -> None:
    for i in range(source.size):
        into[i] = source[i]


@kernel()
def _fold(c0: Array, c1: Array, c2: Array) -> None:
    zero = np.float32(0)  # turns -0 into 0
    for i in range(c0.size):
        late = c2[i] + zero
        c2[i] = late
        late += c1[i]
        c1[i] = late
        c0[i] += late


@kernel()
def _turn(planes: Array, segment: int, until: int) -> None:
    """Go from one segment to another: each has a channel of its own, that of the second half starts with what the one
    before it holds, those of the first half are summed up at the middle."""
    while segment < until:
        segment += 1
        if segment == 3:
            _fold(planes[0], planes[1], planes[2])
        if segment <= 3:
            planes[segment, :] = 0
        else:
            _copy(planes[segment - 1], planes[segment])


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, duration: int, width: int, planes: Array,
    segment: int,
) -> int:  # fmt: skip
    """Add events; ``offset`` is the window's start on the scale of ``t``. Returns the segment that time has reached."""
    first = 0
    for s in range(CHANNELS):
        if first == t.size:
            break
        last = first_not_before(t, first, offset - (-(s + 1) * duration // CHANNELS))
        if last == first:
            continue
        _turn(planes, segment, s)
        segment = s
        sign = np.float32(-1 if s < 3 else 1)
        _deposit(x[first:last], y[first:last], p[first:last], form, sign, width, planes[s])
        first = last
    return segment


class Filler:
    """A SCER tensor that is filled as packets arrive; exact, so the same however the events are cut into packets.

    float32 (6, H, W). Events at or after ``t1`` belong to no segment. They must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int = CHANNELS) -> None:
        if bins != CHANNELS:
            raise InputError(f"bins: SCER has {CHANNELS}, got {bins}")
        check_resolution(resolution)
        self.shape = (CHANNELS, resolution[1], resolution[0])

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a tensor in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._planes = out.reshape(CHANNELS, -1)
        self._t0 = t0
        self._duration = t1 - t0
        self._segment = -1

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t``, not earlier than those added before."""
        t, x, y, p, form, base = columns(events)
        self._segment = _fill(
            t, x, y, p, form, self._t0 - base, self._duration, self.shape[2], self._planes, self._segment
        )

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
    filler.add(chosen)
    filler.close()
    return tensor
