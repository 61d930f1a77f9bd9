"""What the two ends of an edge say to each other around the packets. ``docs/wire.md`` has it byte by byte.

The first byte of the first part tells what a message is. Consumer to producer: an empty message when the connection
is made, ``H`` hello, ``R`` ready, ``A`` acknowledgement, ``B`` bye. Producer to consumer: ``W`` who are you, ``H``
welcome, ``P`` packet (followed by the wire's parts), ``N`` no (followed by the reason), ``?`` are you there.
"""

from __future__ import annotations

import struct
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from rtpipe.errors import WireError
from rtpipe.types import MAX_SIDE, Resolution, StreamInfo
from rtpipe.wire import VERSION

PROTOCOL = 1
WHO, HELLO, READY, ACKNOWLEDGE, BYE, PACKET, NO, PING = b"W", b"H", b"R", b"A", b"B", b"P", b"N", b"?"
INSTANCE_BYTES = 8
MAX_CONTROL = 1 << 16
"""No message from a consumer is longer than this."""

_Name = Annotated[str, Meta(min_length=1, max_length=128)]
_Whole = Annotated[int, Meta(ge=0, le=1 << 62)]
_Instance = Annotated[bytes, Meta(min_length=INSTANCE_BYTES, max_length=INSTANCE_BYTES)]
_Pair = tuple[_Whole, _Whole]
_Side = Annotated[int, Meta(ge=1, le=MAX_SIDE)]


class Hello(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A consumer presents itself. ``received`` is the last packet number it has of producer instance ``knows`` (8 zero
    bytes: none), ``last`` the last ``seq`` that it has of each stream."""

    protocol: int
    wire: int
    consumer: _Name
    producer: _Name
    instance: _Instance
    kinds: Annotated[list[_Name], Meta(min_length=1, max_length=64)]
    delivery: Literal["every", "latest"]
    credit_bytes: Annotated[int, Meta(ge=1, le=1 << 40)]
    ready: bool
    knows: _Instance
    received: _Whole
    last: Annotated[dict[_Name, _Whole], Meta(max_length=256)]


class Offer(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """One stream as a welcome describes it: what it is, the ``seq`` that will come next on this edge, and the counters
    as they stand before it."""

    name: _Name
    resolution: tuple[_Side, _Side] | None
    camera: Annotated[str, Meta(max_length=1024)]
    start: _Whole
    sent: _Pair
    dropped: Annotated[dict[_Name, _Pair], Meta(max_length=64)]
    encoding: Annotated[str, Meta(max_length=64)] = ""

    @property
    def info(self) -> StreamInfo:
        """The same as the stages know it."""
        resolution: Resolution | None = self.resolution
        return StreamInfo(self.name, resolution, self.camera, self.encoding)


class Welcome(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """A producer's answer to a hello, and again to a ready (``open``: packets follow from each ``start``).

    ``continues``: this instance sends the same packets under the same numbers as one that died before it would have.
    """

    protocol: int
    wire: int
    producer: _Name
    instance: _Instance
    continues: bool
    open: bool
    streams: Annotated[list[Offer], Meta(max_length=256)]


encode = msgspec.msgpack.Encoder().encode
_hello = msgspec.msgpack.Decoder(Hello).decode
_welcome = msgspec.msgpack.Decoder(Welcome).decode
_anything = msgspec.msgpack.Decoder().decode
_NUMBERED = struct.Struct(f"<c{INSTANCE_BYTES}sQ")


def numbered(kind: bytes, instance: bytes, number: int) -> bytes:
    """17 bytes: what it is (``P``, ``A``, ``B``, ``R``), the producer's instance, a packet number on this edge."""
    return _NUMBERED.pack(kind, instance, number)


def parse_numbered(data: bytes) -> tuple[bytes, int]:
    """The instance and the number. Raises ``WireError("prelude")``."""
    if len(data) != _NUMBERED.size:
        raise WireError("prelude", f"{len(data)} bytes where {_NUMBERED.size} were expected")
    _, instance, number = _NUMBERED.unpack(data)
    return instance, number


def parse_hello(data: bytes) -> Hello:
    """Raises ``WireError``: ``"version"`` or ``"hello"``."""
    try:
        hello: Hello = _hello(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse_version(data)
        raise WireError("hello", f"a hello that cannot be read: {str(error)[:120]}") from None
    _refuse_version(data)
    return hello


def parse_welcome(data: bytes) -> Welcome:
    """Raises ``WireError``: ``"version"`` or ``"welcome"``."""
    try:
        welcome: Welcome = _welcome(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        _refuse_version(data)
        raise WireError("welcome", f"a welcome that cannot be read: {str(error)[:120]}") from None
    _refuse_version(data)
    return welcome


def _refuse_version(data: bytes) -> None:
    try:
        fields = _anything(data)
    except Exception:  # a hostile message can make msgpack raise many things; the caller then has a name for it
        return
    spoken = fields[:2] if isinstance(fields, list) else []
    if len(spoken) == 2 and all(type(n) is int for n in spoken) and spoken != [PROTOCOL, VERSION]:
        raise WireError("version", f"the other side speaks version {spoken} of the protocol and the wire, not "
                                   f"{[PROTOCOL, VERSION]}: install the same rtpipe on both")  # fmt: skip
