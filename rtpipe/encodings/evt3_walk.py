"""The one kernel that walks over EVT3 words, for decoding and for scanning.

Four lanes of 16 bits in one register hold the last word of each kind: high time, low time, row, column. A word is put
into its lane by two table look-ups, so that the common kinds need no branch. The rarer kinds are put into the lane of
the high time, so that one comparison finds them and every change of high time. The register is stored at every word and
kept where the word was an event; a second loop, which compiles to vector instructions, makes columns of what was kept
and looks whether all are in order and on the sensor. Indices are unsigned: numba would test signed ones for below 0.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from rtpipe.encodings.sift import sift
from rtpipe.encodings.stream import FIRST, LAST, NO_TIME, ORDER, REACHED, TIME, TRIGGERED, TRIGGERS, WORDS
from rtpipe.kernels import kernel
from rtpipe.types import Array

Word: TypeAlias = Any
"""A uint64: mixed with signed numbers numba would make floats of them."""

ROW, COLUMN = 3, 4
"""Where the state has what follows the times: the last row word's 12 bits; the vector base's column, polarity in bit
15."""

KEPT = 4096
"""Events gathered before they are made columns of; what 32 KiB of the first cache hold."""

_LANES = {0: 16, 2: 0, 6: 32, 7: 0, 14: 0, 15: 0}  # continuations and counters go where nothing is kept between words
SHIFT = np.array([_LANES.get(kind, 48) for kind in range(16)], np.uint8)
KEEP = ~(np.uint64(0xFFFF) << SHIFT.astype(np.uint64))
ONE = np.array([kind == 2 for kind in range(16)], np.uint8)
COUNT = np.array([bin(mask).count("1") for mask in range(1 << 12)], np.uint8)
POSITION = np.zeros((1 << 12, 12), np.uint16)
"""The set bits of a vector word, lowest first."""
for _mask in range(1 << 12):
    POSITION[_mask, : COUNT[_mask]] = [bit for bit in range(12) if _mask >> bit & 1]
FOUR_POSITIONS = POSITION[:, :4].copy().view(np.uint64).reshape(-1)
"""The first four of them in one number: few vectors of a camera have more."""

WIDEST = 2048
BEYOND = np.uint64(0x8000)
"""In the column's lane: further right than 11 bits can say."""
FULL = np.uint64(KEPT - 12)
LOW = np.uint64(0xFFF)
ONES = np.uint64(0x0001000100010001)
U0, U1, U12, U16, U32, U48, U64 = (np.uint64(n) for n in (0, 1, 12, 16, 32, 48, 64))


@kernel()
def _lanes_that_are(kinds: Word, kind: Word) -> Word:
    """1 in each 16-bit lane of ``kinds`` (0 to 15) that holds ``kind``, 0 in the others."""
    return ((((kinds ^ (kind * ONES)) + np.uint64(15) * ONES) >> np.uint64(4)) & ONES) ^ ONES


