"""Packets of an AEDAT4 as size-prefixed FlatBuffers: pure, what :mod:`rtpipe.formats.aedat4` reads back."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any
from xml.sax.saxutils import escape

import flatbuffers
import numpy as np

from rtpipe.types import Array, Edge, Events, Frame, Imu, Trigger

EVENT = np.dtype([("t", "<i8"), ("x", "<i2"), ("y", "<i2"), ("p", "u1"), ("pad", "V3")])
"""An event as it is stored: 16 bytes."""

STANDARD_GRAVITY = 9.80665
"""m/s² per g: the file has accelerations in g, rotations in degrees per second."""

TRIGGERS = {
    0: (4, Edge.PULSE),
    1: (0, Edge.RISING),
    2: (0, Edge.FALLING),
    3: (0, Edge.PULSE),
    4: (1, Edge.RISING),
    5: (1, Edge.FALLING),
    6: (2, Edge.RISING),
    7: (2, Edge.FALLING),
    8: (3, Edge.RISING),
    9: (3, Edge.FALLING),
}
"""The file's trigger types as (channel, edge)."""
OTHER_TRIGGERS = 16
"""A type that is not in :data:`TRIGGERS` is a pulse on channel 16 + type."""
_TYPES = {wired: kind for kind, wired in TRIGGERS.items()}

_DESCRIPTIONS = {
    "EVTS": "Array of events (polarity ON/OFF).",
    "FRME": "Standard frame (8-bit image).",
    "IMUS": "Inertial Measurement Unit data samples.",
    "TRIG": "External triggers and special signals.",
}
_OUTPUTS = {"EVTS": "events", "FRME": "frames", "IMUS": "imu", "TRIG": "triggers"}


def events(body: Events) -> bytes:
    """A packet of events (x and y below 32768)."""
    stored = np.zeros(len(body), EVENT)
    stored["t"], stored["x"], stored["y"], stored["p"] = body.t, body.x, body.y, body.p
    # size, root at 16, identifier, padding, a table of one field at 20 whose vector's length stands at 28
    vtable_and_table = struct.pack("<2xHHHiI", 6, 8, 4, 6, 4)
    head = struct.pack("<I4s", 16, b"EVTS") + vtable_and_table + struct.pack("<I", len(body))
    return struct.pack("<I", len(head) + stored.nbytes) + head + stored.tobytes()


def frame(body: Frame) -> bytes:
    """A packet of one frame, uint8. Its timestamp is the start of the exposure, as dv-processing 2 has it."""
    height, width = body.image.shape[:2]
    start, end = body.exposure_start, body.exposure_end
    known = start is not None and end is not None
    times = (start, start, end, start, end) if known else (body.t, 0, 0, 0, 0)
    builder = flatbuffers.Builder(body.image.nbytes + 256)
    pixels = builder.CreateNumpyVector(np.ascontiguousarray(body.image).reshape(-1))
    builder.StartObject(13)
    for field, value in enumerate(times):
        builder.PrependInt64Slot(field, value, 0)
    builder.PrependInt8Slot(5, 16 if body.image.ndim == 3 else 0, 0)
    builder.PrependInt16Slot(6, width, 0)
    builder.PrependInt16Slot(7, height, 0)
    builder.PrependUOffsetTRelativeSlot(10, pixels, 0)
    builder.PrependInt64Slot(11, end - start if start is not None and end is not None else 0, 0)
    return _finished(builder, builder.EndObject(), b"FRME")


def imu(body: Imu) -> bytes:
    """A packet of inertial samples."""
    columns = [body.temperature, *(body.acceleration / np.float32(STANDARD_GRAVITY)).T, *np.degrees(body.rotation).T]
    rows = np.stack(columns, axis=1).tolist()

    def sample(builder: flatbuffers.Builder, i: int) -> int:
        builder.StartObject(11)
        builder.PrependInt64Slot(0, int(body.t[i]), 0)
        for field, value in enumerate(rows[i]):
            builder.PrependFloat32Slot(field + 1, value, 0.0)
        return int(builder.EndObject())

    return _tables(len(body), sample, b"IMUS")


