"""Equal-count stack: the events cut into N chunks of equally many, the sum of polarities of each (EvINR, ECCV 2024).

Of n events the first ``n mod N`` chunks have one more than the others. A chunk's instant is the mean of its first and
its last event's time, on a scale from -1 (``t0``) to 1 (``t1``). Fewer events than chunks make no stack.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, index_at, span, target

CHUNKS = 50
"""EvINR's first stack; its second has twice as many."""


@kernel()
def _deposit(x: Array, y: Array, p: Array, form: Form, width: int, plane: Array) -> None:
    for i in range(x.size):
        pixel = np.uint64(np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i]))
        plane[pixel] += np.float32(np.int32(p[i] >> form.shift) * 2 - 1)


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, width: int, start: int, n: int,
    planes: Array, spans: Array,
) -> None:  # fmt: skip
    """Add events number ``start`` and following of ``n``; ``offset`` is the zero of ``spans`` (N, 2: first and last
    event's time) on the scale of ``t``."""
    chunks = planes.shape[0]
    least, longer = n // chunks, n % chunks
    first = 0
    while first < t.size:
        at = start + first
        c = at // (least + 1) if at < longer * (least + 1) else longer + (at - longer * (least + 1)) // least
        begin = c * least + min(c, longer)
        end = begin + least + (1 if c < longer else 0)
        last = min(t.size, end - start)
        if at == begin:
            planes[c, :] = 0
            spans[c, 0] = np.int64(t[first]) - offset
        if start + last == end:
            spans[c, 1] = np.int64(t[last - 1]) - offset
        _deposit(x[first:last], y[first:last], p[first:last], form, width, planes[c])
        first = last


class Filler:
    """A stack that is filled at the close, when the number of events is known; exact in integers.

    float32 (chunks, H, W). Events must have been checked; their arrays are held until the close.
    """

    def __init__(self, resolution: Resolution, bins: int = CHUNKS) -> None:
        if bins < 1:
            raise InputError(f"bins: a stack has at least 1, got {bins}")
        check_resolution(resolution)
        self.shape = (bins, resolution[1], resolution[0])
        self.times: Array | None = None
        """Each chunk's instant, float64 (chunks,) from -1 to 1, of the stack closed last; None where there were fewer
        events than chunks (the stack is then all zeros: it says nothing)."""
        self._parts: list[Events | PackedEvents] = []

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a stack in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._planes = out.reshape(self.shape[0], -1)
        self._t0, self._t1 = t0, t1
        self._parts.clear()

    def add(self, events: Events | PackedEvents) -> None:
        """Take events, not earlier than those before."""
        self._parts.append(events)

    def close(self) -> None:
        """Finish: ``out`` holds the stack, ``times`` its instants."""
        n = sum(map(len, self._parts))
        self.times = None
        if n < self.shape[0]:
            self._planes[:] = 0
        else:
            spans = np.empty((self.shape[0], 2), np.int64)
            start = 0
            for part in self._parts:
                t, x, y, p, form, base = columns(part)
                _fill(t, x, y, p, form, self._t0 - base, self.shape[2], start, n, self._planes, spans)
                start += len(part)
            self.times = spans.sum(axis=1) / max(self._t1 - self._t0, 1) - 1.0
        self._parts.clear()


class Stack(NamedTuple):
    """``frames`` float32 (chunks, H, W), or (chunks, 3, H, W) in colour; ``times`` float64 (chunks,), -1 to 1."""

    frames: Array
    times: Array


def equal_count_stack(
    events: Events | PackedEvents,
    *,
    chunks: int = CHUNKS,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    color: bool = False,
    threshold: float = 1.0,
    out: Array | None = None,
) -> Stack:
    """Sums of polarities, times ``threshold``, of chunks of equally many events, and the chunks' instants.

    Events with ``t0 < t < t1`` (µs) count, both strict, as published: with ``t0`` at the first event all those of its
    instant are left out. An edge left out is the first or the last event, which then counts too. ``color``: the sensor
    is behind an RGGB mosaic; each chunk becomes red, green (the mean of both) and blue, repeated to full size. ``out``
    (any content, for the grey sums) is filled and returned where given. Raises ``InputError`` for events that do not
    fit ``resolution``, are out of order, or are fewer than ``chunks``.
    """
    check(events, resolution)
    filler = Filler(resolution, chunks)
    frames = target(out, filler.shape)
    inside, start, end = span(events, t0, t1)
    if t0 is not None:
        inside = inside[index_at(inside, t0 + 1) :]
    if len(inside) < chunks:
        raise InputError(f"a stack of {chunks} chunks needs as many events at least, and there are {len(inside)}")
    if color and (resolution[0] % 2 or resolution[1] % 2):
        raise InputError(f"color: a mosaic has even sides, not {resolution[0]}x{resolution[1]}")
    filler.open(frames, start, end)
    filler.add(inside)
    filler.close()
    assert filler.times is not None
    if threshold != 1:
        frames *= np.float32(threshold)
    return Stack(_colors(frames) if color else frames, filler.times)


def _colors(mosaic: Array) -> Array:
    red, blue = mosaic[:, 0::2, 0::2], mosaic[:, 1::2, 1::2]
    green = (mosaic[:, 1::2, 0::2] + mosaic[:, 0::2, 1::2]) / np.float32(2)
    planes: Array = np.stack([red, green, blue], axis=1).repeat(2, axis=2).repeat(2, axis=3)
    return planes
