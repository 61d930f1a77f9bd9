"""What an rtpipe recording holds: told by its index and summary where it was finished, else counted in one scan."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from rtpipe.formats.mcap.events import CONTINUED, MAX_EVENTS, unsqueeze_packets
from rtpipe.formats.mcap.messages import EVENTS, FRAME, IMU, PICTURE, RAW, TRIGGERS, MessageType
from rtpipe.formats.mcap.raw import is_raw
from rtpipe.formats.mcap.read import ContainerFile, Messages
from rtpipe.formats.mcap.records import Contents, Damaged
from rtpipe.formats.mcap.totals import FURTHEST, LONGEST_US, Total, counters_told
from rtpipe.raw import MAX_EVENTS as MAX_RAW
from rtpipe.types import KINDS, MAX_SIDE, Array, Resolution, StreamInfo

PREFIX = "rtpipe/"
"""Before the names of our metadata records."""
SUMMARY = PREFIX + "summary"
VERSION = 1
_TYPES = {"events": EVENTS, "imu": IMU, "triggers": TRIGGERS}

Decoded = dict[str, Any]
"""A decoded message."""


@dataclass
class StreamIndex:
    """One stream: its message channels (frames: info and picture; events: columns and raw) and what there is of it."""

    info: StreamInfo
    channel: int = -1
    picture: int = -1
    raw: int = -1
    total: Total = field(default_factory=Total)
    waiting: Decoded | None = None

    @property
    def type(self) -> MessageType:
        """The type of the messages on ``channel``."""
        return _TYPES.get(self.info.kind, FRAME)

    @property
    def channels(self) -> set[int]:
        """The channels that carry the stream."""
        return {self.channel, self.picture, self.raw} - {-1}

    def whole(self, messages: Messages) -> Iterator[tuple[Decoded, memoryview | None]]:
        """The stream's decoded messages, a frame's with its picture. A frame whose picture is not there is left out.
        Raises :class:`~rtpipe.formats.mcap.records.Damaged`."""
        for channel, data in messages:
            if channel == self.channel:
                fields = self.type.decode(data)
                if fields.get("picture"):
                    self.waiting = fields
                else:
                    yield fields, None
            elif channel == self.raw:
                yield RAW.decode(data), None
            elif channel == self.picture and self.waiting is not None:
                fields, self.waiting = self.waiting, None
                yield fields, data


class Index:
    """Streams, chunks and metadata of an open file. Raises ``FormatError`` and
    :class:`~rtpipe.formats.mcap.records.Damaged`."""

    def __init__(self, file: ContainerFile) -> None:
        self.streams: dict[str, StreamIndex] = {}
        self._declared = 0
        contents = file.indexed()
        if contents is None or not self._told(contents):
            self.streams.clear()
            self._declared = 0
            finished = contents is not None
            contents = file.scan(self._count)
            self._declare(contents)
            if not finished and not contents.notes:
                contents.notes.append("the index is missing: everything before it was read")
        self.chunks = contents.chunks
        self.metadata = contents.metadata
        self.notes = list(contents.notes)
        version = self.metadata.get(PREFIX + "recording", {}).get("version", str(VERSION))
        if version != str(VERSION):
            raise Damaged(f"it is a recording of version {version[:20]!r}, this rtpipe reads version {VERSION}")

    def _declare(self, contents: Contents) -> None:
        if len(contents.channels) == self._declared:
            return
        self._declared = len(contents.channels)
        for number, channel in contents.channels.items():
            name = channel.metadata.get("stream", "")
            if name.rsplit("/", 1)[-1] not in KINDS:
                continue
            info = StreamInfo(name, _resolution(channel.metadata), channel.metadata.get("camera", ""))
            stream = self.streams.get(name) or StreamIndex(info)
            if channel.schema == stream.type.name:
                stream.channel = number
            elif channel.schema == PICTURE.name and stream.type is FRAME:
                stream.picture = number
            elif channel.schema == RAW.name and stream.type is EVENTS:
                stream.raw = number
            else:
                continue
            self.streams[name] = stream
            if info.kind == "events" and info.resolution is None:
                raise Damaged(f"{name} has no resolution")

    def _told(self, contents: Contents) -> bool:
        """Take what the file says of itself; False where it says nothing, or nothing believable."""
        self._declare(contents)
        try:
            text = contents.metadata.get(SUMMARY, {}).get("json", "")
            totals = msgspec.json.decode(text, type=dict[str, Total])
        except (msgspec.MsgspecError, RecursionError):
            return False
        if totals.keys() != self.streams.keys() or not all(map(_believable, totals.values())):
            return False
        for name, total in totals.items():
            self.streams[name].total = total
        return True

    def _count(self, contents: Contents, messages: Messages) -> None:
        """Count the messages of a scanned chunk."""
        self._declare(contents)
        for stream in self.streams.values():
            for fields, _ in stream.whole(messages):
                _count(stream, fields)


def packet_rows(stream: StreamIndex, fields: Decoded) -> Array:
    """The packets of a message, int64 (packets, 6): seq, t_first, t_last, received_ns, elements, flags."""
    if stream.type is FRAME or is_raw(fields):
        n = elements(stream, fields)
        span = [fields[name] for name in ("seq", "t_first", "t_last", "received_ns")]
        if span[0] >= 1 << 62:
            raise Damaged("a packet has an impossible number")
        return np.array([[*span, n, int(fields["end"])]], np.int64)
    rows = unsqueeze_packets(fields["packets"])
    if rows[:, 4].min() < 0 or rows[:, 0].min() < 0 or rows[:, 4].sum() != elements(stream, fields):
        raise Damaged("a message does not hold what its packets say")
    return rows


def elements(stream: StreamIndex, fields: Decoded) -> int:
    """Elements in a message."""
    if stream.type is EVENTS:
        return int(fields["n"])
    return int(fields["picture"]) if stream.type is FRAME else len(fields["t"])


def span_of(stream: StreamIndex, fields: Decoded) -> tuple[int, int]:
    """First and last instant (µs) of a message's elements; it must have some."""
    if stream.type is EVENTS:
        first, last = ("t_first", "t_last") if is_raw(fields) else ("t0", "t1")
        return fields[first], fields[last]
    if stream.type is FRAME:
        instants = [fields["t"]]
        instants += [fields[name] for name in ("exposure_start", "exposure_end") if fields["has_" + name]]
        return min(instants), max(instants)
    return int(fields["t"].min()), int(fields["t"].max())


