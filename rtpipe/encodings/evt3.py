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

import numpy as np

from rtpipe.encodings import evt3_walk as walking
from rtpipe.encodings.decoded import LATEST_US, Decoded, Refused, Scan, words_of
from rtpipe.errors import InputError
from rtpipe.types import Array, Events, Resolution, Trigger

__all__ = ["INITIAL", "NAME", "WORD", "Decoder", "scan", "warm"]

NAME = "evt3"
WORD = 2
_STATE = struct.Struct("<qqqHH")  # the time, the latest of an event and of a trigger; row; vector base
INITIAL = _STATE.pack(-1, -1, -1, 0, 0)

def _unpacked(state: bytes) -> Array:
    """The state as the kernel has it. Raises ``InputError`` for bytes that are none."""
    if len(state) != _STATE.size:
        raise InputError(f"{NAME}: a decoder's state has {_STATE.size} bytes, not {len(state)}")
    *times, row, column = _STATE.unpack(state)
    if any((time < 0) != (times[0] < 0) or not -1 <= time < LATEST_US for time in times) or row >= 1 << 12:
        raise InputError(f"{NAME}: not a decoder's state: times {times} µs, row {row}")
    if column & 0x7FFF > 2 * walking.WIDEST:
        raise InputError(f"{NAME}: not a decoder's state: column {column & 0x7FFF}")
    return np.array((*times, row, column), np.int64)


def _walk(
    words: Array, state: Array, resolution: Resolution | None, kept: Array
) -> tuple[int, Events, Trigger, Array]:
    """How many events are in order, the events (none without ``resolution``), the triggers and the tally."""
    n, m = (0, 0) if not len(words) else walking.count(words, words[: len(words) // 4 * 4].view(np.uint64), walking.COUNT)
    width, height = resolution or (0, 0)
    room = n if resolution else 0
    t, x, y, p = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16), np.empty(room, np.uint8)
    trigger = np.empty(m, np.int64), np.empty(m, np.uint8), np.empty(m, np.uint8)
    tally = np.zeros(7, np.int64)
    tally[walking.FIRST :] = -1
    n, m = walking.walk(
        words, state, tally, kept, walking.SHIFT, walking.KEEP, walking.ONE, walking.POSITION,
        walking.COUNT, resolution is not None, width, height, t, x, y, p, *trigger,
    )  # fmt: skip
    end = n if resolution else 0
    events = Events(t[:end], x[:end], y[:end], p[:end])
    return n, events, Trigger(*(column[:m] for column in trigger)), tally


class Decoder:
    """A stream of EVT3 for a sensor of ``resolution`` (width, height), from ``state`` on.

    Not thread-safe. Raises ``InputError`` for a state that is none.
    """

    def __init__(self, resolution: Resolution, state: bytes = INITIAL) -> None:
        self.resolution = resolution
        self._state = _unpacked(state)
        self._rest = np.empty(0, np.uint8)
        self._kept = np.empty(walking.KEPT, np.uint64)

    def decode(self, data: Array) -> Decoded:
        """The events of the next bytes (uint8, any number: those of a word cut in two are kept for the next call)."""
        if len(self._rest):
            data = np.concatenate((self._rest, data))
        whole = len(data) // WORD * WORD
        self._rest = data[whole:].copy()
        _, events, triggers, tally = _walk(
            words_of(data[:whole], np.uint16, NAME), self._state, self.resolution, self._kept
        )
        return Decoded(events, triggers, Refused(*tally[: walking.FIRST].tolist()))

    @property
    def state(self) -> bytes:
        """The state after the last whole word; bytes of a word cut in two are not in it."""
        return _STATE.pack(*self._state.tolist())


def scan(data: Array, state: bytes = INITIAL) -> Scan:
    """What is in ``data`` (uint8, whole words), without making events. Raises ``InputError``."""
    after = _unpacked(state)
    words = words_of(data, np.uint16, NAME)
    n, _, triggers, tally = _walk(words, after, None, np.empty(walking.KEPT, np.uint64))
    n += int(tally[walking.ORDER] + tally[walking.NO_TIME])
    first, last = (None if time < 0 else int(time) for time in tally[walking.FIRST :])
    reached = None if after[walking.REACHED] < 0 else int(after[walking.REACHED])
    return Scan(n, first, last, reached, triggers, _STATE.pack(*after.tolist()))


def warm() -> None:
    """Compile, or load, every kernel."""
    Decoder((1, 1)).decode(np.zeros(2, np.uint8))
    scan(np.zeros(2, np.uint8))
