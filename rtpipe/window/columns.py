"""What the window kernels read: the columns of unpacked or packed events, as they are, with no conversion.

A kernel is written once for both forms: row and polarity come from ``y`` and ``p``, which for packed events are both
the ``yp`` column. Kernels check nothing: a plain pass before them (:func:`check`) costs less than a look at every event
among the writes, and whoever has checked already (the wire, the window stage) does not pay again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.packing import COORDINATES, ORDER, fault
from rtpipe.types import MAX_SIDE, Array, Events, PackedEvents, Resolution

ROW = np.uint16(0x7FFF)
"""Mask that leaves the row of a packed ``yp``."""


class Form(NamedTuple):
    """How ``y`` and ``p`` are to be read: the row is ``y & rows``, the polarity ``p >> shift``."""

    rows: np.uint16
    shift: np.uint16


PLAIN = Form(np.uint16(0xFFFF), np.uint16(0))
PACKED = Form(ROW, np.uint16(15))


class Columns(NamedTuple):
    """Columns as kernels take them; time is ``base + t`` µs."""

    t: Array
    x: Array
    y: Array
    p: Array
    form: Form
    base: int


def columns(events: Events | PackedEvents) -> Columns:
    """The columns of ``events``: views where they are contiguous and aligned, copies where not."""
    if isinstance(events, PackedEvents):
        yp = _whole(events.yp)
        return Columns(_whole(events.dt), _whole(events.x), yp, yp, PACKED, events.t0)
    return Columns(_whole(events.t), _whole(events.x), _whole(events.y), _whole(events.p), PLAIN, 0)


def _whole(column: Array) -> Array:
    flags = column.flags
    return column if flags.c_contiguous and flags.aligned else np.require(column, requirements=("C", "A")).copy()


@kernel()
def _inside(x: Array, y: Array, p: Array, form: Form, width: int, height: int) -> bool:
    rows, shift = form
    top_x, top_y, top_p = np.uint16(0), np.uint16(0), np.uint16(0)
    for i in range(x.size):
        top_x = max(top_x, x[i])
        top_y = max(top_y, y[i] & rows)
        top_p = max(top_p, np.uint16(p[i]) >> shift)
    return bool(top_x < width and top_y < height and top_p <= 1)


def t_first(events: Events | PackedEvents) -> int:
    """Time of the first event (µs); there must be one."""
    return int(events.t[0]) if isinstance(events, Events) else events.t0 + int(events.dt[0])


def t_last(events: Events | PackedEvents) -> int:
    """Time of the last event (µs); there must be one."""
    return int(events.t[-1]) if isinstance(events, Events) else events.t0 + int(events.dt[-1])


def index_at(events: Events | PackedEvents, t: int) -> int:
    """Index of the first event that is not earlier than ``t`` µs; their number where all are."""
    if len(events) == 0 or t > t_last(events):
        return len(events)
    if t <= t_first(events):
        return 0
    if isinstance(events, Events):
        return int(np.searchsorted(events.t, t))
    return int(np.searchsorted(events.dt, np.uint32(t - events.t0)))


def check_resolution(resolution: Resolution) -> None:
    """Raise ``InputError`` where no sensor has this ``resolution``."""
    width, height = resolution
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise InputError(f"resolution {width}x{height}: (width, height) from 1 to {MAX_SIDE} wanted")


def check(events: Events | PackedEvents, resolution: Resolution) -> None:
    """Raise ``InputError`` in plain words where these events cannot come from a sensor of ``resolution``."""
    check_resolution(resolution)
    width, height = resolution
    wrong = fault(events, resolution)
    if not wrong:
        return
    if wrong == ORDER:
        raise InputError("events are not in order of time: sort them by t first")
    if wrong == COORDINATES:
        row = int((events.yp & ROW).max()) if isinstance(events, PackedEvents) else int(events.y.max())
        raise InputError(
            f"events do not fit {width}x{height}: they reach column {int(events.x.max())} and row {row}; "
            "resolution is (width, height)"
        )
    raise InputError("polarity must be 0 (off) or 1 (on)")


def check_unordered(events: Events | PackedEvents, resolution: Resolution) -> None:
    """The same where order does not matter; time is not even read."""
    check_resolution(resolution)
    _, x, y, p, form, _ = columns(events)
    if not _inside(x, y, p, form, *resolution):
        check(events, resolution)


def span(events: Events | PackedEvents, t0: int | None, t1: int | None) -> tuple[Events | PackedEvents, int, int]:
    """The events that count and the edges they are measured against.

    Edges given: those with ``t0 <= t < t1``. An edge left out is the first or the last event, which then counts too.
    """
    if t0 is not None and t1 is not None and t1 < t0:
        raise InputError(f"t1 ({t1}) lies before t0 ({t0})")
    first = 0 if t0 is None else index_at(events, t0)
    last = len(events) if t1 is None else index_at(events, t1)
    chosen = events[first : max(first, last)]
    if len(chosen) == 0:
        start = t0 if t0 is not None else (t1 if t1 is not None else 0)
        return chosen, start, t1 if t1 is not None else start
    return chosen, t_first(chosen) if t0 is None else t0, t_last(chosen) if t1 is None else t1


def target(out: Array | None, shape: tuple[int, ...]) -> Array:
    """``out`` if it can take a tensor of ``shape`` (float32, C order), a new array without one."""
    if out is None:
        return np.empty(shape, np.float32)
    if out.shape != shape or out.dtype != np.float32 or not out.flags.c_contiguous or not out.flags.writeable:
        raise InputError(
            f"out: a writable C-ordered float32 array of shape {shape} wanted, got {out.dtype} {out.shape}"
        )
    return out
