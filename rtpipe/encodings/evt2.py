"""EVT 2.0 of Prophesee cameras: 32-bit words, one event each.

A word's upper four bits are its kind: an event off or on (0, 1: low six bits of the time in bits 22 to 27, column in 11
to 21, row in 0 to 10), the time's upper 28 bits (8), an external trigger (10: time as an event, channel in bits 8 to
12, level in bit 0), others and continuations (14, 15), which hold no events.

Time: 34 bits of µs, carried on beyond: a high time that is half the range or more below the last one is a wrap (4.8 h).
Spec: docs.prophesee.ai, EVT 2.0 Format.
"""

from __future__ import annotations

import struct

import numpy as np

from rtpipe.encodings import evt2_walk as walking
from rtpipe.encodings.cutting import first_word2
from rtpipe.encodings.decoded import Scan
from rtpipe.encodings.stream import Coding, StreamDecoder, bytes_before, scan_with
from rtpipe.types import Array, Resolution

__all__ = ["INITIAL", "NAME", "WORD", "Decoder", "before", "scan", "warm"]

NAME = "evt2"
WORD = 4
_STATE = struct.Struct("<qqq")
INITIAL = _STATE.pack(-1, -1, -1)


def _count(words: Array, _: Array) -> tuple[int, int]:
    n, m = walking.count(words)
    return n, m


_CODING = Coding(NAME, np.dtype("<u4"), _STATE, lambda _: True, _count, walking.walk, first_word2)


class Decoder(StreamDecoder):
    """A stream of EVT2 (see :class:`~rtpipe.encodings.stream.StreamDecoder`)."""

    coding = _CODING

    def __init__(self, resolution: Resolution, state: bytes = INITIAL) -> None:
        super().__init__(resolution, state)


def scan(data: Array, state: bytes = INITIAL) -> Scan:
    """What is in ``data`` (uint8, whole words), without making events. Raises ``InputError``."""
    return scan_with(_CODING, data, state)


def before(data: Array, state: bytes, t: int) -> int:
    """How many bytes of ``data`` (uint8, whole words) lie before the word with the first event at or after ``t`` (µs);
    all of them where there is none: where to cut, or to enter. Raises ``InputError``."""
    return bytes_before(_CODING, data, state, t)


def warm() -> None:
    """Compile, or load, every kernel."""
    Decoder((1, 1)).decode(np.zeros(WORD, np.uint8))
    scan(np.zeros(WORD, np.uint8))
    before(np.zeros(WORD, np.uint8), INITIAL, 0)
