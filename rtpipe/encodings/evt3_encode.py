"""Events and triggers to EVT3 words, as short as the encoding allows without changing their order."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.packing import fault
from rtpipe.types import Array, Edge, Events, Trigger

WIDEST = 2048
"""Columns and rows have 11 bits."""

LONGEST_GAP_US = 366 * 24 * 3600 * 1_000_000
"""Silence is written as one word for every 8.4 s, so that each wrap of the time is seen; longer than this is no silence
but a mistake."""

HIGH, LOW, ROW, COLUMN, POLARITY = range(5)
"""What a reader of the words written so far holds: the time's upper part, all of it, and its lower 12 bits; the row;
where the next vector begins, and its polarity; -1 where nothing was written, in ``LOW`` -2 before the first word."""

_FARTHEST = 2048  # steps of the high time; a reader takes more than that for going back
_SPAN = 32  # columns of the three words of a vector: 12, 12 and 8


@kernel()
def _show(t: Any, state: Array, out: Array, n: int) -> int:
    """Write what a reader needs to be at ``t``."""
    high = t >> 12
    if high != state[HIGH]:
        shown = state[HIGH]
        while high - shown > _FARTHEST:
            shown += _FARTHEST
            out[n] = 0x8000 | (shown & 0xFFF)
            n += 1
        out[n] = 0x8000 | (high & 0xFFF)
        n += 1
        state[HIGH] = high
        state[LOW] = -1
    if (t & 0xFFF) != state[LOW]:
        out[n] = 0x6000 | (t & 0xFFF)
        n += 1
        state[LOW] = t & 0xFFF
    return n


@kernel()
def _encode(
    state: Array, out: Array, t: Array, x: Array, y: Array, p: Array, signal_t: Array, channel: Array, edge: Array
) -> int:
    """The words of events and triggers, merged by time; how many there are."""
    n = 0
    i = 0
    j = 0
    if state[LOW] == -2:  # a reader knows no time before it is told one
        out[n] = 0x8000 | (state[HIGH] & 0xFFF)
        n += 1
        state[LOW] = -1
    while i < t.size or j < signal_t.size:
        if j < signal_t.size and (i == t.size or signal_t[j] <= t[i]):
            n = _show(signal_t[j], state, out, n)
            out[n] = 0xA000 | np.int64(channel[j]) << 8 | np.int64(edge[j])
            n += 1
            j += 1
            continue
        n = _show(t[i], state, out, n)
        column = np.int64(x[i])
        row = np.int64(y[i])
        on = np.int64(p[i])
        if row != state[ROW]:
            out[n] = row
            n += 1
            state[ROW] = row
        follows = state[COLUMN] >= 0 and on == state[POLARITY] and 0 <= column - state[COLUMN] < _SPAN
        base = state[COLUMN] if follows else column
        mask = np.int64(1) << (column - base)
        k = i + 1
        while k < t.size and t[k] == t[i] and y[k] == y[i] and p[k] == p[i] and x[k] > x[k - 1]:
            if x[k] - base >= _SPAN:
                break
            mask |= np.int64(1) << (np.int64(x[k]) - base)
            k += 1
        if k - i > (3 if follows else 4):  # words saved
            if not follows:
                out[n] = 0x3000 | on << 11 | base
                n += 1
            out[n] = 0x4000 | (mask & 0xFFF)
            out[n + 1] = 0x4000 | (mask >> 12 & 0xFFF)
            out[n + 2] = 0x5000 | (mask >> 24 & 0xFF)
            n += 3
            state[COLUMN] = base + _SPAN
            state[POLARITY] = on
            i = k
        else:
            out[n] = 0x2000 | on << 11 | column
            n += 1
            i += 1
    return n


class Encoder:
    """Events and triggers to a stream of EVT3, written as it goes (see :mod:`rtpipe.encodings.evt3`).

    ``origin`` µs: the time that a reader starts from, a multiple of 2**24; the words alone say times below 2**24, and
    from there on what has passed since.
    """

    def __init__(self, origin: int = 0) -> None:
        self._origin = origin
        self._newest = origin
        self._state = np.array((origin >> 12, -2, -1, -1, -1), np.int64)

    def encode(self, events: Events, triggers: Trigger | None = None) -> Array:
        """The words (little-endian, as uint8) of events and triggers that come after all encoded before.

        Raises ``InputError`` for what EVT3 cannot say: columns or rows of 2048 or more, channels above 15, a pulse that
        is neither a rising nor a falling edge, time going back or before ``origin``.
        """
        none = (np.empty(0, dtype) for dtype in (np.int64, np.uint8, np.uint8))
        signals = Trigger(*none) if triggers is None else triggers
        newest = self._check(events, signals)
        if newest is None:
            return np.empty(0, np.uint8)
        silence = ((newest >> 12) - int(self._state[HIGH])) // _FARTHEST
        out = np.empty(5 * (len(events) + len(signals)) + silence + 2, np.uint16)
        columns = _alike(events.t, events.x, events.y, events.p, signals.t, signals.channel, signals.edge)
        n = _encode(self._state, out, *columns)
        self._newest = newest
        return out[:n].astype("<u2", copy=False).view(np.uint8)

    def _check(self, events: Events, signals: Trigger) -> int | None:
        """That all can be said; the last time, None where there is nothing to say."""
        wrong = fault(events, (WIDEST, WIDEST))
        if wrong:
            raise InputError(f"EVT3 cannot hold these events: bad {wrong} (columns and rows are below {WIDEST})")
        if len(signals) and (int(signals.channel.max()) > 15 or int(signals.edge.max()) > Edge.RISING):
            raise InputError("EVT3 cannot hold these triggers: channels are below 16, edges rising or falling")
        times = np.sort(np.concatenate((events.t, signals.t)), kind="stable") if len(signals) else events.t
        if not len(times):
            return None
        if int(times[0]) < self._newest or np.any(signals.t[1:] < signals.t[:-1]):
            raise InputError(f"EVT3 cannot hold these events: time {times[0]} µs comes after {self._newest} µs")
        if int(times[-1]) - self._newest > LONGEST_GAP_US:
            raise InputError("EVT3 cannot hold these events: they are more than a year apart")
        return int(times[-1])


def _alike(*columns: Array) -> tuple[Array, ...]:
    """The columns as contiguous and read-only: one kind, for which the kernel is compiled once."""
    views = []
    for column in columns:
        view = np.ascontiguousarray(column).view()
        view.flags.writeable = False
        views.append(view)
    return tuple(views)
