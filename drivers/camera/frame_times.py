"""When a frame was taken, as microseconds of this computer's CLOCK_MONOTONIC, from whatever time came with it."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

Times: TypeAlias = Literal["device", "stream", "arrival"]
"""Where times come from: the driver of a local camera (V4L2's buffers), the stream's own (RTP, a file), or the moment
at which the frame reached this process."""

OLDEST_US = 5_000_000
"""A buffer's time is of a clock of this computer if it lies so far in the past at most."""
APART_US = 2_000_000
"""A stream whose time differs by so much from the time that went by here has jumped."""
BEGIN_US, DOUBT_US, RATE = 1_000_000, 2_000_000, 0.05
"""A second after its beginning (servers send what they have at once), and for two, a stream's time has to go as this
computer's does, to this part."""
MOST_JUMPS = 3
INTERVALS = 31
GAP = 1.6


@dataclass(frozen=True, slots=True)
class Stamp:
    """``t`` µs, later than the frame before; ``jumped``: time does not go on from there."""

    t: int
    jumped: bool = False


class Stamper:
    """Times of one camera's frames. Pure but for the host's clocks, which the caller hands in.

    A time that proves to be none (a counter that is not of this computer's clocks, a stream that claims a rate other
    than its own) is given up for the moment of arrival: :attr:`source` says which it is now, :attr:`why` what was
    wrong. ``missing`` counts frames that the device's times leave room for.
    """

    def __init__(self, source: Times) -> None:
        self.source: Times = source
        self.why = ""
        self.missing = 0
        self._last: int | None = None
        self._base: tuple[int, int] | None = None
        self._mark: tuple[int, int] | None = None
        self._checked = False
        self._jumps = 0
        self._intervals: deque[int] = deque(maxlen=INTERVALS)

    def begin(self) -> None:
        """The camera was opened again: a stream's time begins anew."""
        self._base = self._mark = None
        self._checked = False
        self._intervals.clear()

    def stamp(self, msec: float, arrived_ns: int, wall_s: float | None = None) -> Stamp:
        """The time of a frame: ``msec`` as OpenCV gives it (``CAP_PROP_POS_MSEC``), ``arrived_ns`` CLOCK_MONOTONIC and
        ``wall_s`` the time of day when it arrived."""
        arrived = arrived_ns // 1000
        t, jumped = arrived, False
        if self.source == "device":
            t = self._device(msec, arrived, time.time() if wall_s is None else wall_s)
        elif self.source == "stream":
            t, jumped = self._stream(round(msec * 1000), arrived)
        if self._last is not None:
            t = max(t, self._last + 1)
            self._count(t - self._last)
        self._last = t
        return Stamp(t, jumped)

    def _device(self, msec: float, arrived: int, wall_s: float) -> int:
        us = round(msec * 1000)
        if us > 0 and -1_000 <= arrived - us <= OLDEST_US:
            return us
        since = round(wall_s * 1e6) - us
        if us > 0 and -1_000 <= since <= OLDEST_US:  # a driver told to use the time of day
            return arrived - since
        self._arrival("the device's times are of no clock of this computer")
        return arrived

    def _stream(self, us: int, arrived: int) -> tuple[int, bool]:
        if self._base is None:
            self._base = us, arrived
        expected = self._base[1] + us - self._base[0]
        if abs(expected - arrived) > APART_US:
            self.begin()
            self._base = us, arrived
            self._jumps += 1
            if self._jumps >= MOST_JUMPS:
                self._arrival("the stream's times jump")
            return arrived, True
        if self._mark is None and arrived - self._base[1] > BEGIN_US:
            self._mark = us, arrived
        elif self._mark is not None and not self._checked and arrived - self._mark[1] > DOUBT_US:
            self._checked = True
            if abs((us - self._mark[0]) / (arrived - self._mark[1]) - 1) > RATE:
                self._arrival("the stream's times do not go as the clock does")
                return arrived, False
        return expected, False

    def _arrival(self, why: str) -> None:
        self.source, self.why = "arrival", why

    def _count(self, interval: int) -> None:
        if self.source == "arrival":
            return
        if len(self._intervals) >= 8:
            usual = sorted(self._intervals)[len(self._intervals) // 2]
            if interval > GAP * usual:
                self.missing += round(interval / usual) - 1
                return
        self._intervals.append(interval)
