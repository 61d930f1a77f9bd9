"""When each pixel last had an event: 4 bytes a pixel, good for streams of any length.

Times are kept in uint32 µs after a base that moves on; 0 stands for "never". The base lies at least :data:`NEVER_US`
before the first event that is written against it, so that "never" is older than every duration that may be asked for.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, PackedEvents
from rtpipe.window.columns import index_at, t_first, t_last

NEVER_US = 1 << 30
"""Durations must be below this (18 minutes): a pixel without an event is at least as old."""

_TOP = (1 << 32) - 1
_SPAN_US = 1 << 31


@kernel()
def _age(times: Array, by: np.uint32) -> None:
    for i in range(times.size):
        times[i] = times[i] - by if times[i] > by else np.uint32(0)


class Surface:
    """``times`` uint32 [n]: µs after the base at which each cell was last written; the kernel of a filter writes it."""

    def __init__(self, n: int) -> None:
        self.times = np.zeros(n, np.uint32)
        self._base: int | None = None
        _age(self.times, np.uint32(1))

    def clear(self) -> None:
        """No pixel ever had an event."""
        self.times[:] = 0
        self._base = None

    def runs(self, events: PackedEvents) -> Iterator[PackedEvents]:
        """``events`` in runs that fit one base (nearly always one); before each the base is moved if it must be."""
        end = t_last(events) if len(events) else 0
        while len(events):
            if self._base is None or end - self._base > _TOP:
                self._move(t_first(events) - NEVER_US)
            assert self._base is not None
            fits = len(events) if end - self._base <= _TOP else index_at(events, t_first(events) + _SPAN_US)
            yield events[:fits]
            events = events[fits:]

    def offset(self, t0: int) -> np.uint32:
        """What must be added to times after ``t0`` (µs) to make them times after the base, in uint32 arithmetic."""
        return np.uint32((t0 - (self._base or 0)) & _TOP)

    def _move(self, base: int) -> None:
        if self._base is not None:
            _age(self.times, np.uint32(min(base - self._base, _TOP)))
        self._base = base
