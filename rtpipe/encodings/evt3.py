"""EVT 3.0 of Prophesee cameras: 16-bit words, each of which says only what has changed.

A word's upper four bits are its kind: row (0; 11 bits, and a bit that marks another camera), column (2; with polarity
in bit 11: one event), base column of a vector (3, the same bits), vector of 12 or 8 neighbours (4, 5: a bit per column,
the base moves on behind them), low and high 12 bits of the time in µs (6, 8), external trigger (10: channel in bits 8
to 11, level in bit 0), counters and continuations (14, 15, 7), which hold no events.

Time: 24 bits, carried on beyond by the vendor's rule. A high time that is 2048 or more below the last one is a wrap
(16.8 s); where it changes the low time falls to 0. Spec: docs.prophesee.ai, EVT 3.0 Format.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from rtpipe.encodings import evt3_walk as walking
from rtpipe.encodings.cutting import first_word3
from rtpipe.encodings.decoded import Scan
from rtpipe.encodings.evt3_encode import Encoder
from rtpipe.encodings.stream import Coding, StreamDecoder, bytes_before, scan_with
from rtpipe.types import Array, Resolution

__all__ = ["INITIAL", "NAME", "WORD", "Decoder", "Encoder", "before", "scan", "starting_at", "warm"]

NAME = "evt3"
WORD = 2
_STATE = struct.Struct("<qqqHH")
INITIAL = _STATE.pack(-1, -1, -1, 0, 0)


def starting_at(time: int) -> bytes:
    """The state of a decoder that has seen nothing, of a stream whose times begin at ``time`` (µs) instead of 0."""
    return _STATE.pack(time, time, time, 0, 0)


def _within(state: Array) -> bool:
    return bool(state[walking.ROW] < 1 << 12 and state[walking.COLUMN] & 0x7FFF <= 2 * walking.WIDEST)


def _count(words: Array, _: Array) -> tuple[int, int]:
    fours = words[: len(words) // 4 * 4].view(np.uint64)
    n, m = walking.count(words, fours, walking.COUNT)
    return n, m


def _walk(words: Array, state: Array, tally: Array, *rest: Any) -> tuple[int, int]:
    kept = np.empty(walking.KEPT, np.uint64)
    tables = walking.SHIFT, walking.KEEP, walking.ONE, walking.POSITION, walking.FOUR_POSITIONS, walking.COUNT
    n, m = walking.walk(words, state, tally, kept, *tables, *rest)
    return n, m


_CODING = Coding(NAME, np.dtype("<u2"), _STATE, _within, _count, _walk, first_word3)


class Decoder(StreamDecoder):
    """A stream of EVT3 (see :class:`~rtpipe.encodings.stream.StreamDecoder`)."""

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
