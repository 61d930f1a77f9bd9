"""Messages into packets: nothing that arrives is trusted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from rtpipe import raw
from rtpipe.errors import WireError
from rtpipe.packing import columns as event_columns
from rtpipe.packing import fault
from rtpipe.types import (
    Array,
    Body,
    Count,
    Counters,
    Edge,
    Frame,
    FrameFlag,
    Imu,
    PackedEvents,
    Packet,
    RawEvents,
    Resolution,
    Trigger,
)
from rtpipe.wire.head import (
    EVENT_BYTES,
    IMAGE,
    IMU,
    IMU_BYTES,
    MAX_PAYLOAD,
    NOTHING,
    PACKED8,
    TRIGGER,
    TRIGGER_BYTES,
    Head,
    Part,
    decode_header,
)
from rtpipe.wire.topic import stream_of


def decode(parts: Sequence[Part], resolution: Resolution | None) -> Packet:
    """The packet in a message of a stream whose size is ``resolution``; None for streams that have none (IMU, triggers,
    pictures whose size is not known beforehand: events are then refused).

    Events are views into the last part, zero-copy where that is writable and starts on a multiple of 4 bytes (large
    ZeroMQ messages do), so that kernels meet one array type only. Raises ``WireError``, never anything else.
    """
    if not 2 <= len(parts) <= 3:
        raise WireError("parts", f"a message of {len(parts)} parts where 2 or 3 were expected")
    stream = stream_of(bytes(parts[0]))
    head = decode_header(parts[1])
    if head.t_first > head.t_last:
        raise WireError("times", f"{stream} packet {head.seq}: ends at {head.t_last} before it begins")
    body: Body = None
    if head.encoding != NOTHING:
        if len(parts) != 3:
            raise WireError("parts", f"{stream} packet {head.seq}: its payload is missing")
        opener = _OPENERS.get(head.encoding)
        if opener is None:
            raise WireError("encoding", f"{stream}: encoding {head.encoding[:40]!r} is not known to this version")
        own = head.encoding in raw.MOST
        misplaced = (head.t0 and not own and head.encoding != PACKED8) or (head.state and not own)
        if misplaced or (head.frame is not None) != (head.encoding == IMAGE):
            raise WireError("header", f"{stream} packet {head.seq}: fields that do not belong to {head.encoding!r}")
        body = opener(head, parts[2], resolution)
    elif len(parts) != 2 or head.n or head.t0 or head.frame is not None or head.state:
        raise WireError("length", f"{stream} packet {head.seq}: a watermark with a payload")
    return Packet(
        stream, head.seq, head.t_first, head.t_last, head.received_ns, body, head.epoch, head.end,
        Counters(Count(*head.sent), {reason: Count(*n) for reason, n in head.dropped.items()}),
    )  # fmt: skip


def _bytes(part: Part, size: int, head: Head) -> Array:
    """The payload as aligned, writable uint8, a copy only where ZeroMQ's buffer is not."""
    data = np.frombuffer(part, np.uint8) if size else np.empty(0, np.uint8)
    if len(part) != size:
        raise WireError(
            "length", f"packet {head.seq}: {len(part)} bytes of {head.encoding} where {size} were announced"
        )
    return data if data.flags.writeable and data.ctypes.data % 4 == 0 else data.copy()


def _events(head: Head, part: Part, resolution: Resolution | None) -> PackedEvents:
    n = head.n
    data = _bytes(part, n * EVENT_BYTES, head)
    if resolution is None:
        raise WireError("resolution", f"packet {head.seq}: events of a stream that has no resolution")
    packed = PackedEvents(head.t0, *event_columns(data), checked=resolution)
    wrong = fault(packed, resolution)
    if wrong:
        raise WireError(wrong, f"packet {head.seq}: bad {wrong} in its events for {resolution[0]}x{resolution[1]}")
    if n and not head.t_first <= head.t0 + int(packed.dt[0]) <= head.t0 + int(packed.dt[-1]) <= head.t_last:
        raise WireError("times", f"packet {head.seq}: events outside the time that its header gives")
    return packed


