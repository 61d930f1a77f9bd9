"""Packets as ZeroMQ multipart messages and back: pure, versioned, and trusting nothing that arrives.

A message is ``[topic, header]`` for a watermark and ``[topic, header, payload]`` for everything else: the stream's name
in UTF-8, a msgpack array (:class:`Head`), and the body's columns one after the other, little-endian, in one part.
``docs/wire.md`` says the same byte by byte, with examples that the tests decode.

What goes wrong is a :class:`~rtpipe.errors.WireError` with one of the reasons in :data:`REASONS`; nothing else is ever
raised, whatever arrives. Events come out as views into the message, already checked against the stream's resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import msgspec
import numpy as np
from msgspec import Meta

from rtpipe.errors import WireError
from rtpipe.packing import columns as event_columns
from rtpipe.packing import fault, pack_into
from rtpipe.types import (
    KINDS,
    MAX_SIDE,
    Array,
    Body,
    Count,
    Counters,
    Edge,
    Events,
    Frame,
    FrameFlag,
    Imu,
    PackedEvents,
    Packet,
    Resolution,
    Trigger,
)

VERSION = 1
"""The first element of every header. A receiver refuses every other one by the name ``"version"``."""

NOTHING, PACKED8, IMAGE, IMU, TRIGGER = "none", "packed8", "image", "imu", "trigger"
"""What the header's ``encoding`` may be. Raw camera bytes get names of their own when they come."""

EVENT_BYTES, IMU_BYTES, TRIGGER_BYTES = 8, 36, 10
MAX_EVENTS = 1 << 24
"""Events, samples or signals in one packet, at the most."""
MAX_PAYLOAD = MAX_EVENTS * EVENT_BYTES
"""Bytes of payload in one packet, at the most (128 MiB); also bounds a picture."""

REASONS = (
    "parts", "topic", "version", "header", "encoding", "length", "size", "times", "resolution", "order", "coordinates",
    "polarity", "edge", "body",
)  # fmt: skip
"""Why a message (or, when encoding, a packet) can be refused."""

Part: TypeAlias = Any
"""Anything with the buffer protocol: ``bytes``, ``memoryview``, ``zmq.Frame``, a uint8 array."""

_Time = Annotated[int, Meta(ge=-(1 << 62), le=1 << 62)]
_Whole = Annotated[int, Meta(ge=0, le=1 << 62)]
_Name = Annotated[str, Meta(min_length=1, max_length=64)]
_Pair = tuple[_Whole, _Whole]


