"""What the encodings share: a decoder and a scan around the kernel that walks over words.

Each has a kernel that brings a state (int64 numbers) up to date, adds to a tally, and fills columns or, for a scan,
only counts. So a scan can never say anything else than the decoder.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from rtpipe.encodings.decoded import Decoded, Refused, Scan
from rtpipe.errors import InputError
from rtpipe.types import Array, Events, Resolution, Trigger

TIME, REACHED, TRIGGERED = range(3)
"""Where every state begins: the time that the stream showed last, the latest that an event and that a trigger must not
precede; µs, -1 before the first time."""

COORDINATES, ORDER, NO_TIME, TRIGGERS, WORDS, FIRST, LAST = range(7)
"""Where a tally (int64) has its parts: what was refused (see :class:`Refused`), and the times of the first and the last
event in order, or -1."""

LATEST_US = 1 << 61
"""No time in a state is later (µs): far from where int64 ends."""

FEW_TRIGGERS = 256
"""There is room for so many before they are counted."""


@dataclass(frozen=True, slots=True)
class Coding:
    """An encoding as the decoder sees it.

    ``word`` its dtype. ``layout`` of the state's bytes: three int64 times, then what else ``within`` checks, which gets
    all numbers and says whether they can be. ``count(words, state)``: how many events and triggers are in them.
    ``walk(words, state, tally, emit, width, height, t, x, y, p, trigger_t, trigger_channel, trigger_edge)``: the kernel
    with its tables; it returns how many events and triggers it has put there, or -1 where the columns are too short
    (state and tally are spoiled then). ``one_each``: a word is seldom more than one event, so that columns as long as
    the words are tried before anything is counted. ``first_word(words, state, t)``: which
    word holds the first event at or after ``t`` µs, ``len(words)`` where none does; None: words of it are not cut.
    """

    name: str
    word: np.dtype[np.unsignedinteger]
    layout: struct.Struct
    within: Callable[[Array], bool]
    count: Callable[[Array, Array], tuple[int, int]]
    walk: Callable[..., tuple[int, int]]
    first_word: Callable[[Array, Array, int], int] | None = None
    one_each: bool = True

    def numbers(self, state: bytes) -> Array:
        """A state as the kernel has it. Raises ``InputError`` for bytes that are none."""
        if len(state) != self.layout.size:
            raise InputError(f"{self.name}: a decoder's state has {self.layout.size} bytes, not {len(state)}")
        numbers = np.array(self.layout.unpack(state), np.int64)
        times = numbers[: TRIGGERED + 1]
        timed = times >= 0
        if not ((times >= -1) & (times < LATEST_US)).all() or timed.any() != timed.all() or not self.within(numbers):
            raise InputError(f"{self.name}: {numbers.tolist()} cannot be a decoder's state")
        return numbers

    def words(self, data: Array) -> Array:
        """Bytes (uint8, whole words) as words, read-only; a view where they lie on a multiple of 8 bytes.

        Raises ``InputError``.
        """
        data = np.asarray(data)
        if data.dtype != np.uint8 or data.ndim != 1 or len(data) % self.word.itemsize:
            wanted = f"whole words of {self.word.itemsize} bytes as uint8"
            raise InputError(f"{self.name}: {wanted} wanted, got {data.dtype} {data.shape}")
        if not data.flags.c_contiguous or data.ctypes.data % 8:
            data = data.copy()
        words = data.view(self.word)
        words.flags.writeable = False  # or numba would compile anew for the other kind
        return words


@dataclass(frozen=True, slots=True, eq=False)
class _Walked:
    n: int
    events: Events
    triggers: Trigger
    tally: Array


def _walk(coding: Coding, words: Array, state: Array, resolution: Resolution | None) -> _Walked:
    """Go over words; without ``resolution`` no events are made."""
    width, height = resolution or (0, 0)
    room, signals = (len(words), FEW_TRIGGERS) if coding.one_each else coding.count(words, state)
    while True:
        after, tally = state.copy(), np.array((0, 0, 0, 0, 0, -1, -1), np.int64)
        columns = _columns(room if resolution else 0)
        triggers = np.empty(signals, np.int64), np.empty(signals, np.uint8), np.empty(signals, np.uint8)
        n, m = coding.walk(words, after, tally, resolution is not None, width, height, *columns, *triggers)
        if n >= 0:
            break
        room, signals = coding.count(words, state)
    state[:] = after
    end = n if resolution else 0
    t, x, y, p = (column[:end] for column in columns)
    return _Walked(n, Events(t, x, y, p), Trigger(*(column[:m] for column in triggers)), tally)


def _columns(room: int) -> tuple[Array, Array, Array, Array]:
    return np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16), np.empty(room, np.uint8)


class StreamDecoder:
    """A stream of words for a sensor of ``resolution`` (width, height), from ``state`` on.

    Not thread-safe. Raises ``InputError`` for a state that is none.
    """

    coding: ClassVar[Coding]

    def __init__(self, resolution: Resolution, state: bytes) -> None:
        self.resolution = resolution
        self._numbers = self.coding.numbers(state)
        self._rest = np.empty(0, np.uint8)

    def decode(self, data: Array) -> Decoded:
        """The events of the next bytes (uint8, any number of them). A word that is cut in two is kept here until its
        other half comes."""
        if len(self._rest):
            data = np.concatenate((self._rest, data))
        whole = len(data) // self.coding.word.itemsize * self.coding.word.itemsize
        self._rest = data[whole:].copy()
        walked = _walk(self.coding, self.coding.words(data[:whole]), self._numbers, self.resolution)
        return Decoded(walked.events, walked.triggers, Refused(*walked.tally[:FIRST].tolist()))

    @property
    def state(self) -> bytes:
        """The state after the last whole word; the half of a word that waits for the other is not in it."""
        return self.coding.layout.pack(*self._numbers.tolist())


def scan_with(coding: Coding, data: Array, state: bytes) -> Scan:
    """What is in ``data`` (uint8, whole words), without making events. Raises ``InputError``."""
    numbers = coding.numbers(state)
    walked = _walk(coding, coding.words(data), numbers, None)
    first, last = (None if time < 0 else int(time) for time in walked.tally[FIRST:])
    reached = None if numbers[REACHED] < 0 else int(numbers[REACHED])
    n = walked.n + int(walked.tally[ORDER] + walked.tally[NO_TIME])
    after = coding.layout.pack(*numbers.tolist())
    return Scan(n, first, last, reached, walked.triggers, after, Refused(*walked.tally[:FIRST].tolist()))


def bytes_before(coding: Coding, data: Array, state: bytes, t: int) -> int:
    """How many bytes of ``data`` (uint8, whole words) lie before the word with the first event at or after ``t`` (µs);
    all of them where there is none. Raises ``InputError``."""
    assert coding.first_word is not None
    return int(coding.first_word(coding.words(data), coding.numbers(state), t)) * coding.word.itemsize
