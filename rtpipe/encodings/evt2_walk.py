"""The kernels that walk over EVT2 and EVT2.1 words: in both every word of events has its row, column and low time."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtpipe.encodings.sift import sift
from rtpipe.encodings.stream import COORDINATES, FIRST, LAST, NO_TIME, ORDER, REACHED, TIME, TRIGGERED, TRIGGERS, WORDS
from rtpipe.kernels import kernel
from rtpipe.types import Array

HIGH_BITS = 28
"""Of the time's upper part; six more are in every word of events."""

DE_BRUIJN = np.uint32(0x077CB531)
LOWEST = np.zeros(32, np.uint8)
"""Which bit is the lowest: by the upper five bits of it times ``DE_BRUIJN``."""
for _bit in range(32):
    LOWEST[(int(DE_BRUIJN) << _bit & 0xFFFFFFFF) >> 27] = _bit
U1 = np.uint64(1)
EVENTS_BELOW = np.uint32(2 << 28)
"""Words of EVT2 below it are events."""


@kernel()
def later(time: Any, high: Any) -> Any:
    """The time (µs) that a word of high time means after ``time`` (-1: none yet): its low six bits stay where the high
    ones do, else they are 0; a step back of half the range or more is a wrap (after 4.8 hours)."""
    if time < 0:
        return high << 6
    half = 1 << (HIGH_BITS - 1)
    before = (time >> 6) & ((1 << HIGH_BITS) - 1)
    wraps = time >> (HIGH_BITS + 6)
    if before >= high + half:
        wraps += 1
    return time if before == high else (wraps << (HIGH_BITS + 6)) | (high << 6)


@kernel()
def count(words: Array) -> tuple[int, int]:
    """Events and triggers in EVT2 words: what must be allocated before they are decoded."""
    events = 0
    triggers = 0
    for i in range(words.size):
        kind = words[i] >> np.uint32(28)
        events += kind < 2
        triggers += kind == 10
    return events, triggers


@kernel()
def _columns(words: Array, base: int, t: Array, x: Array, y: Array, p: Array) -> tuple[Any, Any, bool]:
    """Make columns of words that are all events; the largest column and row, and whether time goes back."""
    right = np.uint16(0)
    bottom = np.uint16(0)
    for i in range(words.size):
        word = words[i]
        column = np.uint16((word >> np.uint32(11)) & np.uint32(0x7FF))
        row = np.uint16(word & np.uint32(0x7FF))
        t[i] = base + np.int64((word >> np.uint32(22)) & np.uint32(63))
        x[i] = column
        y[i] = row
        p[i] = np.uint8(word >> np.uint32(28))
        right = max(right, column)
        bottom = max(bottom, row)
    back = False
    for i in range(1, words.size):
        back |= t[i] < t[i - 1]
    return right, bottom, back


@kernel()
def _look(words: Array, base: int, reached: Any, tally: Array) -> tuple[int, Any]:
    """Where nothing is made of words that are all events: how many are in order, and the latest time."""
    n = 0
    for i in range(words.size):
        t = base + np.int64((words[i] >> np.uint32(22)) & np.uint32(63))
        if t >= reached:
            if tally[FIRST] < 0:
                tally[FIRST] = t
            tally[LAST] = reached = t
            n += 1
    tally[ORDER] += words.size - n
    return n, reached


@kernel()
def _run(
    words: Array, base: int, reached: int, tally: Array, emit: bool, width: int, height: int,
    t: Array, x: Array, y: Array, p: Array,
) -> tuple[int, Any]:  # fmt: skip
    """Go over words that are all events of one high time: how many are put into the columns, and the latest time."""
    if not emit:
        return _look(words, base, reached, tally)
    right, bottom, back = _columns(words, base, t, x, y, p)
    if not (back or t[0] < reached or right >= width or bottom >= height):
        return words.size, t[-1]
    latest = max(reached, t.max())
    return sift(reached, width, height, t, x, y, p, tally), latest