class FrameHead(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """A picture's part of the header, in the order in which it travels."""

    t: _Time
    exposure_start: _Time | None
    exposure_end: _Time | None
    source: _Name
    flags: Annotated[int, Meta(ge=0, le=0xFFFF)]
    width: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    height: Annotated[int, Meta(ge=1, le=MAX_SIDE)]
    channels: Annotated[int, Meta(ge=1, le=3)]
    bits: Annotated[int, Meta(ge=8, le=16)]


class Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The header, in the order in which it travels: a msgpack array, so that ``version`` is always its first element.

    ``n`` counts the payload's events, samples or signals (a picture: 1; a watermark: 0); ``t0`` is what the events'
    ``dt`` is counted from; ``sent``, ``dropped`` are the edge's cumulative counters as ``[packets, events]``.
    """

    version: int
    encoding: str
    seq: _Whole
    t_first: _Time
    t_last: _Time
    received_ns: _Whole
    epoch: _Whole
    end: bool
    sent: _Pair
    dropped: Annotated[dict[_Name, _Pair], Meta(max_length=64)]
    n: Annotated[int, Meta(ge=0, le=MAX_EVENTS)]
    t0: _Time = 0
    frame: FrameHead | None = None


_encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_any = msgspec.msgpack.Decoder().decode


class Prepared(msgspec.Struct):
    """A packet made ready for any number of edges: its payload is packed once, each edge adds its own counters."""

    topic: bytes
    head: Head
    payload: Array | None

    @property
    def size(self) -> int:
        """Bytes of payload."""
        return 0 if self.payload is None else len(self.payload)

    def header(self, counters: Counters) -> bytes:
        """The header with one edge's counters in it."""
        self.head.sent = (counters.sent.packets, counters.sent.events)
        self.head.dropped = {reason: (n.packets, n.events) for reason, n in counters.dropped.items()}
        return _encode_head(self.head)


def encode(packet: Packet) -> list[Part]:
    """``packet`` as the parts of one message, with its own counters. Allocates the payload (a uint8 array).

    Raises ``WireError`` for what cannot travel: a window, events out of order or too far apart, a picture of another
    shape or dtype, a stream's name that is not one.
    """
    prepared = prepare(packet)
    parts: list[Part] = [prepared.topic, prepared.header(packet.counters)]
    if prepared.payload is not None:
        parts.append(prepared.payload)
    return parts


def _new(size: int) -> Array:
    return np.empty(size, np.uint8)


def prepare(packet: Packet, buffer: Callable[[int], Array] = _new) -> Prepared:
    """Pack a packet's body into ``buffer(bytes)``, a writable uint8 array of just that length that starts on a multiple
    of 8 bytes; the caller keeps it until the message is out. Raises ``WireError`` as :func:`encode` does."""
    body = packet.body
    encoding, n, t0, payload, frame = NOTHING, 0, 0, None, None
    if isinstance(body, Events | PackedEvents):
        encoding, n = PACKED8, len(body)
        _bounded(n * EVENT_BYTES)
        payload = buffer(n * EVENT_BYTES)
        wrong, t0 = pack_into(body, payload)
        if wrong:
            raise WireError(wrong, f"{packet.stream} packet {packet.seq}: events with bad {wrong} cannot be sent")
    elif isinstance(body, Frame):
        encoding, n, frame = IMAGE, 1, _frame_head(body)
        _bounded(body.image.nbytes)
        payload = buffer(body.image.nbytes)
        payload.view(body.image.dtype.newbyteorder("<")).reshape(body.image.shape)[...] = body.image
    elif isinstance(body, Imu):
        encoding, n = IMU, len(body)
        columns = (
            _column(body.t, "<i8", (n,)),
            _column(body.acceleration, "<f4", (n, 3)),
            _column(body.rotation, "<f4", (n, 3)),
            _column(body.temperature, "<f4", (n,)),
        )
        payload = _fill(buffer, n * IMU_BYTES, columns)
    elif isinstance(body, Trigger):
        encoding, n = TRIGGER, len(body)
        signals = (_column(body.t, "<i8", (n,)), _column(body.channel, "<u1", (n,)), _column(body.edge, "<u1", (n,)))
        payload = _fill(buffer, n * TRIGGER_BYTES, signals)
    elif body is not None:
        raise WireError("body", f"{packet.stream}: a {type(body).__name__} never crosses a socket")
    topic = _topic(packet.stream)
    head = Head(
        VERSION, encoding, int(packet.seq), int(packet.t_first), int(packet.t_last), int(packet.received_ns),
        int(packet.epoch), packet.end, (0, 0), {}, n, t0, frame,
    )  # fmt: skip
    return Prepared(topic, head, payload)


def _bounded(size: int) -> None:
    if size > MAX_PAYLOAD:
        raise WireError("size", f"a packet of {size} bytes: at most {MAX_PAYLOAD} can travel, cut it")


def _column(values: Array, dtype: str, shape: tuple[int, ...]) -> Array:
    if values.shape != shape:
        raise WireError("length", f"a column of shape {values.shape} where {shape} was wanted")
    return np.ascontiguousarray(values, dtype).reshape(-1).view(np.uint8)


def _fill(buffer: Callable[[int], Array], size: int, columns: Sequence[Array]) -> Array:
    _bounded(size)
    payload = buffer(size)
    np.concatenate(columns, out=payload)
    return payload


def _frame_head(frame: Frame) -> FrameHead:
    shape, dtype = frame.image.shape, frame.image.dtype
    colour = len(shape) == 3 and shape[2] == 3
    if (len(shape) != 2 and not colour) or dtype not in (np.uint8, np.uint16) or 0 in shape or max(shape) > MAX_SIDE:
        raise WireError("body", f"a picture must be uint8 or uint16, (H, W) or (H, W, 3), not {dtype} {shape}")
    return FrameHead(
        int(frame.t), _maybe(frame.exposure_start), _maybe(frame.exposure_end), frame.source, int(frame.flags),
        shape[1], shape[0], 3 if colour else 1, dtype.itemsize * 8,
    )  # fmt: skip


def _maybe(t: int | None) -> int | None:
    return None if t is None else int(t)


@lru_cache(1024)
def _topic(stream: str) -> bytes:
    topic = stream.encode()
    if _stream(topic) != stream:
        raise WireError("topic", f"{stream!r} is not a stream's name")
    return topic


@lru_cache(1024)
def _stream(topic: bytes) -> str:
    """The stream's name: ``stage/kind``, printable, at most 128 bytes."""
    try:
        name = topic.decode()
    except UnicodeDecodeError:
        name = ""
    stage, _, kind = name.rpartition("/")
    if not stage or kind not in KINDS or len(topic) > 128 or not name.isprintable():
        raise WireError("topic", f"a message for {topic[:40]!r}, which is not a stream's name")
    return name


def decode(parts: Sequence[Part], resolution: Resolution | None) -> Packet:
    """The packet in a message of a stream whose size is ``resolution``; None for streams that have none (IMU, triggers,
    pictures whose size is not known beforehand: events are then refused).

    Events are views into the last part, zero-copy where that is writable and starts on a multiple of 4 bytes (large
    ZeroMQ messages do), so that kernels meet one array type only. Raises ``WireError``, never anything else.
    """
    if not 2 <= len(parts) <= 3:
        raise WireError("parts", f"a message of {len(parts)} parts where 2 or 3 were expected")
    stream = _stream(bytes(parts[0]))
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
        if (head.frame is not None) != (head.encoding == IMAGE) or (head.t0 and head.encoding != PACKED8):
            raise WireError("header", f"{stream} packet {head.seq}: fields that do not belong to {head.encoding!r}")
        body = opener(head, parts[2], resolution)
    elif len(parts) != 2 or head.n or head.t0 or head.frame is not None:
        raise WireError("length", f"{stream} packet {head.seq}: a watermark with a payload")
    return Packet(
        stream, head.seq, head.t_first, head.t_last, head.received_ns, body, head.epoch, head.end,
        Counters(Count(*head.sent), {reason: Count(*n) for reason, n in head.dropped.items()}),
    )  # fmt: skip


def decode_header(part: Part) -> Head:
    """The header alone, version and types checked; what it says of the payload is checked by :func:`decode`."""
    try:
        head: Head = _decode_head(part)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, BufferError) as error:
        if _version(part) not in (VERSION, None):
            raise WireError("version", f"wire version {_version(part)} where {VERSION} is spoken") from None
        raise WireError("header", f"a header that cannot be read: {str(error)[:120]}") from None
    if head.version != VERSION:
        raise WireError("version", f"wire version {head.version} where {VERSION} is spoken")
    return head


def _version(part: Part) -> int | None:
    """The version of a header whose other fields are not ours, or None where there is none to be found."""
    try:
        fields = _decode_any(part)
    except Exception:  # whatever a hostile header can make msgpack raise: it is "header" then
        return None
    first = fields[0] if isinstance(fields, list) and fields else None
    return first if type(first) is int else None


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
    packed = PackedEvents(head.t0, *event_columns(data))
    wrong = fault(packed, resolution)
    if wrong:
        raise WireError(wrong, f"packet {head.seq}: bad {wrong} in its events for {resolution[0]}x{resolution[1]}")
    if n and not head.t_first <= head.t0 + int(packed.dt[0]) <= head.t0 + int(packed.dt[-1]) <= head.t_last:
        raise WireError("times", f"packet {head.seq}: events outside the time that its header gives")
    return packed


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
    shape = (info.height, info.width) if info.channels == 1 else (info.height, info.width, 3)
    image = data.view(np.uint8 if info.bits == 8 else np.uint16).reshape(shape)
    return Frame(image, info.t, info.exposure_start, info.exposure_end, info.source, FrameFlag(info.flags))


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
}
