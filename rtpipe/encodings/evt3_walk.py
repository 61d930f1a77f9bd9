"""The one kernel that walks over EVT3 words, for decoding and for scanning.

Four lanes of 16 bits in one register hold the last word of each kind: high time, low time, row, column. A word is put
into its lane by two table look-ups, so that the common kinds need no branch. As time lies in the upper lanes, one
comparison from below and one from above find everything else: a change of high time, time going back, and the rarer
kinds, which are put into the lane of the high time to be found there. The register is stored at every word and kept
where the word was an event; a second loop, which compiles to vector instructions, makes columns of what was kept.
"""

from __future__ import annotations

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array

TIME, REACHED, ROW, COLUMN = range(4)
"""Where the state (int64) has its parts: µs or -1; µs; the last row word's 12 bits; the vector base's column with its
polarity in bit 15."""

COORDINATES, ORDER, NO_TIME, TRIGGERS, WORDS, FIRST, LAST = range(7)
"""Where the tally (int64) has its parts: what was refused, and the times of the first and last event in order or -1."""

KEPT = 4096
"""Events gathered before they are made columns of; what 32 KiB of the first cache hold."""

_LANES = {0: 16, 2: 0, 6: 32, 7: 0, 14: 0, 15: 0}  # continuations and counters go where nothing is kept between words
SHIFT = np.array([_LANES.get(kind, 48) for kind in range(16)], np.uint64)
KEEP = ~(np.uint64(0xFFFF) << SHIFT)
COUNT = np.array([bin(mask).count("1") for mask in range(1 << 12)], np.uint8)
POSITION = np.zeros((1 << 12, 12), np.uint16)
"""The set bits of a vector word, lowest first."""
for _mask in range(1 << 12):
    POSITION[_mask, : COUNT[_mask]] = [bit for bit in range(12) if _mask >> bit & 1]

_BEYOND = np.uint64(0x8000)  # in the column's lane: further right than 11 bits can say
_WIDEST = 2048


@kernel()
def count(words: Array) -> tuple[int, int]:
    """Events and triggers in ``words``: what must be allocated before they are decoded."""
    events = 0
    triggers = 0
    for start in range(0, words.size, 4096):  # so that the sums fit 16 bits
        n = np.uint16(0)
        m = np.uint16(0)
        for i in range(start, min(start + 4096, words.size)):
            word = words[i]
            kind = word >> np.uint16(12)
            bits = np.uint16(1) if kind == 2 else np.uint16(0)
            bits = word & np.uint16(0xFFF) if kind == 4 else bits
            bits = word & np.uint16(0xFF) if kind == 5 else bits
            bits = bits - ((bits >> np.uint16(1)) & np.uint16(0x5555))
            bits = (bits & np.uint16(0x3333)) + ((bits >> np.uint16(2)) & np.uint16(0x3333))
            bits = (bits + (bits >> np.uint16(4))) & np.uint16(0x0F0F)
            n += (bits + (bits >> np.uint16(8))) & np.uint16(0xFF)
            m += np.uint16(1) if kind == 10 else np.uint16(0)
        events += n
        triggers += m
    return events, triggers


@kernel()
def _columns(kept: Array, base: int, t: Array, x: Array, y: Array, p: Array) -> tuple[int, int]:
    """Make columns of what was kept; the largest column and row."""
    right = np.uint16(0)
    bottom = np.uint16(0)
    for i in range(kept.size):
        lanes = kept[i]
        t[i] = base + np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF))
        column = np.uint16((lanes & np.uint64(0x7FF)) | ((lanes >> np.uint64(4)) & np.uint64(0x800)))
        row = np.uint16(lanes >> np.uint64(16)) & np.uint16(0xFFF)
        x[i] = column
        y[i] = row
        p[i] = np.uint8(lanes >> np.uint64(11)) & np.uint8(1)
        right = max(right, column)
        bottom = max(bottom, row)
    return right, bottom


@kernel()
def _sift(width: int, height: int, t: Array, x: Array, y: Array, p: Array) -> int:
    """Close the gaps that events off the sensor leave; how many are left."""
    n = 0
    for i in range(t.size):
        if x[i] < width and y[i] < height:
            t[n], x[n], y[n], p[n] = t[i], x[i], y[i], p[i]
            n += 1
    return n


@kernel()
def _flush(
    kept: Array, n: int, base: int, tally: Array, emit: bool, width: int, height: int,
    t: Array, x: Array, y: Array, p: Array, at: int,
) -> int:  # fmt: skip
    """Append the ``n`` events of ``kept`` to the columns; how many the columns hold then."""
    if n == 0:
        return at
    if tally[FIRST] < 0:
        tally[FIRST] = base + np.int64((kept[0] >> np.uint64(32)) & np.uint64(0xFFF))
    tally[LAST] = base + np.int64((kept[n - 1] >> np.uint64(32)) & np.uint64(0xFFF))
    if not emit:
        return at + n
    end = at + n
    right, bottom = _columns(kept[:n], base, t[at:end], x[at:end], y[at:end], p[at:end])
    if right < width and bottom < height:
        return end
    left = _sift(width, height, t[at:end], x[at:end], y[at:end], p[at:end])
    tally[COORDINATES] += n - left
    return at + left


