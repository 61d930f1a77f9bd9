"""Calibrated voxel: learned event timestamps calibration of NER-Net (Liu et al., CVPR 2024), ten channels.

An event at tau = 4 (t - t0) / (t1 - t0) between the edges ``t0``, ``t1`` adds tau f(tau - b) to every bin b = 0 ... 4
of its pixel: channels 0 to 4 those of ON events, 5 to 9 those of OFF. f is learned, a function of one variable, so the
five products of a quantised tau are one row of a table, which comes with the weights. A window whose span is zero
is all zeros.

A pixel's ten values lie side by side in memory (the network wants them so as well), hence an event touches one place,
and since events are in order of time the table is read in order too.
"""

from __future__ import annotations

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import add_four, fetch, kernel
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import Form, check, check_resolution, columns, span

BINS = 5
CHANNELS = 2 * BINS

AHEAD = 24
"""How many events before its turn an event's pixel is asked for; measured."""

MOST_ROWS = 1 << 20
"""A longer table gains nothing: time itself is measured in float32 inside a window."""


@kernel()
def _place(x: np.uint16, y: np.uint16, p: np.uint16, form: Form, width: np.uint32) -> np.uint64:
    pixel = np.uint64(np.uint32(y & form.rows) * width + np.uint32(x))
    return np.uint64(pixel * np.uint64(CHANNELS) + np.uint64(BINS) * np.uint64(1 - np.int64(p >> form.shift)))


@kernel()
def _fill(
    t: Array, x: Array, y: Array, p: Array, form: Form, offset: int, scale: np.float32, width: np.uint32, last: int,
    table: Array, cells: Array,
) -> None:  # fmt: skip
    """Add events; ``offset`` is the window's start on the scale of ``t``, ``scale`` rows per µs, ``last`` the last
    row of the flat ``table``."""
    end = t.size - 1
    for i in range(t.size):
        j = min(i + AHEAD, end)
        fetch(cells, _place(x[j], y[j], p[j], form, width))
        at = _place(x[i], y[i], p[i], form, width)
        row = np.int64(np.float32(np.int64(t[i]) - offset) * scale + np.float32(0.5))
        values = np.uint64(min(max(int(row), 0), last)) * np.uint64(BINS)
        add_four(cells, at, table, values)
        cells[at + np.uint64(4)] += table[values + np.uint64(4)]


def empty(resolution: Resolution) -> Array:
    """Room for a calibrated voxel, of any content: float32 (10, H, W), in memory (H, W, 10)."""
    return np.empty((resolution[1], resolution[0], CHANNELS), np.float32).transpose(2, 0, 1)


def check_table(table: Array) -> Array:
    """``table`` as the kernel reads it: float32 (rows, 5), C-contiguous. Raises ``InputError`` for what is none."""
    if table.ndim != 2 or table.shape[1] != BINS or not 2 <= len(table) <= MOST_ROWS:
        raise InputError(f"table: (rows, {BINS}) with 2 to {MOST_ROWS} rows wanted, got shape {table.shape}")
    made = np.ascontiguousarray(table, np.float32)
    if not np.isfinite(made).all():
        raise InputError("table: holds values that are not finite numbers")
    return made


class Filler:
    """A calibrated voxel that is filled as packets arrive, the same bits however the events are cut into packets.

    float32 (10, H, W), in memory (H, W, 10). ``table`` (rows, 5): row r holds what an event at tau = 4 r / (rows - 1)
    adds to each bin. Not thread-safe; events must have been checked.
    """

    def __init__(self, resolution: Resolution, bins: int, table: Array) -> None:
        if bins != BINS:
            raise InputError(f"bins: a calibrated voxel has {BINS}, got {bins}")
        check_resolution(resolution)
        self.shape = (CHANNELS, resolution[1], resolution[0])
        self._table = check_table(table).reshape(-1)
        self._last = len(table) - 1

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin a voxel in ``out`` (as :func:`empty` makes it, any content) between the edges ``t0`` and ``t1`` µs."""
        cells = out.transpose(1, 2, 0)
        assert cells.flags.c_contiguous, "the filler would write into a copy"
        self._cells = cells.reshape(-1)
        self._cells[:] = 0
        self._t0, self._duration = t0, t1 - t0

    def add(self, events: Events | PackedEvents) -> None:
        """Add events with ``t0 <= t <= t1``, not earlier than those added before."""
        if self._duration > 0:
            t, x, y, p, form, base = columns(events)
            scale, width = np.float32(self._last / self._duration), np.uint32(self.shape[2])
            _fill(t, x, y, p, form, self._t0 - base, scale, width, self._last, self._table, self._cells)

    def close(self) -> None:
        """Finish: ``out`` holds the voxel."""


def calibrated_voxel(
    events: Events | PackedEvents,
    table: Array,
    *,
    resolution: Resolution,
    t0: int | None = None,
    t1: int | None = None,
    out: Array | None = None,
) -> Array:
    """The calibrated voxel, float32 (10, H, W), in memory (H, W, 10); ``table`` as :class:`Filler` wants it.

    Events with ``t0 <= t < t1`` (µs) count, time is measured between these edges; left out, the edges are the first
    and the last event, as the network was trained. No event, or a span of zero, gives zeros. ``out`` (what
    :func:`empty` makes) is filled and returned where given. Raises ``InputError`` for events that do not fit
    ``resolution`` or are out of order, and for what is no table.
    """
    check(events, resolution)
    filler = Filler(resolution, BINS, table)
    out = empty(resolution) if out is None else out
    fits = out.shape == filler.shape and out.dtype == np.float32 and out.flags.writeable
    if not fits or not out.transpose(1, 2, 0).flags.c_contiguous:
        raise InputError(f"out: float32 {filler.shape} with the channels innermost in memory wanted (letc.empty)")
    chosen, start, end = span(events, t0, t1)
    filler.open(out, start, end)
    filler.add(chosen)
    filler.close()
    return out