@kernel()
def walk(
    words: Array, state: Array, tally: Array, emit: bool, width: int, height: int,
    t: Array, x: Array, y: Array, p: Array, trigger_t: Array, trigger_channel: Array, trigger_edge: Array,
) -> tuple[int, int]:  # fmt: skip
    """Go over EVT2 ``words`` (see :class:`~rtpipe.encodings.stream.Coding`), events of one high time at once."""
    time, reached, triggered = state[TIME], state[REACHED], state[TRIGGERED]
    timed = time >= 0
    n = 0
    m = 0
    i = np.uint64(0)
    size = np.uint64(words.size)
    while i < size:
        end = i
        while end < size and words[end] < EVENTS_BELOW:
            end += U1
        if end > i:
            if timed:
                run = words[i:end]
                base = time & ~63
                room = n + run.size if emit else n
                added, reached = _run(
                    run, base, reached, tally, emit, width, height, t[n:room], x[n:room], y[n:room], p[n:room]
                )
                n += added
                time = base | np.int64((words[end - U1] >> np.uint32(22)) & np.uint32(63))
            else:
                tally[NO_TIME] += np.int64(end - i)
            i = end
            continue
        word = np.uint64(words[i])
        kind = word >> np.uint64(28)
        i += U1
        if kind == 8:
            time = later(time, np.int64(word & np.uint64(0xFFFFFFF)))
            reached = max(reached, time & ~63)
            triggered = max(triggered, time & ~63)
            timed = True
        elif kind == 10:
            if timed:
                time = (time & ~63) | np.int64((word >> np.uint64(22)) & np.uint64(63))
            if timed and time >= triggered:
                if m == trigger_t.size:
                    return -1, -1
                trigger_t[m] = triggered = time
                trigger_channel[m] = (word >> np.uint64(8)) & np.uint64(31)
                trigger_edge[m] = word & U1
                m += 1
            else:
                tally[TRIGGERS] += 1
        elif kind < 14:
            tally[WORDS] += 1
    state[TIME], state[REACHED], state[TRIGGERED] = time, reached, triggered
    return n, m


@kernel()
def count21(words: Array, swapped: bool) -> tuple[Any, Any]:
    """Events and triggers in EVT2.1 words."""
    events = U1 - U1
    triggers = U1 - U1
    for i in range(words.size):
        word = (words[i] << np.uint64(32)) | (words[i] >> np.uint64(32)) if swapped else words[i]
        kind = word >> np.uint64(60)
        bits = word & np.uint64(0xFFFFFFFF) if kind < 2 else U1 - U1
        bits -= (bits >> U1) & np.uint64(0x55555555)
        bits = (bits & np.uint64(0x33333333)) + ((bits >> np.uint64(2)) & np.uint64(0x33333333))
        bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F)
        events += ((bits * np.uint64(0x01010101)) & np.uint64(0xFFFFFFFF)) >> np.uint64(24)
        triggers += np.uint64(kind == 10)
    return np.int64(events), np.int64(triggers)


@kernel()
def walk21(
    words: Array, state: Array, tally: Array, lowest: Array, swapped: bool, emit: bool, width: int, height: int,
    t: Array, x: Array, y: Array, p: Array, trigger_t: Array, trigger_channel: Array, trigger_edge: Array,
) -> tuple[int, int]:  # fmt: skip
    """Go over EVT2.1 ``words`` (see :class:`~rtpipe.encodings.stream.Coding`); ``swapped``: upper half first."""
    time, reached, triggered = state[TIME], state[REACHED], state[TRIGGERED]
    timed = time >= 0
    first, last = tally[FIRST], tally[LAST]
    n = 0
    m = 0
    for i in range(words.size):
        word = words[i]
        if swapped:
            word = (word << np.uint64(32)) | (word >> np.uint64(32))
        kind = word >> np.uint64(60)
        if kind < 2:
            mask = word & np.uint64(0xFFFFFFFF)
            if timed:
                time = (time & ~63) | np.int64((word >> np.uint64(54)) & np.uint64(63))
            refused = timed and time < reached
            base = (word >> np.uint64(43)) & np.uint64(0x7FF)
            row = (word >> np.uint64(32)) & np.uint64(0x7FF)
            if mask and timed and not refused:
                reached = last = time
                if first < 0:
                    first = time
            while mask:
                bit = mask & (~mask + U1)
                mask ^= bit
                if not timed:
                    tally[NO_TIME] += 1
                    continue
                if refused:
                    tally[ORDER] += 1
                    continue
                if emit:
                    position = ((bit * np.uint64(DE_BRUIJN)) & np.uint64(0xFFFFFFFF)) >> np.uint64(27)
                    column = base + np.uint64(lowest[position])
                    if column >= width or row >= height:
                        tally[COORDINATES] += 1
                        continue
                    t[n], x[n], y[n], p[n] = time, column, row, kind
                n += 1
        elif kind == 8:
            time = later(time, np.int64((word >> np.uint64(32)) & np.uint64(0xFFFFFFF)))
            reached = max(reached, time & ~63)
            triggered = max(triggered, time & ~63)
            timed = True
        elif kind == 10:
            if timed:
                time = (time & ~63) | np.int64((word >> np.uint64(54)) & np.uint64(63))
            if timed and time >= triggered:
                trigger_t[m] = triggered = time
                trigger_channel[m] = (word >> np.uint64(40)) & np.uint64(31)
                trigger_edge[m] = (word >> np.uint64(32)) & U1
                m += 1
            else:
                tally[TRIGGERS] += 1
        elif kind < 14:
            tally[WORDS] += 1
    state[TIME], state[REACHED], state[TRIGGERED] = time, reached, triggered
    tally[FIRST], tally[LAST] = first, last
    return n, m
