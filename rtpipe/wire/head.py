"""The header of a packet, its bounds, and the reasons by which messages are refused."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

import msgspec
from msgspec import Meta

from rtpipe import raw
from rtpipe.errors import WireError
from rtpipe.types import MAX_SIDE

VERSION = 1
"""The first element of every header. A receiver refuses every other one by the name ``"version"``."""

NOTHING, PACKED8, IMAGE, IMU, TRIGGER = "none", "packed8", "image", "imu", "trigger"
"""What the header's ``encoding`` may be, beside the encodings of :mod:`rtpipe.raw`."""

EVENTS = frozenset((PACKED8, *raw.MOST))
"""Encodings whose ``n`` counts events."""

EVENT_BYTES, IMU_BYTES, TRIGGER_BYTES = 8, 36, 10
MAX_EVENTS = raw.MAX_EVENTS
"""Events, samples or signals in one packet, at the most."""
MAX_PAYLOAD = raw.MAX_BYTES
"""Bytes of payload in one packet, at the most (128 MiB); also bounds a picture."""
MAX_STATE = 64
"""Bytes of a decoder's state, at the most."""

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
    window_start: _Time | None = None
    window_end: _Time | None = None


class Head(msgspec.Struct, array_like=True, forbid_unknown_fields=True, gc=False):
    """The header, in the order in which it travels: a msgpack array, so that ``version`` is always its first element.

    ``n`` counts the payload's events, samples or signals (a picture: 1; a watermark: 0); ``t0`` is what the events'
    times are counted from; ``sent``, ``dropped`` are the edge's cumulative counters as ``[packets, events]``; ``state``
    is the decoder's before a camera's own bytes.
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
    state: Annotated[bytes, Meta(max_length=MAX_STATE)] = b""


encode_head = msgspec.msgpack.Encoder().encode
_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_any = msgspec.msgpack.Decoder().decode


def decode_header(part: Part) -> Head:
    """The header alone, version and types checked; what it says of the payload is checked by
    :func:`rtpipe.wire.decode`. Raises ``WireError``."""
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