def trigger_types(body: Trigger) -> list[int | None]:
    """The file's type of every signal, None where it has none."""
    pairs = zip(body.channel.tolist(), body.edge.tolist(), strict=True)
    return [
        channel - OTHER_TRIGGERS if channel >= OTHER_TRIGGERS and edge == Edge.PULSE else _TYPES.get((channel, edge))
        for channel, edge in pairs
    ]


def triggers(body: Trigger, types: Sequence[int]) -> bytes:
    """A packet of trigger signals, whose ``types`` :func:`trigger_types` found."""

    def signal(builder: flatbuffers.Builder, i: int) -> int:
        builder.StartObject(2)
        builder.PrependInt64Slot(0, int(body.t[i]), 0)
        builder.PrependInt8Slot(1, types[i], 0)
        return int(builder.EndObject())

    return _tables(len(body), signal, b"TRIG")


def contents(rows: Array) -> bytes:
    """The table of contents: per packet its position, stream, size, number of elements, first and last time."""
    values = rows.tolist()

    def packet(builder: flatbuffers.Builder, i: int) -> int:
        position, stream, size, n, first, last = values[i]
        builder.StartObject(5)
        builder.PrependInt64Slot(0, position, 0)
        builder.Prep(4, 8)
        builder.PrependUint32(size)
        builder.PrependInt32(stream)
        builder.PrependStructSlot(1, builder.Offset(), 0)
        builder.PrependInt64Slot(2, n, 0)
        builder.PrependInt64Slot(3, first, 0)
        builder.PrependInt64Slot(4, last, 0)
        return int(builder.EndObject())

    return _tables(len(values), packet, b"FTAB")


def header(contents_at: int, info: str) -> bytes:
    """The file's header; ``contents_at`` -1 while it is being written. Its length depends on ``info`` alone."""
    builder = flatbuffers.Builder(len(info) + 256)
    builder.ForceDefaults(True)
    text = builder.CreateString(info)
    builder.StartObject(3)
    builder.PrependInt64Slot(1, contents_at, 0)
    builder.PrependUOffsetTRelativeSlot(2, text, 0)
    builder.PrependInt32Slot(0, 1, 0)  # LZ4
    builder.Finish(builder.EndObject(), b"IOHE")
    return bytes(builder.Output())


def description(streams: Sequence[tuple[str, tuple[int, int] | None]], source: str) -> str:
    """The XML about ``streams``: each one's identifier (``"EVTS"`` …) and size, in the order of their numbers."""
    where = "/mainloop/Recorder/outInfo/"
    nodes = []
    for number, (kind, size) in enumerate(streams):
        sides = {"sizeX": size[0], "sizeY": size[1]} if size is not None else {}
        inner = "".join(f'<attr key="{key}" type="int">{value}</attr>' for key, value in sides.items())
        nodes.append(
            f'<node name="{number}" path="{where}{number}/">'
            f'<attr key="compression" type="string">LZ4</attr>'
            f'<attr key="originalModuleName" type="string">rtpipe</attr>'
            f'<attr key="originalOutputName" type="string">{_OUTPUTS[kind]}</attr>'
            f'<attr key="typeDescription" type="string">{_DESCRIPTIONS[kind]}</attr>'
            f'<attr key="typeIdentifier" type="string">{kind}</attr>'
            f'<node name="info" path="{where}{number}/info/">{inner}'
            f'<attr key="source" type="string">{escape(source)}</attr></node></node>'
        )
    return f'<dv version="2.0"><node name="outInfo" path="{where}">{"".join(nodes)}</node></dv>'


def _tables(n: int, make: Callable[[flatbuffers.Builder, int], int], identifier: bytes) -> bytes:
    """A root table whose one field is a vector of ``n`` tables."""
    builder = flatbuffers.Builder(1024 + 64 * n)
    made = [make(builder, i) for i in range(n)]
    builder.StartVector(4, n, 4)
    for offset in reversed(made):
        builder.PrependUOffsetTRelative(offset)
    vector = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, vector, 0)
    return _finished(builder, builder.EndObject(), identifier)


def _finished(builder: Any, root: int, identifier: bytes) -> bytes:
    builder.FinishSizePrefixed(root, identifier)
    return bytes(builder.Output())
