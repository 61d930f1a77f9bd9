"""Where a rewound stream stands, and when its next packet is due."""

from __future__ import annotations

import time

from rtpipe.history.ring import Kept

LATE_NS = 50_000_000
"""Later than this a packet is no jitter: a consumer made us wait, and the clock is set back instead of bursting."""


class Play:
    """Playing again from the ring: up to ``end``, the number of the first packet after the moment of asking.

    ``at`` is the position in the ring's time (µs), ``cursor`` the number of the packet that comes next.
    """

    def __init__(self, end: int, speed: float) -> None:
        self.end = end
        self.cursor = end
        self.at = 0
        self.paused = False
        self._speed = speed
        self._stepping = False
        self._clock: tuple[int, int] | None = None  # this CLOCK_MONOTONIC (ns) is that instant of the ring (µs)

    @property
    def speed(self) -> float:
        """1 as it was, 0 as fast as possible."""
        return self._speed

    @speed.setter
    def speed(self, factor: float) -> None:
        self._speed, self._clock = factor, None

    def go(self, to: Kept, at: int) -> None:
        """Stand before a packet, at an instant of the ring; while paused, one step is shown from there."""
        self.cursor, self.at, self._clock = to.number, at, None
        self._stepping = self.paused

    def pause(self) -> None:
        """Stand still."""
        self.paused, self._stepping = True, False

    def resume(self) -> None:
        """Go on."""
        self.paused, self._stepping, self._clock = False, False, None

    def step(self) -> None:
        """One step, then stand still."""
        self.paused = self._stepping = True

    def stepped(self) -> bool:
        """A step is complete; True where that was asked for."""
        done, self._stepping = self._stepping, False
        return done

    def due(self, kept: Kept) -> bool:
        """Whether this packet is to be sent now."""
        if self._stepping:
            return True
        if self.paused:
            return False
        if self._speed == 0:
            return True
        now = time.monotonic_ns()
        if self._clock is None:
            self._clock = (now, min(self.at, kept.at))
        began, instant = self._clock
        late = now - began - (kept.at - instant) * 1000 / self._speed
        if late > LATE_NS:
            self._clock = (now, kept.at)
        return late >= 0

    def sent(self, kept: Kept) -> None:
        """This packet is done with."""
        self.cursor, self.at = kept.number + 1, kept.at
