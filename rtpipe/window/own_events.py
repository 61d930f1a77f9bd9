"""A window's own events, gathered in one piece as packets arrive."""

from __future__ import annotations

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, PackedEvents

FIRST_ROOM = 1 << 14


@kernel()
def _append(dt: Array, x: Array, yp: Array, later: int, at: int, all_dt: Array, all_x: Array, all_yp: Array) -> None:
    into_dt, into_x, into_yp = all_dt[at:], all_x[at:], all_yp[at:]
    for i in range(dt.size):
        into_dt[i] = np.uint32(np.int64(dt[i]) + later)
        into_x[i] = x[i]
        into_yp[i] = yp[i]


class Gatherer:
    """Three columns that grow and are used again for window after window."""

    def __init__(self) -> None:
        self._t0 = self._n = 0
        self._room(FIRST_ROOM)

    def _room(self, n: int) -> None:
        self._dt, self._x, self._yp = np.empty(n, np.uint32), np.empty(n, np.uint16), np.empty(n, np.uint16)

    def open(self, t0: int) -> None:
        """Begin with nothing; times will be relative to ``t0`` µs."""
        self._t0, self._n = t0, 0

    def add(self, events: PackedEvents) -> None:
        """Append events of ``t0`` to ``t0 + LONGEST_US``."""
        until = self._n + len(events)
        if until > len(self._dt):
            old = self.events
            self._room(2 * until)
            for new, column in ((self._dt, old.dt), (self._x, old.x), (self._yp, old.yp)):
                new[: self._n] = column
        _append(
            events.dt, events.x, events.yp, events.t0 - self._t0, self._n, self._dt, self._x, self._yp,
        )  # fmt: skip
        self._n = until

    @property
    def events(self) -> PackedEvents:
        """All that was added: views, valid until the next ``open``."""
        return PackedEvents(self._t0, self._dt[: self._n], self._x[: self._n], self._yp[: self._n])