def _raw(head: Head, part: Part, resolution: Resolution | None) -> RawEvents:
    """A camera's own bytes: what is in them is checked where they are decoded (:func:`rtpipe.raw.opened`)."""
    if resolution is None:
        raise WireError("resolution", f"packet {head.seq}: events of a stream that has no resolution")
    data = _aligned8(_bytes(part, len(part), head))
    body = RawEvents(head.encoding, head.state, data, head.n, head.t0)
    wrong = raw.fault(body)
    if wrong:
        raise WireError(
            wrong, f"packet {head.seq}: {head.n} events in {len(data)} bytes of {head.encoding}: bad {wrong}"
        )
    return body


def _frame(head: Head, part: Part, resolution: Resolution | None) -> Frame:
    info = head.frame
    assert info is not None
    if info.channels == 2 or info.bits % 8 or head.n != 1:
        raise WireError("header", f"packet {head.seq}: {info.channels} channels of {info.bits} bits")
    size = info.width * info.height * info.channels * info.bits // 8
    if size > MAX_PAYLOAD:
        raise WireError("size", f"packet {head.seq}: a picture of {size} bytes")
    data = _bytes(part, size, head)
    if resolution is not None and (info.width, info.height) != resolution:
        raise WireError("resolution", f"packet {head.seq}: {info.width}x{info.height} in a stream of {resolution}")
    if info.exposure_start is not None and info.exposure_end is not None and info.exposure_start > info.exposure_end:
        raise WireError("times", f"packet {head.seq}: its exposure ends before it starts")
    if info.window_start is not None and info.window_end is not None and info.window_start > info.window_end:
        raise WireError("times", f"packet {head.seq}: its window ends before it starts")
    shape = (info.height, info.width) if info.channels == 1 else (info.height, info.width, 3)
    image = data.view(np.uint8 if info.bits == 8 else np.uint16).reshape(shape)
    return Frame(
        image, info.t, info.exposure_start, info.exposure_end, info.source, FrameFlag(info.flags),
        info.window_start, info.window_end,
    )  # fmt: skip


def _imu(head: Head, part: Part, _: Resolution | None) -> Imu:
    n = head.n
    data = _aligned8(_bytes(part, n * IMU_BYTES, head))
    t = _times(head, data[: 8 * n].view(np.int64))
    values = data[8 * n :].view(np.float32)
    return Imu(t, values[: 3 * n].reshape(n, 3), values[3 * n : 6 * n].reshape(n, 3), values[6 * n :])


def _trigger(head: Head, part: Part, _: Resolution | None) -> Trigger:
    n = head.n
    data = _aligned8(_bytes(part, n * TRIGGER_BYTES, head))
    t = _times(head, data[: 8 * n].view(np.int64))
    channel, edge = data[8 * n : 9 * n], data[9 * n :]
    if n and int(edge.max()) > max(Edge):
        raise WireError("edge", f"packet {head.seq}: a trigger's edge is 0, 1 or 2, not {int(edge.max())}")
    return Trigger(t, channel, edge)


def _aligned8(data: Array) -> Array:
    return data if data.ctypes.data % 8 == 0 else data.copy()


def _times(head: Head, t: Array) -> Array:
    if len(t):
        if (t[1:] < t[:-1]).any():
            raise WireError("order", f"packet {head.seq}: times that run backwards")
        if not head.t_first <= int(t[0]) <= int(t[-1]) <= head.t_last:
            raise WireError("times", f"packet {head.seq}: samples outside the time that its header gives")
    return t


_OPENERS: dict[str, Callable[[Head, Part, Resolution | None], Body]] = {
    PACKED8: _events,
    IMAGE: _frame,
    IMU: _imu,
    TRIGGER: _trigger,
    **dict.fromkeys(raw.MOST, _raw),
}