@kernel()
def walk(
    words: Array, state: Array, tally: Array, kept: Array, shift: Array, keep: Array, positions: Array, counts: Array,
    emit: bool, width: int, height: int, t: Array, x: Array, y: Array, p: Array,
    trigger_t: Array, trigger_channel: Array, trigger_edge: Array,
) -> tuple[int, int]:  # fmt: skip
    """Go over ``words`` from ``state``, which is brought up to date, adding to ``tally``.

    With ``emit`` the columns are filled; without, events are only counted (off the sensor or not). ``kept`` uint64
    [``KEPT``] is scratch. Returns how many events and triggers there are.
    """
    time = state[TIME]
    reached = state[REACHED]
    timed = time >= 0
    late = timed and time < reached
    base = (time >> 12) << 12 if timed else 0
    high = np.uint64(0x8000 | ((base >> 12) & 0xFFF))
    lanes = (high << np.uint64(48)) | (np.uint64(0x6000 | (time & 0xFFF if timed else 0)) << np.uint64(32))
    lanes |= np.uint64(state[ROW] & 0xFFF) << np.uint64(16)
    column = state[COLUMN] & 0x7FFF
    polarity = np.uint64((state[COLUMN] >> 15) << 11)
    at = 0
    triggers = 0
    n = 0
    i = 0
    while i < words.size:
        if timed and not late:
            newest = lanes >> np.uint64(32)
            limit = (high + np.uint64(1)) << np.uint64(16)
            stop = min(words.size, i + KEPT - n)
            while i < stop:
                word = words[i]
                kind = word >> np.uint16(12)
                after = (lanes & keep[kind]) | (np.uint64(word) << shift[kind])
                times = after >> np.uint64(32)
                kept[n] = after
                if times < newest or times >= limit:
                    break
                newest = times
                lanes = after
                n += kind == 2
                i += 1
            if i == words.size:
                break
            if i == stop:
                at = _flush(kept, n, base, tally, emit, width, height, t, x, y, p, at)
                n = 0
                continue
        word = words[i]
        kind = word >> np.uint16(12)
        i += 1
        if kind == 3:
            column = np.int64(word & np.uint16(0x7FF))
            polarity = np.uint64(word & np.uint16(0x800))
        elif kind == 4 or kind == 5:
            mask = word & np.uint16(0xFFF if kind == 4 else 0xFF)
            if late or not timed:
                tally[ORDER if timed else NO_TIME] += counts[mask]
            else:
                if n > KEPT - 12:
                    at = _flush(kept, n, base, tally, emit, width, height, t, x, y, p, at)
                    n = 0
                first = (lanes & ~np.uint64(0xFFFF)) | polarity
                if column <= _WIDEST - 12:
                    first |= np.uint64(column)
                    for j in range(12):
                        kept[n + j] = first + np.uint64(positions[mask, j])
                else:
                    for j in range(12):
                        right = column + np.int64(positions[mask, j])
                        kept[n + j] = first | (np.uint64(right) if right < _WIDEST else _BEYOND)
                n += counts[mask]
            column = min(column + (12 if kind == 4 else 8), 2 * _WIDEST)
        elif kind == 8 or kind == 6:
            if kind == 8:
                now = np.uint64(word)
                if not timed or now != high:
                    at = _flush(kept, n, base, tally, emit, width, height, t, x, y, p, at)
                    n = 0
                    earlier = (base >> 12) & 0xFFF
                    later = np.int64(word & np.uint16(0xFFF))
                    wraps = base >> 24
                    if timed and earlier >= later + 2048:
                        wraps += 1
                    reached = reached if late else max(reached, base | np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF)))
                    base = (wraps << 24) | (later << 12)
                    high = now
                    lanes = (lanes & np.uint64(0xFFFF0FFF)) | (np.uint64(0x6000) << np.uint64(32)) | (high << np.uint64(48))
                    timed = True
            elif timed:
                if not late:
                    reached = base | np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF))
                lanes = (lanes & ~(np.uint64(0xFFFF) << np.uint64(32))) | (np.uint64(word) << np.uint64(32))
            late = timed and (base | np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF))) < reached
        elif kind == 2:
            tally[ORDER if timed else NO_TIME] += 1
        elif kind == 0:
            lanes = (lanes & ~(np.uint64(0xFFFF) << np.uint64(16))) | (np.uint64(word) << np.uint64(16))
        elif kind == 10:
            if timed and not late:
                trigger_t[triggers] = base | np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF))
                trigger_channel[triggers] = np.uint8((word >> np.uint16(8)) & np.uint16(0xF))
                trigger_edge[triggers] = np.uint8(word & np.uint16(1))
                triggers += 1
            else:
                tally[TRIGGERS] += 1
        elif kind != 7 and kind != 14 and kind != 15:
            if kind == 1:  # a row of another kind of event: what follows is not ours
                lanes |= np.uint64(0xFFF) << np.uint64(16)
            tally[WORDS] += 1
    at = _flush(kept, n, base, tally, emit, width, height, t, x, y, p, at)
    time = base | np.int64((lanes >> np.uint64(32)) & np.uint64(0xFFF)) if timed else -1
    state[TIME] = time
    state[REACHED] = reached if late else time
    state[ROW] = np.int64((lanes >> np.uint64(16)) & np.uint64(0xFFF))
    state[COLUMN] = column | (np.int64(polarity) << 4)
    return at, triggers
