"""Event count: how often each pixel went off (channel 0) and on (channel 1)."""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check_resolution, check_unordered, columns, span, target

CHANNELS = 2


@kernel()
def _deposit(x: Array, y: Array, p: Array, form: Form, width: int, pixels: int, counts: Array) -> None:
    for i in range(x.size):
        pixel = np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i])
        if p[i] >> form.shift:
            pixel += np.uint32(pixels)
        counts[np.uint64(pixel)] += np.float32(1)


class Filler:
    """An event count that is filled as packets arrive; exact (up to 16.7 million events a pixel).

    float32 (2, H, W): off, on. Needs no edges. Events must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int = CHANNELS) -> None:
        if bins != CHANNELS:
            raise InputError(f"bins: an event count has {CHANNELS} channels, got {bins}")
        check_resolution(resolution)
        self.shape = (CHANNELS, resolution[1], resolution[0])

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a count in ``out`` (shape ``self.shape``, any content); the edges do not matter."""
        del t0, t1
        out[...] = 0
        self._counts = out.reshape(-1)

    def add(self, events: Events | PackedEvents) -> None:
        """Add events."""
        _, x, y, p, form, _ = columns(events)
        _, height, width = self.shape
        _deposit(x, y, p, form, width, width * height, self._counts)

    def close(self) -> None:
        """Finish: ``out`` holds the count already."""


def event_count(
    events: Events | PackedEvents,
    *,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """Events per pixel and polarity, float32 (2, H, W): off, on.

    Events with ``t0 <= t < t1`` (µs) count, all of them where an edge is left out. ``out`` (any content) is filled and
    returned where given. Raises ``InputError`` for events that do not fit ``resolution``.
    """
    check_unordered(events, resolution)
    filler = Filler(resolution)
    counts = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(counts, start, end)
    filler.add(chosen)
    return counts
