"""Events as lines of text, ``t x y p``: bytes to arrays and back, without a float on the way.

A time such as ``1468940293.840812111`` has more digits than a float64 keeps; numbers are therefore taken apart into
whole digits and a power of ten, and rounded to the nearest µs exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, Events

LONGEST_LINE = 4096
"""Bytes; a line of events has some 30."""
SHORTEST_LINE = 8
"""Bytes of ``0 0 0 0`` and its end."""

SHIFTS = {"s": 6, "ms": 3, "us": 0, "ns": -3}
"""Powers of ten from a unit of time to µs."""

_POWERS = tuple(10**k for k in range(19))
_MAX_SIDE = MAX_SIDE
_LIMIT = 1 << 61
_FAULTS = ("", "four numbers (t x y p) wanted", "coordinates from 0 wanted", "polarity 0 and 1 or -1 and 1 wanted")


@kernel()
def _number(data: Array, i: int, end: int) -> tuple[int, int, int]:
    """Digits, power of ten, and the index behind the number at ``i``, -1 where there is none."""
    negative = False
    if i < end and (data[i] == 45 or data[i] == 43):
        negative = data[i] == 45
        i += 1
    digits: Any = 0
    power: Any = 0
    found = False
    fraction = False
    while i < end:
        c = data[i]
        if 48 <= c <= 57:
            found = True
            if digits < 100000000000000000:
                digits = digits * 10 + (np.int64(c) - 48)
                if fraction:
                    power -= 1
            elif not fraction:
                power += 1
        elif c == 46 and not fraction:
            fraction = True
        else:
            break
        i += 1
    if not found:
        return 0, 0, -1
    if i < end and (data[i] == 101 or data[i] == 69):
        i += 1
        down = False
        if i < end and (data[i] == 45 or data[i] == 43):
            down = data[i] == 45
            i += 1
        exponent: Any = 0
        found = False
        while i < end and 48 <= data[i] <= 57:
            found = True
            exponent = min(exponent * 10 + (np.int64(data[i]) - 48), 9999)
            i += 1
        if not found:
            return 0, 0, -1
        power += -exponent if down else exponent
    return (-digits if negative else digits), power, i


@kernel()
def _whole(digits: int, power: int) -> tuple[int, bool, bool]:
    """``digits`` times ten to the ``power`` to the nearest whole number (halves away from zero), whether that is
    exact, and whether it is below the limit."""
    if digits == 0:
        return 0, True, True
    size = abs(digits)
    exact = True
    if power > 0:
        if power > 18 or size > _LIMIT // _POWERS[power]:
            return 0, False, False
        size *= _POWERS[power]
    elif power < 0:
        if power < -18:
            return 0, False, True
        divisor = _POWERS[-power]
        rest = size % divisor
        exact = rest == 0
        size = size // divisor + (1 if 2 * rest >= divisor else 0)
    return (-size if digits < 0 else size), exact, size < _LIMIT


@kernel()
def _space(data: Array, i: int, end: int) -> int:
    """The index behind blanks, tabs and commas."""
    while i < end and (data[i] == 32 or data[i] == 9 or data[i] == 44):
        i += 1
    return i


@kernel()
def _parse(data: Array, shift: int, t: Array, x: Array, y: Array, p: Array, seen: Array) -> tuple[int, int, int]:
    """How many events the lines in ``data`` hold, where it went wrong (else the end), and how (an index of _FAULTS)."""
    n = 0
    i = 0
    end = data.size
    while i < end and n < t.size:
        line = i
        i = _space(data, i, end)
        if i < end and data[i] == 35:  # a comment
            while i < end and data[i] != 10:
                i += 1
        if i >= end or data[i] == 10 or data[i] == 13:
            i += 1
            continue
        digits, power, i = _number(data, i, end)
        time, _, fits = _whole(digits, power + shift)
        if i < 0 or not fits:
            return n, line, 1
        for column in range(3):
            at = _space(data, i, end)
            if at == i:
                return n, line, 1
            digits, power, i = _number(data, at, end)
            value, exact, fits = _whole(digits, power)
            if i < 0 or not exact or not fits:
                return n, line, 1
            if column < 2:
                if value < 0 or value >= _MAX_SIDE:
                    return n, line, 2
                if column == 0:
                    x[n] = value
                else:
                    y[n] = value
            else:
                if value < -1 or value > 1:
                    return n, line, 3
                if value < 1:
                    seen[-value] = 1
                p[n] = 1 if value == 1 else 0
        t[n] = time
        i = _space(data, i, end)
        if i < end and data[i] == 13:
            i += 1
        if i < end and data[i] != 10:
            return n, line, 1
        i += 1
        n += 1
    return n, min(i, end), 0


@kernel()
def _lines(data: Array) -> int:
    """How many lines hold something that is no comment."""
    n = 0
    i = 0
    end = data.size
    while i < end:
        i = _space(data, i, end)
        if i < end and data[i] != 35 and data[i] != 10 and data[i] != 13:
            n += 1
        while i < end and data[i] != 10:
            i += 1
        i += 1
    return n


@kernel()
def _digits(value: Any, width: int, out: Array, at: int) -> int:
    """Write ``value`` with at least ``width`` digits; the index behind it."""
    n = 1
    while n < width or (n < 19 and value >= _POWERS[n]):
        n += 1
    for k in range(n):
        out[at + n - 1 - k] = 48 + value % 10
        value //= 10
    return at + n


@kernel()
def _write(t: Array, x: Array, y: Array, p: Array, out: Array) -> int:
    at = 0
    for i in range(t.size):
        size = abs(t[i])
        if t[i] < 0:
            out[at] = 45
            at += 1
        at = _digits(size // 1000000, 1, out, at)
        out[at] = 46
        at = _digits(size % 1000000, 6, out, at + 1)
        out[at] = 32
        at = _digits(np.int64(x[i]), 1, out, at + 1)
        out[at] = 32
        at = _digits(np.int64(y[i]), 1, out, at + 1)
        out[at] = 32
        out[at + 1] = 48 + p[i]
        out[at + 2] = 10
        at += 3
    return at


@dataclass(frozen=True, slots=True)
class Parsed:
    """What was found in a piece of text: its ``events``, how many bytes of it were ``used``, what is wrong (empty:
    nothing) with the line that begins there, and whether off was written as 0 and as -1."""

    events: Events
    used: int
    wrong: str
    zero: bool
    minus: bool


def parse(data: Array, shift: int, most: int | None = None) -> Parsed:
    """The events in whole lines of text (uint8 [n]), at most ``most``; ``shift`` is one of :data:`SHIFTS`. Blank lines
    and comments (``#``) are passed over; fields are parted by blanks, tabs or commas. Order is not checked."""
    room = len(data) // SHORTEST_LINE + 1 if most is None else most
    t, x, y = np.empty(room, np.int64), np.empty(room, np.uint16), np.empty(room, np.uint16)
    p, seen = np.empty(room, np.uint8), np.zeros(2, np.uint8)
    n, used, wrong = _parse(data, shift, t, x, y, p, seen)
    return Parsed(Events(t[:n], x[:n], y[:n], p[:n]), used, _FAULTS[wrong], bool(seen[0]), bool(seen[1]))


def count(data: Array) -> int:
    """How many events are in whole lines of text (uint8 [n]); nothing is checked."""
    return int(_lines(data))


def written(events: Events) -> Array:
    """``events`` as lines ``seconds x y p`` with six decimals: text (uint8 [n]) that :func:`parse` turns back."""
    out = np.empty(40 * len(events), np.uint8)  # 21 + 5 + 5 + 1 digits, sign, point, blanks, end
    t, x, y, p = (np.ascontiguousarray(column) for column in (events.t, events.x, events.y, events.p))
    n = _write(t, x, y, p, out)
    return out[:n]


def microseconds(word: str, shift: int) -> int:
    """A single time in whole µs. Raises ``ValueError`` where it is none."""
    data = np.frombuffer(word.encode(), np.uint8)
    digits, power, end = _number(data, 0, len(data))
    value, _, fits = _whole(digits, power + shift)
    if end != len(data) or not fits:
        raise ValueError(f"{word!r:.40} is no time")
    return int(value)


def parsed_or_refused(data: Array, shift: int, place: str, at: int) -> Parsed:
    """:func:`parse` that raises ``FormatError`` for a bad line: ``place`` names the file, ``at`` is where in it
    ``data`` begins."""
    found = parse(data, shift)
    if found.wrong:
        line = bytes(data[found.used : found.used + 60]).split(b"\n")[0].decode("ascii", "replace")
        raise FormatError(f"{place}: byte {at + found.used}: {found.wrong}, got {line!r}")
    return found
