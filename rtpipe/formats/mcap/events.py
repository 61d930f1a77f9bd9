"""Event columns as they lie in a recording: time differences and XORed coordinates, squeezed by blosc2.

Neighbouring events of a sensor share time and most bits of their address, so that after bitshuffle whole bit planes
are empty. Measured on real recordings in docs/recording.md.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import blosc2
import numpy as np

from rtpipe.formats.mcap.records import Damaged
from rtpipe.formats.mcap.totals import FURTHEST
from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, Events, PackedEvents, Resolution

BATCH = 1 << 16
"""Events in one message, at most: their columns stay in a core's second-level cache."""
MAX_EVENTS = 1 << 20
"""A reader refuses messages that claim to hold more."""
MAX_PACKETS = 1 << 16
"""Packets in one message, at most."""
CODECS = {"lz4": (blosc2.Codec.LZ4, 9), "zstd": (blosc2.Codec.ZSTD, 1)}
"""How a recording may be squeezed, with blosc2's level: lz4 is fast, zstd a tenth smaller at a third of the speed."""
Rows = Sequence[tuple[int, int, int, int, int, int]]
"""Packets: seq, t_first, t_last, received_ns, elements, flags."""
END, CONTINUED = 1, 2
"""A packet's flags: the stream's last; its elements go on in the next message."""
ROW = 6


def squeeze(column: Array, codec: str) -> bytes:
    """``column`` compressed; nothing at all for an empty one. One thread."""
    if column.size == 0:
        return b""
    which, level = CODECS[codec]
    filters = [blosc2.Filter.BITSHUFFLE]
    options: dict[str, Any] = {"codec": which, "clevel": level, "typesize": column.itemsize, "filters": filters}
    data: bytes = blosc2.compress2(column, nthreads=1, **options)
    return data


def unsqueeze(data: Array, size: int, item_sizes: Sequence[int]) -> Array:
    """What :func:`squeeze` was given: ``size`` items, of whatever width of ``item_sizes`` the header states.

    The blosc2 header is checked first, so that no length in it is believed, no special kind of chunk is taken and no
    plug-in is looked for. Raises :class:`~rtpipe.formats.mcap.records.Damaged`.
    """
    if size == 0 and len(data) == 0:
        return np.empty(0, f"<u{item_sizes[0]}")
    if len(data) < 32:
        raise Damaged("a column is too short")
    raw = data.tobytes()
    version, _, flags, item, n, block, stored = struct.unpack_from("<BBBBIII", raw)
    plain = (
        version <= 5
        and flags >> 5 in (0, 1, 4)
        and set(raw[16:22]) <= {0, int(blosc2.Filter.BITSHUFFLE.value)}
        and raw[30] == 0
        and raw[31] in (0, 0x10)
    )
    if not plain or item not in item_sizes or n != size * item or not 0 < block <= n or stored != len(raw):
        raise Damaged("a column's header is wrong")
    column = np.zeros(size, f"<u{item}" if item < 8 else "<i8")
    try:
        blosc2.decompress2(raw, dst=column, nthreads=1)
    except (RuntimeError, ValueError) as error:
        raise Damaged(f"a column cannot be decompressed: {error}") from error
    return column


def squeeze_packets(rows: Rows, codec: str) -> bytes:
    """The packets of a message: six columns of differences, one after the other."""
    table = np.array(rows, np.int64).reshape(-1, ROW).T
    return squeeze(np.ascontiguousarray(np.diff(table, axis=1, prepend=0)), codec)


def unsqueeze_packets(data: Array) -> Array:
    """The table (packets, 6) again; raises :class:`~rtpipe.formats.mcap.records.Damaged`."""
    size = struct.unpack_from("<I", data.tobytes(), 4)[0] // 8 if len(data) >= 32 else 0
    if not 0 < size <= MAX_PACKETS * ROW or size % ROW:
        raise Damaged("the table of packets has a wrong size")
    return np.cumsum(unsqueeze(data, size, (8,)).reshape(ROW, -1), axis=1).T


@kernel()
def _append(dt: Array, x: Array, yp: Array, first: Any, before: Array, d: Array, x_out: Array, yp_out: Array) -> Any:
    """Columns of one packet onto the end of a batch; returns the largest difference, column and row, and whether the
    order is right. ``before``: column and row of the event before them."""
    n = dt.size
    top_x, top_y, top_d = np.uint16(0), np.uint16(0), first
    ordered = True
    d[0] = first
    x_out[0] = x[0] ^ before[0]
    yp_out[0] = yp[0] ^ before[1]
    for i in range(1, n):
        ordered &= dt[i] >= dt[i - 1]
    for i in range(1, n):
        difference = np.uint32(dt[i] - dt[i - 1])
        d[i] = difference
        top_d = max(top_d, difference)
    for i in range(n):
        top_x = max(top_x, x[i])
        top_y = max(top_y, yp[i] & np.uint16(0x7FFF))
    for i in range(1, n):
        x_out[i] = x[i] ^ x[i - 1]
        yp_out[i] = yp[i] ^ yp[i - 1]
    before[0], before[1] = x[n - 1], yp[n - 1]
    return top_d, top_x, top_y, ordered


