"""Where in a stream of words a time begins: to cut it there, or to enter it there."""

from __future__ import annotations

from typing import Any

import numpy as np

from rtpipe.encodings.evt2_walk import later
from rtpipe.encodings.stream import TIME
from rtpipe.kernels import kernel
from rtpipe.types import Array


@kernel()
def first_word3(words: Array, state: Array, t: int) -> int:
    """The first word of EVT3 that holds an event at or after ``t`` (µs); ``words.size`` where there is none."""
    time = state[TIME]
    for i in range(words.size):
        word = np.int64(words[i])
        kind = word >> 12
        low = word & 0xFFF
        if kind == 8:
            before = (time >> 12) & 0xFFF
            if time < 0:
                time = low << 12
            elif low != before:
                wraps = (time >> 24) + (1 if before >= low + 2048 else 0)
                time = (wraps << 24) | (low << 12)
        elif kind == 6 and time >= 0:
            time = (time & ~0xFFF) | low
        elif time >= t and time >= 0 and (kind == 2 or (kind == 4 and low) or (kind == 5 and low & 0xFF)):
            return i
    return words.size


@kernel()
def first_word2(words: Array, state: Array, t: int) -> int:
    """As :func:`first_word3`, of EVT2."""
    time = state[TIME]
    for i in range(words.size):
        word = np.int64(words[i])
        kind = word >> 28
        if kind == 8:
            time = later(time, word & 0xFFFFFFF)
        elif kind < 2 and time >= 0:
            time = (time & ~63) | ((word >> 22) & 63)
            if time >= t:
                return i
        elif kind == 10 and time >= 0:
            time = (time & ~63) | ((word >> 22) & 63)
    return words.size


@kernel()
def first_word21(words: Array, state: Array, swapped: bool, t: int) -> int:
    """As :func:`first_word3`, of EVT2.1."""
    time = state[TIME]
    for i in range(words.size):
        upper: Any = np.int64(words[i] >> np.uint64(0 if swapped else 32)) & 0xFFFFFFFF
        lower: Any = np.int64(words[i] >> np.uint64(32 if swapped else 0)) & 0xFFFFFFFF
        kind = upper >> 28
        if kind == 8:
            time = later(time, upper & 0xFFFFFFF)
        elif kind < 2 and time >= 0:
            time = (time & ~63) | ((upper >> 22) & 63)
            if time >= t and lower:
                return i
        elif kind == 10 and time >= 0:
            time = (time & ~63) | ((upper >> 22) & 63)
    return words.size
