"""Going on after a piece of a stream is missing, or after its clock fell back: what can be believed, and from where.

An encoding says only what changed. Behind a gap the row, the base of a vector and the time are what they were before it
only by luck: what comes before each has been said anew belongs to nobody and is left out, counted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtpipe.encodings import evt2, evt3, evt21
from rtpipe.encodings.evt3_walk import WIDEST
from rtpipe.encodings.stream import REACHED, TIME, TRIGGERED, Coding
from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array

STEP_US = {"evt2": 64, "evt21": 64, "evt3": 4096}
"""What one step of the high time is."""
PERIOD_US = {"evt2": 1 << 34, "evt21": 1 << 34, "evt3": 1 << 24}
"""After which the times in a stream begin anew."""


@dataclass(frozen=True, slots=True)
class Resumed:
    """``skip`` bytes belong to nobody, ``events`` in them; ``state`` the decoder's before the byte after those, None
    where the data end before all is known again: then what is left behind ``skip`` is to be offered once more, with
    what follows it."""

    skip: int
    events: int
    state: bytes | None


@kernel()
def _entry3(words: Array) -> tuple[Any, Any]:
    """The first row word of EVT3 with the time known: its index, or -1, and the time; without one the index of the
    word to begin with next time."""
    high: Any = -1
    low: Any = -1
    at = words.size
    for i in range(words.size):
        word = np.int64(words[i])
        kind = word >> 12
        value = word & 0xFFF
        if kind == 8:
            if value != high:
                low = 0 if high >= 0 else -1
                high = value
                if low < 0:
                    at = i
        elif kind == 6 and high >= 0:
            low = value
        elif kind == 0 and low >= 0:
            return i, (high << 12) | low
    return -1, at


@kernel()
def _entry2(highs: Array) -> tuple[Any, Any]:
    """The first word of EVT2 or EVT2.1 that has a high time, as :func:`_entry3`. ``highs``: the words' upper halves."""
    for i in range(highs.size):
        word = np.int64(highs[i])
        if word >> 28 == 8:
            return i, (word & 0xFFFFFFF) << 6
    return -1, highs.size


@kernel()
def _fall3(words: Array, time: int) -> int:
    """The first word of EVT3 whose high time is some steps, but no wrap, below the one before it; all where none is."""
    high: Any = (time >> 12) & 0xFFF if time >= 0 else -1
    for i in range(words.size):
        word = np.int64(words[i])
        if word >> 12 == 8:
            value = word & 0xFFF
            if high >= 0 and 2 <= high - value < 2048:
                return i
            high = value
    return words.size


@kernel()
def _fall2(highs: Array, time: int) -> int:
    """As :func:`_fall3`, of EVT2 and EVT2.1."""
    high: Any = (time >> 6) & 0xFFFFFFF if time >= 0 else -1
    for i in range(highs.size):
        word = np.int64(highs[i])
        if word >> 28 == 8:
            value = word & 0xFFFFFFF
            if high >= 0 and 128 <= high - value < 1 << 27:
                return i
            high = value
    return highs.size


def resume(encoding: str, data: Array, state: bytes, elapsed_us: int | None = None) -> Resumed:
    """Where decoding can go on in ``data`` (uint8, whole words), which does not follow on what ``state`` has seen.

    ``elapsed_us`` since then by another clock, as far as known: tells how often the time has wrapped meanwhile.
    Raises ``InputError``.
    """
    coding, words, numbers = _parts(encoding, data, state)
    index, value = _entry3(words) if encoding == "evt3" else _entry2(_highs(encoding, words, numbers))
    found = index >= 0
    skip = int(index if found else value)
    events, _ = coding.count(words[:skip], numbers) if skip else (0, 0)
    after = _entered(encoding, coding, numbers, int(value), elapsed_us) if found else None
    return Resumed(skip * coding.word.itemsize, events, after)


def falls(encoding: str, data: Array, state: bytes) -> int:
    """How many bytes of ``data`` (uint8, whole words) lie before the word by which the camera's clock falls back, by 8
    ms or more and less than half its range (more is a wrap); all of them where it does not. Raises ``InputError``."""
    coding, words, numbers = _parts(encoding, data, state)
    time = int(numbers[TIME])
    at = _fall3(words, time) if encoding == "evt3" else _fall2(_highs(encoding, words, numbers), time)
    return int(at) * coding.word.itemsize


def fallen(encoding: str, data: Array, state: bytes) -> bytes:
    """``state``, made ready for ``data`` (as :func:`falls` has cut it), whose first word says an earlier time: events
    of that time are in order again. Raises ``InputError``."""
    coding, words, numbers = _parts(encoding, data, state)
    value = int((words[:1] if encoding == "evt3" else _highs(encoding, words[:1], numbers))[0])
    period, step = PERIOD_US[encoding], STEP_US[encoding]
    time = int(numbers[TIME]) // period * period + (value & (period // step - 1)) * step
    numbers[TIME] = numbers[REACHED] = numbers[TRIGGERED] = time
    return coding.layout.pack(*numbers.tolist())


def warm(encoding: str) -> None:
    """Compile, or load, every kernel that ``encoding`` needs here."""
    module = {"evt2": evt2, "evt21": evt21, "evt3": evt3}[encoding]
    data = np.zeros(module.WORD, np.uint8)
    resume(encoding, data, module.INITIAL)
    falls(encoding, data, module.INITIAL)


def _parts(encoding: str, data: Array, state: bytes) -> tuple[Coding, Array, Array]:
    modules: dict[str, Any] = {"evt2": evt2, "evt21": evt21, "evt3": evt3}
    if encoding not in modules:
        raise InputError(f"there is no encoding {encoding[:20]!r} to go on with")
    coding: Coding = modules[encoding].Decoder.coding
    return coding, coding.words(data), coding.numbers(state)


def _highs(encoding: str, words: Array, numbers: Array) -> Array:
    """The half of each word in which its kind is."""
    if encoding == "evt2":
        return words
    halves = words.view(np.uint32)[0 if numbers[-1] else 1 :: 2]
    return np.ascontiguousarray(halves)


def _entered(encoding: str, coding: Coding, numbers: Array, value: int, elapsed_us: int | None) -> bytes:
    """The state at a word where the stream shows ``value`` µs, a period's part of the time."""
    last, reached = int(numbers[TIME]), int(numbers[REACHED])
    period, step = PERIOD_US[encoding], STEP_US[encoding]
    if last < 0:
        time = value
    elif elapsed_us is None:
        wraps = last // period + (last % period // step >= value // step + period // step // 2)
        time = wraps * period + value
    else:
        wraps = (2 * (last + elapsed_us - value) + period) // (2 * period)
        time = max(0, wraps) * period + value
    back = time < reached - step  # more than the camera's own disorder: its clock was set back meanwhile
    reached = time if back else max(time, reached)
    rest = numbers[TRIGGERED + 1 :].tolist()
    if encoding == "evt3":
        rest = [0xFFF, 2 * WIDEST]  # the row comes now; vectors without a base are off the sensor
    return coding.layout.pack(time, reached, reached, *rest)