@kernel()
def _restore(t0: int, d: Array, x: Array, yp: Array, t: Array, y: Array, p: Array) -> Any:
    """Undo the differences, ``x`` in place; returns the largest column and row."""
    time, column, row = np.int64(t0), np.uint16(0), np.uint16(0)
    top_x, top_y = np.uint16(0), np.uint16(0)
    for i in range(d.size):
        time += np.int64(d[i])
        column ^= x[i]
        row ^= yp[i]
        t[i] = time
        x[i] = column
        y[i] = row & np.uint16(0x7FFF)
        p[i] = np.uint8(row >> np.uint16(15))
        top_x = max(top_x, column)
        top_y = max(top_y, y[i])
    return top_x, top_y


class EventColumns:
    """The open batch of one stream: at most ``BATCH`` events, copied in, so that packets may be views."""

    def __init__(self, resolution: Resolution) -> None:
        self._width, self._height = resolution
        self._d = np.empty(BATCH, np.uint32)
        self._x, self._yp = np.empty(BATCH, np.uint16), np.empty(BATCH, np.uint16)
        self._before = np.zeros(2, np.uint16)
        self._top_d = 0
        self.n = 0
        self.t0 = 0
        self.t1 = 0

    def fits(self, t: int) -> bool:
        """Whether an event at ``t`` (µs) can follow in this batch."""
        return self.n < BATCH and (self.n == 0 or 0 <= t - self.t1 < 1 << 32)

    def append(self, events: PackedEvents) -> None:
        """Take events that fit (:meth:`fits`) and are at most ``BATCH - n``. Raises ``ValueError``, and takes none,
        where they are out of order or outside the sensor."""
        first = events.t0 + int(events.dt[0])
        if self.n == 0:
            self.t0 = self.t1 = first
        n, kept = events.dt.size, self._before.copy()
        out = slice(self.n, self.n + n)
        gap = np.uint32(first - self.t1)
        columns = (self._d[out], self._x[out], self._yp[out])
        top_d, top_x, top_y, ordered = _append(events.dt, events.x, events.yp, gap, self._before, *columns)
        if not ordered or top_x >= self._width or top_y >= self._height:
            self._before = kept
            raise ValueError("events are out of order" if not ordered else "events lie outside the sensor")
        self._top_d = max(self._top_d, int(top_d))
        self.t1 = events.t0 + int(events.dt[-1])
        self.n += n

    def take(self, codec: str) -> tuple[bytes, bytes, bytes]:
        """The columns ``dt``, ``x``, ``y`` of the batch as they are stored; the batch is empty afterwards."""
        narrow = np.uint8 if self._top_d < 1 << 8 else np.uint16 if self._top_d < 1 << 16 else np.uint32
        d = self._d[: self.n].astype(narrow, copy=False)
        made = squeeze(d, codec), squeeze(self._x[: self.n], codec), squeeze(self._yp[: self.n], codec)
        self.n = self._top_d = 0
        self._before[:] = 0
        return made


def restore(fields: dict[str, Any], resolution: Resolution) -> Events:
    """The events of a decoded :data:`~rtpipe.formats.mcap.messages.EVENTS` message, in order and inside the sensor, or
    :class:`~rtpipe.formats.mcap.records.Damaged`."""
    n, t0, t1 = fields["n"], fields["t0"], fields["t1"]
    if n > MAX_EVENTS or not -FURTHEST < t0 <= t1 < FURTHEST:
        raise Damaged("a batch of events has an impossible size or time")
    d = unsqueeze(fields["dt"], n, (1, 2, 4)).astype(np.uint32, copy=False)
    x, yp = unsqueeze(fields["x"], n, (2,)), unsqueeze(fields["y"], n, (2,))
    t, y, p = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint8)
    top_x, top_y = _restore(t0, d, x, yp, t, y, p)
    if n and (top_x >= min(resolution[0], MAX_SIDE) or top_y >= resolution[1]):
        raise Damaged("events lie outside the sensor")
    if n and (int(t[0]), int(t[-1])) != (t0, t1):
        raise Damaged("a batch of events does not begin or end when it says")
    return Events(t, x, y, p)
