"""Event trail suppression: what a light that has passed leaves behind it at night (NER-Net, CVPR 2024).

In the dark a pixel answers slowly: after an edge it fires on, events of one polarity with ever longer pauses. Pixel by
pixel such a run is recognised: an event belongs to it if it has the run's polarity, follows the pixel's last event by
less than ``on_us`` or ``off_us`` (by its polarity) and by more than that one followed its own. Its true instant is that
of the run's first event, plus 1 µs for each event of the run in between.

Two versions. :func:`suppressed`, exact and offline: every event is moved to its true instant, none is removed. The
filter, for streams: what was true a second ago has been shown by then, so an event whose true instant lies more than
``reach_us`` back is removed, and one that lies less far back, in the window that is being filled, stays where it is.
"""

from __future__ import annotations

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import check
from rtpipe.window.filters.base import Base

TRAIL_US = 1_000_000
"""The longest pause inside a trail, as published, for both polarities."""

REACH_US = 20_000
"""NER-Net's window."""

LONGEST_US = 1 << 40
NEVER = -(1 << 60)

START, LAST, PAUSE, RUN = range(4)
"""What is kept of a pixel: when its run began, its last event, the pause before that, and the number of events after
the first, times two, plus the polarity."""


@kernel()
def _true_instant(pixel: Array, t: np.int64, p: np.int64, longest: int, soft: int) -> int:
    """When an event at ``t`` of polarity ``p`` truly happened; moves the pixel's state on."""
    pause = t - pixel[LAST]
    if (pixel[RUN] & 1) == p and pause > pixel[PAUSE] and pause < longest:
        pixel[RUN] += 2
        pixel[PAUSE] = pause - soft
    else:
        pixel[START] = t
        pixel[RUN] = p
        pixel[PAUSE] = 0
    pixel[LAST] = t
    return pixel[START] + (pixel[RUN] >> 1)  # type: ignore[no-any-return]


@kernel()
def _move(t: Array, x: Array, y: Array, p: Array, width: int, on: int, off: int, soft: int, pixels: Array) -> Array:
    moved = np.empty(t.size, np.int64)
    for i in range(t.size):
        at = np.int64(y[i]) * width + np.int64(x[i])
        on_event = np.int64(p[i])
        moved[i] = _true_instant(pixels[at], t[i], on_event, on if on_event else off, soft)
    return moved


@kernel()
def _keep(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    t0: int, width: int, on: int, off: int, soft: int, reach: int, pixels: Array,
) -> int:  # fmt: skip
    kept = 0
    for i in range(dt.size):
        t, column, row = np.int64(dt[i]) + t0, x[i], yp[i]
        on_event = np.int64(row >> 15)
        at = np.int64(row & np.uint16(0x7FFF)) * width + np.int64(column)
        back = t - _true_instant(pixels[at], t, on_event, on if on_event else off, soft)
        dt_out[kept] = dt[i]
        x_out[kept] = column
        yp_out[kept] = row
        kept += int(back <= reach)
    return kept


def _fresh(resolution: Resolution) -> Array:
    pixels = np.zeros((resolution[0] * resolution[1], 4), np.int64)
    pixels[:, LAST] = NEVER
    return pixels


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``on_us``, ``off_us``: pauses inside a trail of on and of off events are shorter than this (µs). ``soft_us``: a
    pause may be so much shorter than the one before it and the trail still goes on. ``reach_us``: an event stays if
    its true instant is at most so far back; 0: trails go wholly but for their first event.
    """

    on_us: int = TRAIL_US
    off_us: int = TRAIL_US
    soft_us: int = 0
    reach_us: int = REACH_US

    def __post_init__(self) -> None:
        for name, least in (("on_us", 1), ("off_us", 1), ("soft_us", 0), ("reach_us", 0)):
            if not least <= getattr(self, name) <= LONGEST_US:
                raise ValueError(f"{name}: a number from {least} to {LONGEST_US} wanted, got {getattr(self, name)}")


class Filter(Base):
    """Removes events whose true instant lies more than ``reach_us`` back; moves none."""

    name = "trail"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def reset(self) -> None:
        """No pixel has a trail."""
        self._pixels[:] = 0
        self._pixels[:, LAST] = NEVER

    def _prepare(self, resolution: Resolution) -> Resolution:
        self._pixels = _fresh(resolution)
        return resolution

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        chosen = self.settings
        return _keep(
            events.dt, events.x, events.yp, room.dt, room.x, room.yp,
            events.t0, self.resolution[0], chosen.on_us, chosen.off_us, chosen.soft_us, chosen.reach_us, self._pixels,
        )  # fmt: skip


def suppressed(
    events: Events,
    *,
    resolution: Resolution,
    on_us: int = TRAIL_US,
    off_us: int = TRAIL_US,
    soft_us: int = 0,
) -> Events:
    """All ``events``, each at its true instant, new arrays in order of time; those of one instant in order of rows,
    then columns, and those of one pixel in the order they had. As published, for whole recordings: events move back by
    up to seconds. Parameters as in :class:`Settings`. Raises ``InputError`` for events that do not fit ``resolution``
    or are out of order, ``ValueError`` for parameters out of bounds.
    """
    Settings(on_us=on_us, off_us=off_us, soft_us=soft_us)
    check(events, resolution)
    t, x, y, p = (np.ascontiguousarray(column) for column in (events.t, events.x, events.y, events.p))
    moved = _move(t, x, y, p, resolution[0], on_us, off_us, soft_us, _fresh(resolution))
    order = np.lexsort((events.x, events.y, moved))
    return Events(moved[order], events.x[order], events.y[order], events.p[order])
