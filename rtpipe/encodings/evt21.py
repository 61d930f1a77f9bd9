"""EVT 2.1 of Prophesee cameras: 64-bit words, each with up to 32 events of one row, time and polarity.

A word's upper four bits are its kind: events off or on (0, 1: low six bits of the time in bits 54 to 59, first column
in 43 to 53, row in 32 to 42, and in 0 to 31 a bit per column), the time's upper 28 bits (8: in bits 32 to 59), an
external trigger (10: time as events, channel in bits 40 to 44, level in bit 32), others and continuations (14, 15),
which hold no events. Time as in EVT 2.0.

Some cameras (IMX636) send the upper half of a word before the lower one, the "legacy" order: a decoder that begins with
the state ``LEGACY`` expects that. Spec: docs.prophesee.ai, EVT 2.1 Format.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from rtpipe.encodings import evt2_walk as walking
from rtpipe.encodings.cutting import first_word21
from rtpipe.encodings.decoded import Scan
from rtpipe.encodings.stream import Coding, StreamDecoder, bytes_before, scan_with
from rtpipe.types import Array, Resolution

__all__ = ["INITIAL", "LEGACY", "NAME", "WORD", "Decoder", "before", "scan", "upper_half_first", "warm"]

NAME = "evt21"
WORD = 8
_STATE = struct.Struct("<qqqB")
_SWAPPED = 3  # where the state says whether the upper half of a word comes first
INITIAL = _STATE.pack(-1, -1, -1, 0)
LEGACY = _STATE.pack(-1, -1, -1, 1)


def _count(words: Array, state: Array) -> tuple[int, int]:
    n, m = walking.count21(words, bool(state[_SWAPPED]))
    return n, m


def _walk(words: Array, state: Array, tally: Array, *rest: Any) -> tuple[int, int]:
    n, m = walking.walk21(words, state, tally, walking.LOWEST, bool(state[_SWAPPED]), *rest)
    return n, m


def _first_word(words: Array, state: Array, t: int) -> int:
    return first_word21(words, state, bool(state[_SWAPPED]), t)


_CODING = Coding(
    NAME, np.dtype("<u8"), _STATE, lambda state: bool(state[_SWAPPED] <= 1), _count, _walk, _first_word, False
)


class Decoder(StreamDecoder):
    """A stream of EVT2.1 (see :class:`~rtpipe.encodings.stream.StreamDecoder`)."""

    coding = _CODING

    def __init__(self, resolution: Resolution, state: bytes = INITIAL) -> None:
        super().__init__(resolution, state)


def scan(data: Array, state: bytes = INITIAL) -> Scan:
    """What is in ``data`` (uint8, whole words), without making events. Raises ``InputError``."""
    return scan_with(_CODING, data, state)


def upper_half_first(data: Array) -> bool | None:
    """Which order of halves ``data`` (uint8, whole words) is in, by what makes sense: all words of known kinds and high
    times, at least two, that go on by little. None where that is true of both orders or of neither."""
    halves = data.view("<u4").reshape(-1, 2)
    sensible = []
    for upper in (halves[:, 1], halves[:, 0]):
        kinds = upper >> 28
        times = (upper[kinds == 8] & 0xFFFFFFF).astype(np.int64)
        steps = np.diff(times)
        known = np.isin(kinds, (0, 1, 8, 10, 14, 15)).all()
        sensible.append(bool(known and len(steps) and (np.abs(steps) < 1 << 20).mean() > 0.9))
    lower, first = sensible
    return None if lower == first else first


def before(data: Array, state: bytes, t: int) -> int:
    """How many bytes of ``data`` (uint8, whole words) lie before the word with the first event at or after ``t`` (µs);
    all of them where there is none: where to cut, or to enter. Raises ``InputError``."""
    return bytes_before(_CODING, data, state, t)


def warm() -> None:
    """Compile, or load, every kernel."""
    Decoder((1, 1)).decode(np.zeros(WORD, np.uint8))
    scan(np.zeros(WORD, np.uint8))
    before(np.zeros(WORD, np.uint8), INITIAL, 0)
