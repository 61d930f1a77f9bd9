"""The messages of a recording: ROS 2 message types in CDR, so that a recording explains itself to other tools.

A type is a table of fields; the schema text that goes into the file and the bytes of a message both follow from it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtpipe.formats.mcap.records import Damaged, Fields

ENCAPSULATION = b"\x00\x01\x00\x00"
"""CDR, little-endian."""

_SCALARS = {"bool": "B", "uint8": "B", "int32": "i", "uint32": "I", "int64": "q", "uint64": "Q"}
_ARRAYS = {"uint8[]": "u1", "int64[]": "<i8", "float32[]": "<f4"}
_SIZES = {"B": 1, "i": 4, "I": 4, "q": 8, "Q": 8}


@dataclass(frozen=True)
class MessageType:
    """A message type: ``name`` and ``fields`` (type, name, comment) in the order in which they are written. ``schema``
    is derived unless given (a nested type, here flattened). The last ``later`` fields are missing in files written
    before there were any: numbers then, read as 0."""

    name: str
    fields: tuple[tuple[str, str, str], ...]
    text: str = ""
    later: int = 0

    @property
    def schema(self) -> str:
        """The definition as ROS 2 writes it (``ros2msg``)."""
        return self.text or "".join(f"{kind} {name}  # {comment}\n" for kind, name, comment in self.fields)

    def encode(self, **values: Any) -> bytes:
        """The message's bytes. Arrays are NumPy arrays or bytes; every field must be given."""
        parts, at = [ENCAPSULATION], 0
        for kind, name, _ in self.fields:
            value = values[name]
            if kind in _SCALARS:
                code = _SCALARS[kind]
                pad = -at % _SIZES[code]
                parts.append(bytes(pad) + struct.pack("<" + code, value))
                at += pad + _SIZES[code]
                continue
            if kind == "string":
                data, count, align = value.encode() + b"\0", len(value.encode()) + 1, 1
            else:
                data = value if isinstance(value, bytes) else np.ascontiguousarray(value, _ARRAYS[kind]).tobytes()
                align = np.dtype(_ARRAYS[kind]).itemsize
                count = len(data) // align
            pad = -at % 4
            head = bytes(pad) + struct.pack("<I", count)
            at += len(head)
            if count:
                head += bytes(-at % align)
                at += -at % align
            parts += (head, data)
            at += len(data)
        return b"".join(parts)

    def decode(self, data: memoryview) -> dict[str, Any]:
        """The fields by name; arrays are views of ``data``. Raises :class:`~rtpipe.formats.mcap.records.Damaged`."""
        if bytes(data[:4]) != ENCAPSULATION:
            raise Damaged("a message is not little-endian CDR")
        fields, at, found = Fields(data[4:]), 0, {}
        for number, (kind, name, _) in enumerate(self.fields):
            if number >= len(self.fields) - self.later and not fields:
                found[name] = False if kind == "bool" else 0
                continue
            code = _SCALARS.get(kind, "I")
            pad = -at % _SIZES[code]
            fields.bytes_(pad)
            value: Any = fields.number(code)
            at += pad + _SIZES[code]
            if kind == "string":
                raw = bytes(fields.bytes_(value))
                at += value
                try:
                    value = raw.rstrip(b"\0").decode()
                except UnicodeDecodeError as error:
                    raise Damaged("a text is not UTF-8") from error
            elif kind in _ARRAYS:
                dtype = np.dtype(_ARRAYS[kind])
                pad = -at % dtype.itemsize if value else 0
                fields.bytes_(pad)
                array = np.frombuffer(fields.bytes_(value * dtype.itemsize), dtype)
                at += pad + value * dtype.itemsize
                value = array
            elif kind == "bool":
                value = bool(value)
            found[name] = value
        return found


_PACKETS = ("uint8[]", "packets", "the packets they came in, see docs/recording.md")
_COUNTERS = ("string", "counters", "JSON: what had been sent to the recorder and dropped on the way, up to here")

