"""The records of a DAT file: 64-bit words of one event each, with the inner names of an encoding.

The lower 32 bits are the time in µs, which wraps (71.6 minutes): going back by half its range or more is a wrap. Above
them lie 14 bits of column, 14 of row and 4 of polarity (0 off, anything else on).
"""

from __future__ import annotations

import struct

import numpy as np

from rtpipe.encodings import Scan
from rtpipe.encodings.stream import (
    COORDINATES,
    FIRST,
    LAST,
    ORDER,
    REACHED,
    TIME,
    TRIGGERED,
    Coding,
    StreamDecoder,
    scan_with,
)
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution

__all__ = ["INITIAL", "NAME", "WORD", "Decoder", "scan"]

NAME = "dat"
WORD = 8
_STATE = struct.Struct("<qqq")
INITIAL = _STATE.pack(-1, -1, -1)


@kernel()
def _walk(
    words: Array,
    state: Array,
    tally: Array,
    emit: bool,
    width: int,
    height: int,
    t: Array,
    x: Array,
    y: Array,
    p: Array,
) -> int:
    """Go over records (see :class:`~rtpipe.encodings.stream.Coding`)."""
    time, reached, first = state[TIME], state[REACHED], tally[FIRST]
    n = 0
    for i in range(words.size):
        low = np.int64(words[i] & np.uint64(0xFFFFFFFF))
        wraps = time >> 32 if time >= 0 else 0
        if time >= 0 and (time & 0xFFFFFFFF) >= low + (1 << 31):
            wraps += 1
        time = (wraps << 32) | low
        if time < reached:
            tally[ORDER] += 1
            continue
        reached = time
        if first < 0:
            first = time
        column = (words[i] >> np.uint64(32)) & np.uint64(0x3FFF)
        row = (words[i] >> np.uint64(46)) & np.uint64(0x3FFF)
        if emit:
            if column >= width or row >= height:
                tally[COORDINATES] += 1
                continue
            t[n], x[n], y[n], p[n] = time, column, row, (words[i] >> np.uint64(60)) != 0
        n += 1
    state[TIME] = time
    state[REACHED] = reached
    state[TRIGGERED] = time
    tally[FIRST], tally[LAST] = first, reached
    return n


def _count(words: Array, _: Array) -> tuple[int, int]:
    return len(words), 0


def _go(words: Array, state: Array, tally: Array, emit: bool, width: int, height: int, *out: Array) -> tuple[int, int]:
    t, x, y, p, *_ = out  # there are no triggers among them
    return _walk(words, state, tally, emit, width, height, t, x, y, p), 0


_CODING = Coding(NAME, np.dtype("<u8"), _STATE, lambda _: True, _count, _go)


class Decoder(StreamDecoder):
    """A stream of records (see :class:`~rtpipe.encodings.stream.StreamDecoder`)."""

    coding = _CODING

    def __init__(self, resolution: Resolution, state: bytes = INITIAL) -> None:
        super().__init__(resolution, state)


def scan(data: Array, state: bytes = INITIAL) -> Scan:
    """What is in ``data`` (uint8, whole records), without making events. Raises ``InputError``."""
    return scan_with(_CODING, data, state)
