"""Packets as ZeroMQ multipart messages and back: pure, versioned, and trusting nothing that arrives.

A message is ``[topic, header]`` for a watermark and ``[topic, header, payload]`` for everything else: the stream's name
in UTF-8, a msgpack array (:class:`Head`), and the body's columns one after the other, little-endian, in one part; a
camera's own bytes travel as they are. ``docs/wire.md`` says the same byte by byte, with examples that the tests decode.

What goes wrong is a :class:`~rtpipe.errors.WireError` with one of the reasons in :data:`REASONS`; nothing else is ever
raised, whatever arrives. Events come out as views into the message, already checked against the stream's resolution
(raw ones are checked where they are decoded: :mod:`rtpipe.raw`).
"""

from rtpipe.wire.decode import decode
from rtpipe.wire.encode import Prepared, encode, prepare
from rtpipe.wire.head import (
    EVENTS,
    MAX_EVENTS,
    MAX_PAYLOAD,
    REASONS,
    VERSION,
    FrameHead,
    Head,
    Part,
    decode_header,
)

__all__ = [
    "EVENTS",
    "MAX_EVENTS",
    "MAX_PAYLOAD",
    "REASONS",
    "VERSION",
    "FrameHead",
    "Head",
    "Part",
    "Prepared",
    "decode",
    "decode_header",
    "encode",
    "prepare",
]
