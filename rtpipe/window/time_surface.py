"""Time surface: how recently each pixel went off (channel 0) and on (channel 1), as exp(-age / tau).

1 where an event came at the window's end, towards 0 with age, 0 where none came (Lagorce et al., PAMI 2017).
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, index_at, span, target

CHANNELS = 2
TAU_US = 30_000.0
LONGEST_US = (1 << 31) - 2
"""A surface looks back at most this far (35 minutes): what is older has faded to 0."""


@kernel()
def _latest(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, width: int, pixels: int, latest: Array
) -> None:
    for i in range(t.size):
        pixel = np.uint32(y[i] & form.rows) * np.uint32(width) + np.uint32(x[i])
        if p[i] >> form.shift:
            pixel += np.uint32(pixels)
        latest[np.uint64(pixel)] = np.int32(np.int64(t[i]) - offset)


@kernel()
def _decay(latest: Array, surface: Array, end: int, rate: float) -> None:
    """Latest times to values, in place: both arrays are the same memory."""
    for i in range(latest.size):
        t = latest[i]
        surface[i] = np.float32(np.exp((t - end) * rate)) if t >= 0 else np.float32(0)


class Filler:
    """A time surface that is filled as packets arrive; the same however the events are cut into packets.

    float32 (2, H, W): off, on. Ages are counted from ``t1``. Events must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int = CHANNELS, tau_us: float = TAU_US) -> None:
        if bins != CHANNELS:
            raise InputError(f"bins: a time surface has {CHANNELS} channels, got {bins}")
        if not tau_us > 0:
            raise InputError(f"tau_us: a positive number of µs wanted, got {tau_us}")
        check_resolution(resolution)
        self.shape = (CHANNELS, resolution[1], resolution[0])
        self._rate = 1.0 / tau_us

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a surface in ``out`` (shape ``self.shape``, any content) between the edges ``t0`` and ``t1`` µs."""
        self._surface = out.reshape(-1)
        self._latest_times = self._surface.view(np.int32)
        self._latest_times[:] = -1
        self._t0, self._t1 = max(t0, t1 - LONGEST_US), t1
        self._long = self._t0 > t0

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t <= t1``, not earlier than those added before."""
        if self._long:
            events = events[index_at(events, self._t0) :]
        t, x, y, p, form, base = columns(events)
        _, height, width = self.shape
        _latest(t, x, y, p, form, self._t0 - base, width, width * height, self._latest_times)

    def close(self) -> None:
        """Finish: ``out`` holds the surface. One exponential for each pixel and polarity that fired."""
        _decay(self._latest_times, self._surface, self._t1 - self._t0, self._rate)


def time_surface(
    events: Events | PackedEvents,
    *,
    resolution: Resolution,
    tau_us: float = TAU_US,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """Exponential time surface at ``t1`` (left out: at the last event), float32 (2, H, W): off, on.

    Events with ``t0 <= t < t1`` (µs) count, all of them where an edge is left out. ``out`` (any content) is filled and
    returned where given. Raises ``InputError`` for events that do not fit ``resolution``.
    """
    check(events, resolution)
    filler = Filler(resolution, tau_us=tau_us)
    surface = target(out, filler.shape)
    chosen, start, end = span(events, t0, t1)
    filler.open(surface, start, end)
    filler.add(chosen)
    filler.close()
    return surface