@kernel()
def _bits_of_vectors(four: Word) -> Word:
    """In each lane how many bits its word says are events, 0 where it is no vector."""
    kinds = (four >> U12) & (np.uint64(15) * ONES)
    vector8 = _lanes_that_are(kinds, np.uint64(5))
    vector = _lanes_that_are(kinds, np.uint64(4)) | vector8
    bits = four & ((vector << U12) - vector) & ~(vector8 * np.uint64(0xF00))
    bits -= (bits >> U1) & np.uint64(0x5555555555555555)
    bits = (bits & np.uint64(0x3333333333333333)) + ((bits >> np.uint64(2)) & np.uint64(0x3333333333333333))
    bits = (bits + (bits >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return (bits + (bits >> np.uint64(8))) & (np.uint64(0xFF) * ONES)


@kernel()
def count(words: Array, quads: Array, counts: Array) -> tuple[Any, Any]:
    """Events and triggers in ``words``: what must be allocated before they are decoded.

    ``quads`` uint64 are the same words four by four, the last up to three left out. Arithmetic on four lanes at a time,
    which compiles to vector instructions.
    """
    events = U0
    triggers = U0
    for start in range(0, quads.size, 256):
        stop = min(start + 256, quads.size)
        n = U0
        m = U0
        vectors = U0
        for i in range(start, stop):
            kinds = (quads[i] >> U12) & (np.uint64(15) * ONES)
            n += _lanes_that_are(kinds, np.uint64(2))
            m += _lanes_that_are(kinds, np.uint64(10))
            vectors |= _lanes_that_are((kinds >> U1) & (np.uint64(7) * ONES), np.uint64(2))
        if vectors:
            for i in range(start, stop):
                n += _bits_of_vectors(quads[i])
        for lane in range(0, 64, 16):
            events += (n >> np.uint64(lane)) & np.uint64(0xFFFF)
            triggers += (m >> np.uint64(lane)) & np.uint64(0xFFFF)
    for i in range(4 * quads.size, words.size):
        word = np.uint64(words[i])
        kind = word >> U12
        if kind == 4 or kind == 5:
            events += np.uint64(counts[word & (LOW if kind == 4 else np.uint64(0xFF))])
        events += np.uint64(kind == 2)
        triggers += np.uint64(kind == 10)
    return np.int64(events), np.int64(triggers)


@kernel()
def _columns(kept: Array, base: int, t: Array, x: Array, y: Array, p: Array) -> tuple[Word, Word, bool]:
    """Make columns of what was kept; the largest column and row, and whether time goes back."""
    right = np.uint16(0)
    bottom = np.uint16(0)
    for i in range(kept.size):
        lanes = kept[i]
        t[i] = base + np.int64((lanes >> U32) & LOW)
        column = np.uint16((lanes & np.uint64(0x7FF)) | ((lanes >> np.uint64(4)) & np.uint64(0x800)))
        row = np.uint16((lanes >> U16) & LOW)
        x[i] = column
        y[i] = row
        p[i] = np.uint8((lanes >> np.uint64(11)) & U1)
        right = max(right, column)
        bottom = max(bottom, row)
    back = False
    for i in range(1, kept.size):
        back |= t[i] < t[i - 1]
    return right, bottom, back


@kernel()
def _look(kept: Array, base: int, reached: Any, tally: Array) -> tuple[int, Any]:
    """Where nothing is made of them: note the times of what was kept; how many are in order, and the latest."""
    back = False
    for i in range(1, kept.size):
        back |= (kept[i] >> U32) < (kept[i - 1] >> U32)
    n = kept.size
    first = base + np.int64((kept[0] >> U32) & LOW)
    if back or first < reached:
        n = 0
        for i in range(kept.size):
            t = base + np.int64((kept[i] >> U32) & LOW)
            if t >= reached:
                first = t if n == 0 else first
                reached = t
                n += 1
        tally[ORDER] += kept.size - n
    else:
        reached = base + np.int64((kept[kept.size - 1] >> U32) & LOW)
    if n > 0:
        tally[LAST] = reached
        if tally[FIRST] < 0:
            tally[FIRST] = first
    return n, reached


@kernel()
def _flush(
    kept: Array, base: int, reached: int, tally: Array, emit: bool, width: int, height: int,
    t: Array, x: Array, y: Array, p: Array, at: int,
) -> tuple[int, int]:  # fmt: skip
    """Append what was kept to the columns; how many the columns hold then, and the latest time of an event."""
    if kept.size == 0:
        return at, reached
    end = at + kept.size
    if not emit:
        n, reached = _look(kept, base, reached, tally)
        return at + n, reached
    if end > t.size:
        return -1, reached
    t, x, y, p = t[at:end], x[at:end], y[at:end], p[at:end]
    right, bottom, back = _columns(kept, base, t, x, y, p)
    if back or t[0] < reached or right >= width or bottom >= height:
        latest = t.max()
        end = at + sift(reached, width, height, t, x, y, p, tally)
        return end, max(reached, latest)
    return end, t[-1]


@kernel(inline="always")
def _common(
    words: Array, i: Word, stop: Word, lanes: Word, kept: Array, n: Word,
    shift: Array, keep: Array, one: Array,
) -> tuple[Word, Word, Word]:  # fmt: skip
    """Go over the common kinds of words up to ``stop`` or to the first that is none; that word, ``lanes`` and ``n``.

    One by one at first; once the rare ones are seen to be far, by sixteen, looked at afterwards.
    """
    high = lanes >> U48
    begun = i
    while i < stop:
        while i >= begun + U64 and i + U16 <= stop:
            now = lanes
            m = n
            seen = U0
            for k in range(i, i + U16):
                word = np.uint64(words[k])
                kind = word >> U12
                now = (now & keep[kind]) | (word << np.uint64(shift[kind]))
                kept[m] = now
                seen |= now ^ lanes
                m += np.uint64(one[kind])
            if seen >> U48 != U0:
                break
            i += U16
            lanes = now
            n = m
        for k in range(i, min(stop, i + U32)):
            word = np.uint64(words[k])
            kind = word >> U12
            after = (lanes & keep[kind]) | (word << np.uint64(shift[kind]))
            kept[n] = after
            if after >> U48 != high:
                return k, lanes, n
            lanes = after
            n += np.uint64(one[kind])
        i = min(stop, i + U32)
    return stop, lanes, n


@kernel(inline="always")
def _vectors(
    words: Array, i: Word, stop: Word, lanes: Word, base: Word, kept: Array, n: Word,
    positions: Array, four_positions: Array, counts: Array,
) -> tuple[Word, Word, Word]:  # fmt: skip
    """Go over vectors and their bases up to ``stop``, to the first word that is neither, or until ``kept`` is full;
    that word, the base (column and, in bit 15, polarity) and ``n``."""
    lanes &= ~np.uint64(0xFFFF)
    k = i
    while k < stop and n <= FULL:
        word = np.uint64(words[k])
        kind = word >> U12
        if kind == 3:
            base = (word & np.uint64(0x7FF)) | ((word & np.uint64(0x800)) << np.uint64(4))
        elif kind == 4 or kind == 5:
            mask = word & (LOW if kind == 4 else np.uint64(0xFF))
            column = base & np.uint64(0x7FFF)
            first = lanes | ((base >> np.uint64(15)) << np.uint64(11))
            bits = np.uint64(counts[mask])
            if column <= np.uint64(WIDEST - 12) and bits <= np.uint64(4):
                first |= column
                four = four_positions[mask]
                kept[n] = first + (four & np.uint64(0xFFFF))
                kept[n + U1] = first + ((four >> U16) & np.uint64(0xFFFF))
                kept[n + np.uint64(2)] = first + ((four >> U32) & np.uint64(0xFFFF))
                kept[n + np.uint64(3)] = first + (four >> U48)
            else:
                for j in range(12):
                    right = column + np.uint64(positions[mask, j])
                    kept[n + np.uint64(j)] = first | (right if right < WIDEST else BEYOND)
            n += bits
            column = min(column + np.uint64(12 if kind == 4 else 8), np.uint64(2 * WIDEST))
            base = (base & np.uint64(0x8000)) | column
        else:
            break
        k += U1
    return k, base, n


@kernel()
def walk(
    words: Array, state: Array, tally: Array, kept: Array, shift: Array, keep: Array, one: Array, positions: Array,
    four_positions: Array, counts: Array, emit: bool, width: int, height: int, t: Array, x: Array, y: Array, p: Array,
    trigger_t: Array, trigger_channel: Array, trigger_edge: Array,
) -> tuple[int, int]:  # fmt: skip
    """Go over ``words`` from ``state``, which is brought up to date, adding to ``tally``.

    With ``emit`` the columns are filled; without, events are counted, those included that would be refused. ``kept``
    uint64 [``KEPT``] is scratch. Returns how many events and triggers there are; -1 where the columns are too short.
    """
    timed = state[TIME] >= 0
    base = (state[TIME] >> 12) << 12 if timed else 0
    reached = state[REACHED]
    triggered = state[TRIGGERED]
    lanes = np.uint64(0x8000 | ((base >> 12) & 0xFFF)) << U48
    lanes |= np.uint64(0x6000 | (state[TIME] & 0xFFF) if timed else 0) << U32  # as a word would say it: see _look
    lanes |= np.uint64(state[ROW]) << U16
    column = np.uint64(state[COLUMN])
    at = 0
    triggers = 0
    n = U0
    i = U0
    end = np.uint64(words.size)
    while i < end:
        if timed:
            i, lanes, n = _common(words, i, min(end, i + (np.uint64(KEPT) - n)), lanes, kept, n, shift, keep, one)
            if i < end:
                i, column, n = _vectors(words, i, end, lanes, column, kept, n, positions, four_positions, counts)
            if n > FULL or i == end:
                at, reached = _flush(kept[:n], base, reached, tally, emit, width, height, t, x, y, p, at)
                n = U0
                if at < 0:
                    return -1, -1
                continue
        word = np.uint64(words[i])
        kind = word >> U12
        if kind == 8:
            if not timed or word != lanes >> U48:
                at, reached = _flush(kept[:n], base, reached, tally, emit, width, height, t, x, y, p, at)
                n = U0
                if at < 0:
                    return -1, -1
                high = np.int64(word & LOW)
                wrapped = timed and ((base >> 12) & 0xFFF) >= high + 2048
                base = (((base >> 24) + wrapped) << 24) | (high << 12)
                lanes = (lanes & np.uint64(0xFFFFFFFF)) | (word << U48)
                reached = max(reached, base)
                triggered = max(triggered, base)
                timed = True
        elif kind == 10:
            now = base + np.int64((lanes >> U32) & LOW)
            if timed and now >= triggered:
                if triggers == trigger_t.size:
                    return -1, -1
                trigger_t[triggers] = now
                trigger_channel[triggers] = (word >> np.uint64(8)) & np.uint64(0xF)
                trigger_edge[triggers] = word & U1
                triggers += 1
                triggered = now
            else:
                tally[TRIGGERS] += 1
        elif kind == 1:  # the row of another kind of event: what follows is not ours
            lanes |= LOW << U16
            tally[WORDS] += 1
        elif kind == 9 or 11 <= kind <= 13:
            tally[WORDS] += 1
        elif timed:
            continue
        else:
            if kind == 0:
                lanes = (lanes & ~(LOW << U16)) | ((word & LOW) << U16)
            elif kind == 3 or kind == 4 or kind == 5:
                _, column, m = _vectors(words, i, i + U1, lanes, column, kept, U0, positions, four_positions, counts)
                tally[NO_TIME] += np.int64(m)
            tally[NO_TIME] += kind == 2
        i += U1
    at, reached = _flush(kept[:n], base, reached, tally, emit, width, height, t, x, y, p, at)
    state[TIME] = base + np.int64((lanes >> U32) & LOW) if timed else -1
    state[REACHED] = reached
    state[TRIGGERED] = triggered
    state[ROW] = np.int64((lanes >> U16) & LOW)
    state[COLUMN] = np.int64(column)
    return at, triggers
