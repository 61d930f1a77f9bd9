"""Events to and from the 8-byte form in which they travel, and the checks that stand before every kernel."""

from __future__ import annotations

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, Events, PackedEvents, Resolution

LONGEST_US = (1 << 32) - 1
"""A packet of events spans at most this many µs (71 minutes): cut longer ones before packing."""

ORDER, COORDINATES, POLARITY = "order", "coordinates", "polarity"
"""Why a column is refused, as :func:`fault` names it."""
_FAULTS = ("", ORDER, COORDINATES, POLARITY)


@kernel()
def _pack(dt: Array, x_out: Array, yp: Array, t: Array, x: Array, y: Array, p: Array) -> None:
    t0 = t[0]
    for i in range(t.size):
        dt[i] = np.uint32(t[i] - t0)
        x_out[i] = x[i]
        yp[i] = y[i] | (np.uint16(p[i]) << np.uint16(15))


@kernel()
def _unpack(t0: int, t: Array, y: Array, p: Array, dt: Array, yp: Array) -> None:
    for i in range(dt.size):
        t[i] = t0 + np.int64(dt[i])
        y[i] = yp[i] & np.uint16(0x7FFF)
        p[i] = np.uint8(yp[i] >> np.uint16(15))


@kernel()
def _fault(width: int, height: int, t: Array, x: Array, y: Array, p: Array) -> int:
    top_x = np.uint16(0)
    top_y = np.uint16(0)
    top_p = np.uint8(0)
    backwards = False
    for i in range(t.size):
        top_x = max(top_x, x[i])
        top_y = max(top_y, y[i])
        top_p = max(top_p, p[i])
    for i in range(1, t.size):
        backwards |= t[i] < t[i - 1]
    if backwards:
        return 1
    if top_x >= width or top_y >= height:
        return 2
    return 3 if top_p > 1 else 0


@kernel()
def _packed_fault(width: int, height: int, dt: Array, x: Array, yp: Array) -> int:
    top_x = np.uint16(0)
    top_y = np.uint16(0)
    backwards = False
    for i in range(dt.size):
        top_x = max(top_x, x[i])
        top_y = max(top_y, yp[i] & np.uint16(0x7FFF))
    for i in range(1, dt.size):
        backwards |= dt[i] < dt[i - 1]
    if backwards:
        return 1
    return 2 if top_x >= width or top_y >= height else 0


def _alike(*columns: Array) -> tuple[Array, ...]:
    """The columns contiguous, and either all writable or all not: numba compiles anew for every other mixture, in the
    middle of a stream. Copies only what is strided (a field of a structured array)."""
    kept = tuple(column if column.flags.c_contiguous else np.ascontiguousarray(column) for column in columns)
    writable = [column.flags.writeable for column in kept]
    if all(writable) or not any(writable):
        return kept
    views = tuple(column.view() for column in kept)
    for view in views:
        view.flags.writeable = False
    return views


def fault(events: Events | PackedEvents, resolution: Resolution) -> str:
    """What is wrong with these events for a sensor of ``resolution``: ``""``, ``"order"``, ``"coordinates"`` or
    ``"polarity"``. One pass, no copy; kernels that index by coordinate rely on it."""
    if len(events) == 0:
        return ""
    width, height = resolution
    if isinstance(events, PackedEvents):
        return _FAULTS[_packed_fault(width, height, *_alike(events.dt, events.x, events.yp))]
    return _FAULTS[_fault(width, height, *_alike(events.t, events.x, events.y, events.p))]


def columns(buffer: Array) -> tuple[Array, Array, Array]:
    """``dt``, ``x``, ``yp`` as views into ``8 n`` bytes that start on a multiple of 4: the layout of the wire."""
    n = len(buffer) // 8
    return buffer[: 4 * n].view(np.uint32), buffer[4 * n : 6 * n].view(np.uint16), buffer[6 * n :].view(np.uint16)


def pack_into(events: Events | PackedEvents, buffer: Array) -> tuple[str, int]:
    """Pack into the ``8 n`` bytes of ``buffer`` (uint8, as :func:`columns` lays them out): what is wrong with the
    events (``""``; else as :func:`fault` says, or ``"size"`` for more than ``LONGEST_US``; the buffer then holds
    nothing), and ``t0``. Allocates nothing."""
    if len(events) == 0:
        return "", 0
    wrong = fault(events, (MAX_SIDE, MAX_SIDE))
    if wrong:
        return wrong, 0
    dt, x, yp = columns(buffer)
    if isinstance(events, PackedEvents):
        dt[:], x[:], yp[:] = events.dt, events.x, events.yp
        return "", int(events.t0)
    t0 = int(events.t[0])
    if int(events.t[-1]) - t0 > LONGEST_US:
        return "size", t0
    _pack(dt, x, yp, *_alike(events.t, events.x, events.y, events.p))
    return "", t0


def pack(events: Events) -> PackedEvents:
    """``events`` as 8 bytes each. They must be in order, below ``MAX_SIDE`` and span at most ``LONGEST_US``
    (``ValueError`` otherwise). Allocates."""
    buffer = np.empty(8 * len(events), np.uint8)
    wrong, t0 = pack_into(events, buffer)
    if wrong == "size":
        raise ValueError(f"events cannot be packed: they span more than {LONGEST_US} µs")
    if wrong:
        raise ValueError(f"events cannot be packed: bad {wrong}")
    return PackedEvents(t0, *columns(buffer))


def warm() -> None:
    """Compile, or load, every kernel here for writable and for read-only columns, so that no packet waits for it."""
    columns_ = np.zeros(1, np.int64), np.zeros(1, np.uint16), np.zeros(1, np.uint16), np.zeros(1, np.uint8)
    for writable in (True, False):
        for column in columns_:
            column.flags.writeable = writable
        packed = pack(Events(*columns_))
        for column in (packed.dt, packed.x, packed.yp):
            column.flags.writeable = writable
        fault(packed, (1, 1))
        unpack(packed)


def unpack(packed: PackedEvents) -> Events:
    """The events again, with int64 µs times. Allocates all but ``x``, which stays a view."""
    n = len(packed)
    t, y, p = np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint8)
    _unpack(packed.t0, t, y, p, *_alike(packed.dt, packed.yp))
    return Events(t, packed.x, y, p)
