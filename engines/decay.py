"""Levels of light per pixel that events step and time decays: the state of the complementary filter and of the leaky
integrator.

Between two events a level falls towards zero as exp(-rate t). That is linear, so nothing needs to be done between them:
a step made at t is worth exp(-rate (T - t)) of itself at the later instant T for which the levels are wanted. The sums
are those of the continuous-time filter, event by event, whatever T and however often it is asked for.
"""

from __future__ import annotations

import math

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.packing import fault
from rtpipe.types import Array, PackedEvents, Resolution, Window

LIMIT = 5.0
"""A level stays within this, in log intensity (1:150): a pixel that only ever fires one way does not run away."""


@kernel()
def step(
    dt: Array,
    x: Array,
    yp: Array,
    offset: int,
    width: int,
    rates: Array,
    on: float,
    off: float,
    keep: float,
    levels: Array,
    counts: Array,
) -> None:
    """Add events to ``levels`` float32 (P,), which hold what is left at some instant of all events before.

    ``offset + dt``, 0 or less, are µs from that instant; later events count as if at it. ``rates`` float32 (P,) per µs;
    ``on``, ``off`` what an event adds and takes away after the level was multiplied by ``keep``; ``counts`` uint16
    (P, 2) off and on events of each pixel, added to. Coordinates must have been checked.
    """
    origin = np.int64(offset)
    for i in range(dt.size):
        packed = np.int64(yp[i])
        q = (packed & 0x7FFF) * width + np.int64(x[i])
        polarity = packed >> 15
        left = max(-np.float32(origin + np.int64(dt[i])), np.float32(0))
        worth = np.exp(-rates[q] * left)
        bound = np.float32(LIMIT) * worth
        change = np.float32(on) if polarity else np.float32(-off)
        level = np.float32(keep) * levels[q] + change * worth
        levels[q] = min(max(level, -bound), bound)
        if counts[q, polarity] < 0xFFFF:
            counts[q, polarity] += 1


@kernel()
def tally(counts: Array, most: int) -> tuple[int, int]:
    """Off and on events of all pixels, each pixel's counted up to ``most``; ``counts`` are zero afterwards."""
    total = np.zeros(2, np.int64)
    for q in range(counts.shape[0]):
        for polarity in range(2):
            total[polarity] += min(np.int64(counts[q, polarity]), np.int64(most))
            counts[q, polarity] = 0
    return total[0], total[1]


class Levels:
    """The levels of one sensor and the instant they stand for. ``owner`` is named in errors. Not thread-safe."""

    def __init__(self, owner: str, resolution: Resolution, rate: float) -> None:
        width, height = resolution
        self._owner, self._resolution, self._rate = owner, resolution, rate
        self.values = np.zeros(width * height, np.float32)
        """(P,) log intensity, row by row."""
        self.rates = np.empty(width * height, np.float32)
        """(P,) at which each level falls, per µs."""
        self.counts = np.zeros((width * height, 2), np.uint16)
        """(P, 2) off and on events since whoever uses them set them to zero."""
        self.reset()

    def reset(self) -> None:
        """Forget every event; all levels fall at the one rate."""
        self.reached: int | None = None
        """The instant (µs) that the levels stand for; None before the first window."""
        self.even = True
        """Whether all pixels have one rate. Whoever changes ``rates`` says so here."""
        self.values[:] = 0
        self.rates[:] = self._rate
        self.counts[:] = 0

    @property
    def plane(self) -> Array:
        """``values`` as (H, W)."""
        width, height = self._resolution
        return self.values.reshape(height, width)

    def begin(self, window: Window) -> PackedEvents:
        """The events of this window that are new, as read-only columns: one compiled kernel serves them all.

        Those that an earlier window had are left out. Raises ``InputError`` for events that do not fit the sensor.
        """
        if self.reached is None:
            self.reached = window.t_start
        if window.events is None or len(window.events) == 0:
            none = _frozen(np.empty(0, np.uint16))
            return PackedEvents(window.t_start, _frozen(np.empty(0, np.uint32)), none, none)
        given = window.events
        events = PackedEvents(given.t0, _frozen(given.dt), _frozen(given.x), _frozen(given.yp))
        wrong = fault(events, self._resolution)
        if wrong:
            width, height = self._resolution
            raise InputError(f"{self._owner} was given events that do not fit {width}x{height} pixels: bad {wrong}")
        if window.t_start >= self.reached - 1:  # windows by count may meet in one instant, each with events of its own
            return events
        return events[int(np.searchsorted(events.dt, max(self.reached - events.t0, 0))) :]

    def advance(self, events: PackedEvents, until: int, on: float, off: float, keep: float) -> int:
        """Let time and these events do their work up to ``until`` (µs); returns how many µs that was."""
        assert self.reached is not None
        elapsed = max(until - self.reached, 0)
        if self.even:
            self.values *= np.float32(math.exp(-self._rate * elapsed))
        else:
            self.values *= np.exp(self.rates * np.float32(-elapsed))
        self.reached += elapsed
        step(
            events.dt, events.x, events.yp, events.t0 - self.reached, self._resolution[0],
            self.rates, on, off, keep, self.values, self.counts,
        )  # fmt: skip
        return elapsed


def split(events: PackedEvents, t_start: int, t_end: int, parts: int) -> list[tuple[PackedEvents, int]]:
    """``events`` cut into ``parts`` of equal time, each with the instant (µs) at which it ends; the last takes the
    rest."""
    edges = [t_start + (t_end - t_start) * k // parts for k in range(1, parts + 1)]
    cuts = [int(np.searchsorted(events.dt, max(edge - events.t0, 0))) for edge in edges[:-1]]
    return [
        (events[first:last], edge) for first, last, edge in zip([0, *cuts], [*cuts, len(events)], edges, strict=True)
    ]


def _frozen(array: Array) -> Array:
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view