EVENTS = MessageType(
    "rtpipe_msgs/msg/EventBatch",
    (
        ("int64", "t0", "us, camera clock: the first event's time"),
        ("int64", "t1", "us: the last event's time"),
        ("uint32", "epoch", "grows where time jumped"),
        ("uint32", "n", "number of events"),
        _PACKETS,
        ("uint8[]", "dt", "blosc2: unsigned time differences of 1, 2 or 4 bytes, us"),
        ("uint8[]", "x", "blosc2: uint16, each column XOR the one before"),
        ("uint8[]", "y", "blosc2: uint16, row | polarity << 15, each XOR the one before"),
        _COUNTERS,
    ),
)

RAW = MessageType(
    "rtpipe_msgs/msg/RawEvents",
    (
        ("uint64", "seq", "the packet's number in its stream"),
        ("int64", "t_first", "us, camera clock: the packet's span"),
        ("int64", "t_last", "us"),
        ("int64", "received_ns", "CLOCK_MONOTONIC when it reached the recording host"),
        ("uint32", "epoch", "grows where time jumped"),
        ("bool", "end", "the stream's last packet"),
        ("uint32", "n", "number of events in data"),
        ("int64", "offset", "us, added to every time in data"),
        ("string", "encoding", "evt2, evt21 or evt3; empty where only time went by"),
        ("uint8[]", "state", "the decoder's before the first byte of data"),
        ("uint8[]", "data", "the camera's own bytes, whole words"),
        _COUNTERS,
    ),
)

IMU = MessageType(
    "rtpipe_msgs/msg/ImuBatch",
    (
        ("uint32", "epoch", "grows where time jumped"),
        _PACKETS,
        ("int64[]", "t", "us, camera clock"),
        ("float32[]", "acceleration", "m/s^2: x, y, z of each sample"),
        ("float32[]", "rotation", "rad/s: x, y, z of each sample"),
        ("float32[]", "temperature", "degrees Celsius, NaN where there is none"),
        _COUNTERS,
    ),
)

TRIGGERS = MessageType(
    "rtpipe_msgs/msg/TriggerBatch",
    (
        ("uint32", "epoch", "grows where time jumped"),
        _PACKETS,
        ("int64[]", "t", "us, camera clock"),
        ("uint8[]", "channel", "which input"),
        ("uint8[]", "edge", "0 falling, 1 rising, 2 pulse"),
        _COUNTERS,
    ),
)

FRAME = MessageType(
    "rtpipe_msgs/msg/FrameInfo",
    (
        ("uint64", "seq", "the packet's number in its stream"),
        ("int64", "t_first", "us, camera clock: the packet's span"),
        ("int64", "t_last", "us"),
        ("int64", "received_ns", "CLOCK_MONOTONIC when it reached the recording host"),
        ("uint32", "epoch", "grows where time jumped"),
        ("bool", "end", "the stream's last packet"),
        ("bool", "picture", "the next message of the picture channel belongs to this one; else only time went by"),
        ("bool", "has_exposure_start", ""),
        ("bool", "has_exposure_end", ""),
        ("int64", "t", "us: the instant that the picture shows"),
        ("int64", "exposure_start", "us"),
        ("int64", "exposure_end", "us"),
        ("uint32", "width", "px"),
        ("uint32", "height", "px"),
        ("uint32", "flags", "1 passed through, 2 state reset, 4 windows skipped before it, 8 events missing"),
        ("string", "encoding", "mono8, mono16, bgr8 or bgr16"),
        ("string", "source", "camera, or the engine's name"),
        _COUNTERS,
        ("bool", "has_window_start", ""),
        ("bool", "has_window_end", ""),
        ("int64", "window_start", "us: the events that belong to the picture, from here"),
        ("int64", "window_end", "us: up to here, not included"),
    ),
    later=4,
)

_PARTS = """std_msgs/Header header
string format
uint8[] data
================================================================================
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
================================================================================
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""

PICTURE = MessageType(
    "sensor_msgs/msg/CompressedImage",
    (
        ("int32", "sec", ""),
        ("uint32", "nanosec", ""),
        ("string", "frame_id", ""),
        ("string", "format", ""),
        ("uint8[]", "data", ""),
    ),
    _PARTS,
)
