"""Hot pixels: those that fire all the time, whatever the scene; given, and learned from the stream itself.

Stream time is cut into periods from the first event on. At the end of each a pixel is suspect if it fired at
``rate_hz`` or more, and more than ``factor`` times as often as its neighbourhood: as the fourth busiest of the other
pixels of the 5x5 block around it. An edge that passes makes a row of pixels busy, so that it suspects none; up to four
hot pixels beside one another are still found. What is suspect in ``confirm`` periods running is hot from then on,
until it has been quiet (below half the rate) for ``forget_us``. Nothing is held back while it learns: what a hot
pixel fired before it was found has passed. What was learned outlives a jump of time: pixels stay hot.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, PackedEvents, Resolution
from rtpipe.window.columns import index_at, t_first, t_last
from rtpipe.window.filters.base import Base

HOT = np.uint32(1 << 31)
"""In ``state``: the pixel is hot; the bits below count its events in this period."""
RANK = 4
REACH = 2
MAX_GIVEN = 65_536
LISTED = 12


@kernel()
def _pass_cool(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array, width: np.uint32, state: Array
) -> int:
    kept = 0
    for i in range(dt.size):
        at = np.uint64(np.uint32(yp[i] & np.uint16(0x7FFF)) * np.uint32(width) + np.uint32(x[i]))
        now = state[at]
        state[at] = now + np.uint32(1)
        dt_out[kept] = dt[i]
        x_out[kept] = x[i]
        yp_out[kept] = yp[i]
        kept += int(now < HOT)
    return kept


@kernel()
def _stands_out(count: int, factor: float, x: int, y: int, width: int, height: int, state: Array) -> bool:
    """Whether ``count`` is above ``factor`` times that of the :data:`RANK`-th busiest pixel around (x, y)."""
    top = np.zeros(RANK, np.int64)  # ascending
    for row in range(max(y - REACH, 0), min(y + REACH + 1, height)):
        for column in range(max(x - REACH, 0), min(x + REACH + 1, width)):
            other = np.int64(state[row * width + column] & ~HOT)
            if other > top[0] and (row != y or column != x):
                k = 0
                while k + 1 < RANK and top[k + 1] < other:
                    top[k] = top[k + 1]
                    k += 1
                top[k] = other
                if count <= factor * top[0]:
                    return False
    return True


@kernel()
def _judge(
    state: Array, streak: Array, quiet: Array, fixed: Array, removed: Array, width: int, height: int,
    least: int, factor: float, confirm: int, forget: int, periods: int,
) -> bool:  # fmt: skip
    """The end of a period, and of ``periods - 1`` more without any event; whether the list has changed."""
    changed = False
    for at in range(state.size):
        now = state[at]
        if now < least and streak[at] == 0:
            continue  # nearly all
        count = np.int64(now & ~HOT)
        hot = now >= HOT
        if hot:
            removed[at] += count
            quiet[at] = 0 if 2 * count >= least else min(quiet[at] + 1, forget)
            if periods > 1:
                quiet[at] = min(quiet[at] + periods - 1, forget)
            if quiet[at] >= forget and not fixed[at]:
                hot, changed, streak[at] = False, True, 0
        elif count < least or not _stands_out(int(count), factor, at % width, at // width, width, height, state):
            streak[at] = 0
        else:
            streak[at] += 1
            if streak[at] >= confirm and periods <= forget:
                hot, changed, quiet[at] = True, True, periods - 1
            if hot or periods > 1:
                streak[at] = 0
        state[at] = (now & ~HOT) | (HOT if hot else np.uint32(0))  # the count stays: neighbours look at it
    for at in range(state.size):
        state[at] &= HOT
    return changed


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``pixels``: [column, row] of each pixel that is known to be hot. ``learn``: look for others, in periods of
    ``period_us`` µs: at least ``rate_hz`` events a second and ``factor`` times its neighbourhood, ``confirm`` periods
    running; taken off the list after ``forget_us`` µs of quiet.
    """

    pixels: tuple[tuple[int, int], ...] = ()
    learn: bool = True
    period_us: int = 100_000
    rate_hz: float = 50.0
    factor: float = 5.0
    confirm: int = 3
    forget_us: int = 2_000_000

    def __post_init__(self) -> None:
        if len(self.pixels) > MAX_GIVEN or any(not 0 <= each < MAX_SIDE for pixel in self.pixels for each in pixel):
            raise ValueError(f"pixels: at most {MAX_GIVEN} pairs [column, row] of numbers from 0 wanted")
        if not (self.learn or self.pixels):
            raise ValueError("pixels: a list is wanted where learn is false: as it is nothing would be removed")
        for name, lowest, highest in (
            ("period_us", 1000, 60_000_000), ("rate_hz", 0.1, 1e6), ("factor", 1, 1e6), ("confirm", 1, 100),
            ("forget_us", self.period_us, 3_600_000_000),
        ):  # fmt: skip
            if not lowest <= getattr(self, name) <= highest:
                raise ValueError(f"{name}: a number from {lowest} to {highest:.0f} wanted, got {getattr(self, name)}")


