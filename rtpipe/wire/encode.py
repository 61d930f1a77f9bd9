"""Packets into messages: each body's columns packed into one payload, once for all edges."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from rtpipe import raw
from rtpipe.errors import WireError
from rtpipe.packing import pack_into
from rtpipe.types import MAX_SIDE, Array, Counters, Events, Frame, Imu, PackedEvents, Packet, RawEvents, Trigger
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
    VERSION,
    FrameHead,
    Head,
    Part,
    encode_head,
)
from rtpipe.wire.topic import topic_of


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
        return encode_head(self.head)


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
    encoding, n, t0, payload, frame, state = NOTHING, 0, 0, None, None, b""
    if isinstance(body, Events | PackedEvents):
        encoding, n = PACKED8, len(body)
        _bounded(n * EVENT_BYTES)
        payload = buffer(n * EVENT_BYTES)
        wrong, t0 = pack_into(body, payload)
        if wrong:
            raise WireError(wrong, f"{packet.stream} packet {packet.seq}: events with bad {wrong} cannot be sent")
    elif isinstance(body, RawEvents):
        encoding, n, t0, state = body.encoding, len(body), int(body.t0), body.state
        wrong = raw.fault(body)
        if wrong:
            raise WireError(
                wrong, f"{packet.stream} packet {packet.seq}: a run of {encoding[:40]!r} with a bad {wrong}"
            )
        payload = buffer(len(body.data))
        payload[:] = body.data
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
    topic = topic_of(packet.stream)
    head = Head(
        VERSION, encoding, int(packet.seq), int(packet.t_first), int(packet.t_last), int(packet.received_ns),
        int(packet.epoch), packet.end, (0, 0), {}, n, t0, frame, state,
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
        _maybe(frame.window_start), _maybe(frame.window_end),
    )  # fmt: skip


def _maybe(t: int | None) -> int | None:
    return None if t is None else int(t)
