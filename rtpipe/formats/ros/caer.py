"""The encodings of ``event_camera_msgs/EventPacket`` that hold their own time: each packet is decoded alone.

``libcaer_cmp``: words of 16 bits, the highest four being a code: 0 sets the high, 1 the low 12 bits of the time (µs
since ``time_base``); 2 the column; 3 is an event: its row, and in bit 11 its polarity; 4 sets row and polarity for
vectors; 5 holds eight neighbouring rows in its lowest bits, and moves on by eight. ``libcaer``: 8 bytes an event,
polarity in bit 1, row from bit 2, column from bit 17, then 31 bits of µs. ``mono``: 64 bits, from the lowest on
32 bits of ns, 16 of column, 15 of row, one of polarity.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from rtpipe.formats.ros.messages import Broken
from rtpipe.kernels import kernel
from rtpipe.types import Array

Columns = tuple[Array, Array, Array, Array]
"""``t`` int64 ns since the packet's ``time_base``, ``x``, ``y`` uint16, ``p`` uint8."""

_T_HIGH, _T_LOW, _X, _Y, _BASE_Y, _VECTOR = range(6)


@kernel()
def _count(words: Array) -> int:
    n = 0
    for word in words:
        code = word >> 12
        if code == _Y:
            n += 1
        elif code == _VECTOR:
            bits = word & 0xFF
            while bits:
                n += bits & 1
                bits >>= 1
        elif code > _VECTOR:
            return -1
    return n


@kernel()
def _fill(words: Array, t: Array, x: Array, y: Array, p: Array) -> None:
    n = 0
    high = low = np.int64(0)
    column = row = polarity = 0
    for word in words:
        code, value = word >> 12, word & 0xFFF
        if code == _Y:
            t[n], x[n], y[n], p[n] = (high | low) * 1000, column, value & 0x7FF, value >> 11
            n += 1
        elif code == _X:
            column = value & 0x7FF
        elif code == _T_LOW:
            low = np.int64(value)
        elif code == _T_HIGH:
            high = np.int64(value) << 12
        elif code == _BASE_Y:
            row, polarity = value & 0x7FF, value >> 11
        else:
            for k in range(8):
                if value >> k & 1:
                    t[n], x[n], y[n], p[n] = (high | low) * 1000, column, row + k, polarity
                    n += 1
            row += 8


def libcaer_cmp(data: Array) -> Columns:
    """Raises ``Broken``."""
    words = np.frombuffer(_whole(data, 2), "<u2")
    n = _count(words)
    if n < 0:
        raise Broken("a word of an unknown code among its events")
    columns = _new(n)
    _fill(words, *columns)
    return columns


def libcaer(data: Array) -> Columns:
    """Raises ``Broken``."""
    stored = np.frombuffer(_whole(data, 8), np.dtype([("data", "<u4"), ("t", "<i4")]))
    t, address = stored["t"].astype(np.int64), stored["data"]
    t[1:] += np.cumsum(np.diff(stored["t"]) < 0, dtype=np.int64) << 31
    x, y = (address >> 17 & 0x7FFF).astype(np.uint16), (address >> 2 & 0x7FFF).astype(np.uint16)
    return t * 1000, x, y, (address >> 1 & 1).astype(np.uint8)


def mono(data: Array) -> Columns:
    """Raises ``Broken``."""
    words = np.frombuffer(_whole(data, 8), "<u8")
    t, x = (words & 0xFFFF_FFFF).astype(np.int64), (words >> 32 & 0xFFFF).astype(np.uint16)
    return t, x, (words >> 48 & 0x7FFF).astype(np.uint16), (words >> 63).astype(np.uint8)


DECODERS: dict[str, Callable[[Array], Columns]] = {"libcaer_cmp": libcaer_cmp, "libcaer": libcaer, "mono": mono}


def _whole(data: Array, size: int) -> Array:
    if len(data) % size:
        raise Broken(f"{len(data)} bytes of events, no multiple of {size}")
    return data


def _new(n: int) -> Columns:
    return np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.uint8)
