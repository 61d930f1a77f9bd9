"""Events that a file keeps as columns of numbers (t, x, y, p), whatever kind of file it is: read in constant memory,
found by time, and checked before anyone sees them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.recording import LONGEST_S
from rtpipe.packing import fault
from rtpipe.types import MAX_SIDE, Array, Events, Resolution

RUN = 1 << 17
"""Events per run."""
SAMPLE = 4096
"""Events at the start that are looked at to tell the unit of time."""

Clock: TypeAlias = Callable[[Array, int], Array]
"""Times as the file has them, and the index of the first, to int64 µs; raises ``FormatError``."""


class Cursor(Protocol):
    """A place in a table, which is cheap to move forwards."""

    def read(self, column: str, start: int, stop: int) -> Array:
        """Rows ``start`` to ``stop`` of column ``"t"``, ``"x"``, ``"y"`` or ``"p"``, one-dimensional."""
        ...


def unit_clock(path: Path, scale: float) -> Clock:
    """The clock of a file whose times are in a unit of ``scale`` µs."""

    def clock(values: Array, start: int) -> Array:
        t, bad = infer.microseconds(values, scale)
        if bad >= 0:
            raise FormatError(f"{path}: event {start + bad}: {values[bad]} is no time")
        return t

    return clock


class EventTable:
    """``n`` events of ``path`` behind cursors. Made in three steps: the constructor looks at the times (once, all of
    them where the file is compressed), ``settle`` fixes their clock and finds the polarity, ``resolution`` is set by
    the reader. Raises ``FormatError`` for what is no time, no polarity, off the sensor or out of order."""

    def __init__(self, path: Path, n: int, open_cursor: Callable[[], AbstractContextManager[Cursor]]) -> None:
        self.path = path
        self._n = n
        self._open = open_cursor
        self._off: int | None = None
        self.resolution: Resolution = (MAX_SIDE, MAX_SIDE)
        self.sample: Array = np.empty(0)
        self._index: Array = np.empty(0, np.int64)
        if n:
            with open_cursor() as cursor:
                head = cursor.read("t", 0, min(n, SAMPLE))
                firsts = [head[:1], *(cursor.read("t", k, k + 1) for k in range(RUN, n, RUN))]
                self._last_raw = cursor.read("t", n - 1, n)
            self._firsts_raw = np.concatenate(firsts)
            self.sample = np.concatenate([head, self._last_raw])
            if not np.isfinite(self.sample).all():
                raise FormatError(f"{path}: event {int(np.argmin(np.isfinite(self.sample)))} has no time")

    def __len__(self) -> int:
        return self._n

    def infer_unit(self, frame_period: float | None = None) -> tuple[str, str]:
        """The unit of time as the data prove it, and a note; ``frame_period`` is the time between pictures."""
        span = float(self.sample.max()) - float(self.sample.min())
        try:
            unit, why = infer.time_unit(infer.Times(self.sample, span, self._n, frame_period))
        except FormatError as error:
            raise FormatError(f"{self.path}: {error}") from error
        return unit, f"times are {infer.NAMES[unit]}: {why}"

    def settle(self, clock: Clock) -> list[str]:
        """Fix the clock and look for the first event that is off; returns notes."""
        self._clock = clock
        if not self._n:
            return []
        starts = range(0, self._n, RUN)
        self._index = np.concatenate([clock(t[None], k) for t, k in zip(self._firsts_raw, starts, strict=True)])
        self.first = int(self._index[0])
        self.last = int(clock(self._last_raw, self._n - 1)[0])
        if (np.diff(self._index) < 0).any() or self.last < self._index[-1]:
            raise FormatError(f"{self.path}: the times of its events run backwards")
        if self.last - self.first > LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: events from {self.first} to {self.last} µs: damaged, or another unit")
        with self._open() as cursor:
            for start in range(0, self._n, RUN):
                self._polarity(cursor.read("p", start, min(self._n, start + RUN)), start)
                if self._off is not None:
                    break
        return ["polarity is -1 and 1"] if self._off == -1 else []

    def largest(self) -> tuple[int, int]:
        """The largest x and y; reads all events."""
        x = y = 0
        with self._open() as cursor:
            for start in range(0, self._n, RUN):
                stop = min(self._n, start + RUN)
                x = max(x, int(self._coordinates(cursor, "x", start, stop).max()))
                y = max(y, int(self._coordinates(cursor, "y", start, stop).max()))
        return x, y

    def chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of about 130k."""
        start = 0 if t0 is None else max(0, int(np.searchsorted(self._index, t0)) - 1) * RUN
        newest: int | None = None
        with self._open() as cursor:
            for at in range(start, self._n, RUN):
                stop = min(self._n, at + RUN)
                events = self._events(cursor, at, stop)
                wrong = fault(events, self.resolution)
                if wrong or (newest is not None and events.t[0] < newest):
                    raise FormatError(f"{self.path}: {self._words(wrong, events)} among events {at} to {stop}")
                newest = int(events.t[-1])
                low = 0 if t0 is None else int(np.searchsorted(events.t, t0))
                high = len(events) if t1 is None else int(np.searchsorted(events.t, t1))
                if low < high:
                    yield events[low:high]
                if high < len(events):
                    return

    def _events(self, cursor: Cursor, start: int, stop: int) -> Events:
        t = self._clock(cursor.read("t", start, stop), start)
        x, y = self._coordinates(cursor, "x", start, stop), self._coordinates(cursor, "y", start, stop)
        return Events(t, x, y, self._polarity(cursor.read("p", start, stop), start))

    def _coordinates(self, cursor: Cursor, column: str, start: int, stop: int) -> Array:
        read = cursor.read(column, start, stop)
        if read.dtype == np.uint8 or not read.size:
            return read.astype(np.uint16)
        if not (read.min() >= 0 and read.max() < MAX_SIDE):  # also where there is a NaN
            raise FormatError(f"{self.path}: {column} from {read.min()} to {read.max()} among events {start} to {stop}")
        whole: Array = read.astype(np.uint16)
        if read.dtype.kind == "f" and not np.array_equal(whole, read):
            raise FormatError(f"{self.path}: {column} with fractions among events {start} to {stop}")
        return whole

    def _polarity(self, values: Array, start: int) -> Array:
        try:
            p, self._off = infer.polarity(values, self._off)
        except FormatError as error:
            raise FormatError(f"{self.path}: events from {start}: {error}") from error
        return p

    def _words(self, wrong: str, events: Events) -> str:
        if wrong in ("", "order"):
            return "time runs backwards"
        reach = (int(events.x.max()), int(events.y.max()))
        return f"coordinates up to {reach} are off the {self.resolution[0]}x{self.resolution[1]} sensor"