class Filter(Base):
    """Removes the events of hot pixels, and lists them. Raises ``InputError`` on ``open`` for pixels off the sensor."""

    name = "hot_pixels"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.warm_us = settings.period_us
        self._least = max(2, int(np.ceil(settings.rate_hz * settings.period_us / 1e6)))
        self._forget = -(-settings.forget_us // settings.period_us)
        self._until: int | None = None
        self._listed = np.zeros(0, np.int64)

    @property
    def pixels(self) -> Array:
        """The hot pixels as they are known now, int64 [n, 2]: column, row; in order of rows."""
        width = max(self.resolution[0], 1)
        return np.stack([self._listed % width, self._listed // width], axis=1)

    @property
    def facts(self) -> Mapping[str, str]:
        """The hot pixels, those that fired most first, with how many of their events were removed."""
        removed = self._removed[self._listed] + (self._state[self._listed] & ~HOT)
        order = np.argsort(-removed, kind="stable")[:LISTED]
        words = [f"({x},{y}) {n:,}" for (x, y), n in zip(self.pixels[order], removed[order], strict=True)]
        if len(self._listed) > LISTED:
            words.append(f"and {len(self._listed) - LISTED} more")
        return {"hot pixels": f"{len(self._listed)} (column,row) removed: {', '.join(words)}" if words else "none"}

    def reset(self) -> None:
        """The period is void; what was learned stays."""
        self._removed[self._listed] += self._state[self._listed] & ~HOT
        self._state &= HOT
        self._streak[:] = 0
        self._until = None

    def _prepare(self, resolution: Resolution) -> Resolution:
        width, height = resolution
        self._until = None
        n = width * height
        self._state = np.zeros(n, np.uint32)
        self._streak, self._quiet = np.zeros(n, np.uint8), np.zeros(n, np.int64)
        self._fixed, self._removed = np.zeros(n, np.bool_), np.zeros(n, np.int64)
        for x, y in self.settings.pixels:
            if x >= width or y >= height:
                raise InputError(f"filter hot_pixels: pixel [{x}, {y}] does not lie on a sensor of {width}x{height}")
            self._fixed[y * width + x] = True
        self._state[self._fixed] = HOT
        self._listed = np.flatnonzero(self._fixed)
        return resolution

    def _parts(self, events: PackedEvents) -> Iterator[PackedEvents]:
        period = self.settings.period_us
        while len(events):
            if not self.settings.learn:
                yield events
                return
            if self._until is None:
                self._until = t_first(events) + period
            ends = len(events) if t_last(events) < self._until else index_at(events, self._until)
            if ends:
                yield events[:ends]
                events = events[ends:]
            if len(events):
                periods = (t_first(events) - self._until) // period + 1
                self._end_of(periods)
                self._until += periods * period

    def _end_of(self, periods: int) -> None:
        settings = self.settings
        changed = _judge(
            self._state, self._streak, self._quiet, self._fixed, self._removed, *self.resolution,
            self._least, settings.factor, settings.confirm, self._forget, min(periods, self._forget + 1),
        )  # fmt: skip
        if changed:
            self._listed = np.flatnonzero(self._state >= HOT)

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        width = np.uint32(self.resolution[0])
        return _pass_cool(events.dt, events.x, events.yp, room.dt, room.x, room.yp, width, self._state)