def _count(stream: StreamIndex, fields: Decoded) -> None:
    n, epoch = elements(stream, fields), fields["epoch"]
    if n > (MAX_RAW if is_raw(fields) else MAX_EVENTS):
        raise Damaged("a message claims too many events")
    for row in packet_rows(stream, fields).tolist():
        stream.total.packet(row[0], epoch, bool(row[5] & CONTINUED))
    if n:
        stream.total.add(epoch, n, *span_of(stream, fields))
    told = counters_told(fields["counters"])
    if told is not None:
        stream.total.counters(told.sent[0], told.dropped)


def _resolution(metadata: dict[str, str]) -> Resolution | None:
    if "width" not in metadata or "height" not in metadata:
        return None
    try:
        width, height = int(metadata["width"]), int(metadata["height"])
    except ValueError:
        raise Damaged("a resolution is not a number") from None
    if not (0 < width <= MAX_SIDE and 0 < height <= MAX_SIDE):
        raise Damaged("a resolution is impossible")
    return width, height


def _believable(total: Total) -> bool:
    numbers = [total.packets, total.elements, total.missing]
    spans = total.spans
    return (
        min(numbers) >= 0
        and all(-FURTHEST < s.t_first <= s.t_last < FURTHEST for s in spans)
        and all(s.t_last - s.t_first <= 2 * LONGEST_US for s in spans)
        and all(a.epoch < b.epoch for a, b in itertools.pairwise(spans))
        and bool(spans) == (total.elements > 0)
    )
