"""A camera's own clock on the one line of time that goes downstream.

Downstream time is the camera's, plus an offset that is 0 until the clock jumps: a camera that came back counts from
anew, a counter of 24 bits that was not unwrapped falls back by 16.77 s. Each jump begins an epoch, placed by the
host's clock where it truly was, so that the gap in a recording is as long as the gap was. Streams of one camera share
its clock but not their way to the host: each kind passes a jump when its own readings do.
"""

from __future__ import annotations

from typing import NamedTuple

from rtpipe.clocks.host import CameraClock

BACK_US = 100_000
"""A stream that falls back by less is out of order, by more its clock has jumped."""
AHEAD_US = 500_000
"""No reading comes from so far in the host's future: its clock has jumped. Latency that shrinks looks the same, so it
is more than any latency at the start."""
APART_US = 2_000_000
"""Kinds of one camera that are still in one epoch are not further apart."""
LATE_NS = 250_000_000
"""What comes later than this says nothing of the clock: somebody did not read."""
GIVE_UP_NS = 5_000_000_000
"""After so long of nothing but late readings they are not late: the estimate is wrong."""
JITTER_NS = 5_000_000_000
MARGIN_US = 20_000
LONGEST_MARGIN_US = 1_000_000


class Place(NamedTuple):
    """Where a reading belongs: its epoch, and what is added to its times (µs)."""

    epoch: int
    offset: int


class Timeline:
    """Pure: times of readings and of their arrival in, epochs and offsets out. Fixed memory. ``margin_us``: how much
    later than others a reading may come, at the least, where nothing came before it."""

    def __init__(self, margin_us: int = MARGIN_US) -> None:
        self._margin_us = margin_us
        self._latest = -1
        self._offset = 0
        self._at: dict[str, Place] = {}
        self._newest: dict[str, int] = {}
        self._top: int | None = None
        self._fresh = True
        self._clock = CameraClock()
        self._known = False
        self._fed = 0
        self._late_since: int | None = None
        self._jitter = [0, 0]
        self._jitter_until = 0

    @property
    def newest(self) -> int | None:
        """The furthest instant that any stream was told of (µs downstream), None before the first."""
        return self._top

    @property
    def epoch(self) -> int:
        """The newest epoch; -1 before the first reading."""
        return self._latest

    def begin(self) -> None:
        """The camera was opened (again), or the stream is to begin anew: the next reading begins an epoch."""
        self._fresh = True

    def fits(self, kind: str, t_first: int, t_last: int, received_ns: int) -> bool:
        """Whether a reading goes on in the epoch in which its kind is."""
        if self._fresh:
            return False
        place = self._at.get(kind)
        return place is not None and self._within(kind, place, t_first, t_last, received_ns)

    def place(self, kind: str, t_first: int, t_last: int, received_ns: int) -> Place:
        """Where a reading belongs, ``t_first`` and ``t_last`` in the camera's time (µs). A jump begins an epoch, unless
        another kind has passed it already."""
        latest = Place(self._latest, self._offset)
        if self._fresh:
            return self._anew(kind, t_first, t_last, received_ns, jumped=self._latest >= 0)
        place = self._at.get(kind, latest)
        if not self._within(kind, place, t_first, t_last, received_ns):
            # another kind may have passed the jump already
            known = latest if place.epoch != self._latest else None
            if known is None or not self._within(kind, known, t_first, t_last, received_ns):
                return self._anew(kind, t_first, t_last, received_ns, jumped=True)
            place = known
        return self._told(kind, place, t_last, received_ns)

    def follow(self, kind: str) -> None:
        """A kind that is silent goes over to the newest epoch."""
        self._at[kind] = Place(self._latest, self._offset)
        self._newest.pop(kind, None)

    def told(self, t: int) -> None:
        """A watermark at ``t`` (µs downstream) was sent: no jump places anything before it."""
        self._top = t if self._top is None else max(self._top, t)

    def now_us(self, host_ns: int) -> int | None:
        """What time it was downstream when it was ``host_ns`` here; None before the first reading."""
        if not self._known or self._top is None:
            return None
        return self._clock.camera_us(host_ns)

    def silent_until(self, host_ns: int) -> int | None:
        """Until when nothing can come any more if nothing more had come at ``host_ns``: earlier by what readings were
        late of late, and a margin (µs downstream)."""
        now = self.now_us(host_ns)
        return None if now is None else now - self.margin_us

    @property
    def margin_us(self) -> int:
        """How far watermarks by the host's clock stay behind it (µs)."""
        return min(self._margin_us + 3 * max(self._jitter) // 2000, LONGEST_MARGIN_US)

    def _within(self, kind: str, place: Place, t_first: int, t_last: int, received_ns: int) -> bool:
        now = self.now_us(received_ns)
        if now is not None and t_last + place.offset > now + AHEAD_US:
            return False
        own = self._newest.get(kind) if self._at.get(kind) == place else None
        if own is not None:
            return t_first + place.offset >= own - BACK_US
        return self._top is None or t_last + place.offset >= self._top - APART_US

    def _anew(self, kind: str, t_first: int, t_last: int, received_ns: int, *, jumped: bool) -> Place:
        offset = 0
        if jumped:
            now = self.now_us(received_ns)
            top = self._top if self._top is not None else t_last
            offset = (now if now is not None else top) - t_last
            offset = max(offset, top + 1 - t_first)
            self._latest += 1
        else:
            self._latest = 0
        if self._fresh:
            self._at.clear()
        self._fresh = False
        self._offset = offset
        self._clock, self._known, self._late_since = CameraClock(), False, None
        self._fed = t_last + offset
        return self._told(kind, Place(self._latest, offset), t_last, received_ns)

    def _told(self, kind: str, place: Place, t_last: int, received_ns: int) -> Place:
        t = t_last + place.offset
        self._newest[kind] = max(self._newest.get(kind, t), t) if self._at.get(kind) == place else t
        self._at[kind] = place
        if place.epoch == self._latest:
            self._learn(kind, t, received_ns)
        self._top = t if self._top is None else max(self._top, t)
        return place

    def _learn(self, kind: str, t: int, received_ns: int) -> None:
        if self._known:
            late_ns = received_ns - self._clock.host_ns(t)
            if received_ns > self._jitter_until:
                self._jitter = [0, self._jitter[0]]
                self._jitter_until = received_ns + JITTER_NS
            if kind == "events":  # pictures take their time, and it is events that watermarks are about
                self._jitter[0] = max(self._jitter[0], late_ns)
            if late_ns > LATE_NS:
                self._late_since = self._late_since or received_ns
                if received_ns - self._late_since < GIVE_UP_NS:
                    return
                self._clock, self._fed = CameraClock(), t
            self._late_since = None
        if t >= self._fed:  # kinds of one camera are not in step: the foremost tells
            self._clock.add(t, received_ns)
            self._fed, self._known = t, True
