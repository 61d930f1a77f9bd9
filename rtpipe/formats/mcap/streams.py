"""Streams on their way into a recording: packets gathered into messages, one class per kind of stream."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Protocol

import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.mcap.events import BATCH, CONTINUED, END, MAX_PACKETS, EventColumns, squeeze_packets
from rtpipe.formats.mcap.messages import EVENTS, FRAME, IMU, PICTURE, RAW, TRIGGERS, MessageType
from rtpipe.formats.mcap.pictures import encode_frame
from rtpipe.formats.mcap.raw import encode_raw, span_of
from rtpipe.formats.mcap.totals import FURTHEST, Total, check_span, counters_json, epoch_for, note_counters
from rtpipe.formats.mcap.write import Container, clamp_ns
from rtpipe.packing import LONGEST_US, fault, pack
from rtpipe.types import MAX_SIDE, Counters, Events, Frame, Imu, PackedEvents, Packet, RawEvents, StreamInfo, Trigger

SAMPLES = 1 << 12
"""IMU samples or triggers in one message, at most (a larger packet makes a larger one)."""


class StreamWriter(Protocol):
    """One stream being written."""

    total: Total

    def add(self, packet: Packet) -> None:
        """Take a packet; ``ValueError``, and nothing taken, for a body that cannot be kept."""
        ...

    def flush(self) -> None:
        """Put everything that was taken into the container's open chunk."""
        ...


class Declared:
    """Declares message types in a container, each once, and channels for streams."""

    def __init__(self, container: Container) -> None:
        self.container = container
        self._schemas: dict[str, int] = {}

    def channel(self, stream: StreamInfo, kind: MessageType, ending: str = "") -> int:
        """A channel of ``stream`` for messages of type ``kind``."""
        if kind.name not in self._schemas:
            self._schemas[kind.name] = self.container.schema(kind.name, "ros2msg", kind.schema)
        told = {"stream": stream.name, "camera": stream.camera, "offered_qos_profiles": ""}
        if stream.resolution is not None:
            told |= {"width": str(stream.resolution[0]), "height": str(stream.resolution[1])}
        return self.container.channel(f"/{stream.name}{ending}", self._schemas[kind.name], "cdr", told)


class _Batches(ABC):
    """What event, IMU and trigger streams share: the table of packets of the open message."""

    def __init__(self, declared: Declared, stream: StreamInfo, kind: MessageType, codec: str) -> None:
        self.total = Total()
        self._container, self._kind, self._codec = declared.container, kind, codec
        self._channel = declared.channel(stream, kind)
        self._rows: list[tuple[int, int, int, int, int, int]] = []
        self._epoch = 0
        self._counters = Counters()

    @abstractmethod
    def flush(self) -> None:
        """Close the open message."""

    def _enter(self, epoch: int) -> None:
        """Close the message where a packet of this epoch cannot follow in it."""
        if epoch != self._epoch or len(self._rows) >= MAX_PACKETS // 2:
            self.flush()
        self._epoch = epoch

    def _row(self, packet: Packet, n: int, continued: bool = False) -> None:
        flags = (END if packet.end else 0) | (CONTINUED if continued else 0)
        self._rows.append((packet.seq, packet.t_first, packet.t_last, packet.received_ns, n, flags))
        self.total.packet(packet.seq, self._epoch, continued)
        if packet.counters is not self._counters:
            self._counters = packet.counters
            note_counters(self.total, packet.counters)

    def _write(self, t_last: int, **values: Any) -> None:
        packets, first = squeeze_packets(self._rows, self._codec), self._rows[0][0]
        counters = counters_json(self._counters)
        data = self._kind.encode(epoch=self._epoch, packets=packets, counters=counters, **values)
        self._rows.clear()
        self._container.message(self._channel, first, clamp_ns(t_last), data)


class EventStream(_Batches):
    """A stream of events, as columns or as a camera's own bytes."""

    def __init__(self, declared: Declared, stream: StreamInfo, codec: str) -> None:
        super().__init__(declared, stream, EVENTS, codec)
        self._declared, self._stream = declared, stream
        self._raw_channel = -1
        self._resolution = stream.resolution or (MAX_SIDE, MAX_SIDE)
        self._columns = EventColumns(self._resolution)

    def add(self, packet: Packet) -> None:
        """Take a packet of events, or one without a body."""
        body = packet.body
        if isinstance(body, RawEvents) or (body is None and self._raw_channel >= 0 and not self._rows):
            self._add_raw(packet)
            return
        if isinstance(body, PackedEvents):
            parts = [body] if body.dt.size else []
        elif isinstance(body, Events):
            parts = _packed(body)
        elif body is None:
            parts = []
        else:
            raise ValueError(f"a stream of events was sent a {type(body).__name__}")
        first = None
        if body is not None and parts:
            first = parts[0].t0 + int(parts[0].dt[0])
            check_span(first, parts[-1].t0 + int(parts[-1].dt[-1]))
            split = len(parts) > 1 or len(body) > BATCH - self._columns.n
            if split and (wrong := fault(body, self._resolution)):
                raise ValueError(f"events with bad {wrong}")  # told before the first part of them is taken
        self._enter(epoch_for(self.total, packet.epoch, first, ordered=True))
        for part in parts:
            self._take(packet, part, last=part is parts[-1])
        if not parts:
            self._row(packet, 0)

    def _add_raw(self, packet: Packet) -> None:
        span = span_of(packet)
        if span is not None:
            check_span(*span)
        epoch = epoch_for(self.total, packet.epoch, None if span is None else span[0], ordered=True)
        data = encode_raw(packet, epoch)
        if self._raw_channel < 0:
            self._raw_channel = self._declared.channel(self._stream, RAW, "/raw")
        self.flush()
        self._container.message(self._raw_channel, packet.seq, clamp_ns(packet.t_last), data)
        self.total.packet(packet.seq, epoch)
        note_counters(self.total, packet.counters)
        if span is not None:
            self.total.add(epoch, packet.n_events, *span)

    def _take(self, packet: Packet, part: PackedEvents, last: bool) -> None:
        columns, at, n = self._columns, 0, part.dt.size
        while at < n:
            first = part.t0 + int(part.dt[at])
            if not columns.fits(first):
                self.flush()
            stop = min(n, at + BATCH - columns.n)
            columns.append(part if stop - at == n else part[at:stop])
            self._row(packet, stop - at, continued=stop < n or not last)
            self.total.add(self._epoch, stop - at, first, columns.t1)
            at = stop

    def flush(self) -> None:
        """Close the open message."""
        if not self._rows:
            return
        n = self._columns.n
        t0, t1 = (self._columns.t0, self._columns.t1) if n else (self._rows[0][1], self._rows[-1][2])
        dt, x, y = self._columns.take(self._codec)
        last = max(t1, self._rows[-1][2])
        self._write(last, t0=t0, t1=t1, n=n, dt=dt, x=x, y=y)


class SampleStream(_Batches):
    """A stream of IMU samples or triggers."""

    def __init__(self, declared: Declared, stream: StreamInfo, codec: str) -> None:
        super().__init__(declared, stream, IMU if stream.kind == "imu" else TRIGGERS, codec)
        self._body = Imu if stream.kind == "imu" else Trigger
        self._columns = self._body.__dataclass_fields__.keys()
        self._parts: list[Imu | Trigger] = []
        self._n = 0

    def add(self, packet: Packet) -> None:
        """Take a packet of samples, or one without a body."""
        body = packet.body
        if body is not None and not isinstance(body, self._body):
            raise ValueError(f"a stream of {self._body.__name__} was sent a {type(body).__name__}")
        n = 0 if body is None else len(body)
        t = body.t if body is not None and n else None
        if isinstance(body, Imu) and not (body.acceleration.shape == body.rotation.shape == (n, 3)):
            raise ValueError("IMU columns are not three numbers a sample")
        if body is not None and any(len(getattr(body, name)) != n for name in self._columns):
            raise ValueError("columns differ in length")
        if t is not None:
            check_span(int(t.min()), int(t.max()))
        self._enter(epoch_for(self.total, packet.epoch, None if t is None else int(t[0])))
        if body is not None and t is not None:
            self._parts.append(self._body(*(np.array(getattr(body, name)) for name in self._columns)))
            self.total.add(self._epoch, n, int(t.min()), int(t.max()))
            self._n += n
        self._row(packet, n)
        if self._n >= SAMPLES:
            self.flush()

    def flush(self) -> None:
        """Close the open message."""
        if not self._rows:
            return
        values = {name: _joined([getattr(part, name) for part in self._parts]) for name in self._columns}
        last = max([int(part.t.max()) for part in self._parts] + [self._rows[-1][2]])
        self._parts, self._n = [], 0
        self._write(last, **values)


class PictureStream:
    """A stream of frames: two messages each, of which other tools know the second."""

    def __init__(self, declared: Declared, stream: StreamInfo) -> None:
        self.total = Total()
        self._container = declared.container
        self._info = declared.channel(stream, FRAME, "/info")
        self._picture = declared.channel(stream, PICTURE, "/compressed")

    def add(self, packet: Packet) -> None:
        """Take a packet with a frame, or one without a body."""
        frame = packet.body
        if frame is not None and not isinstance(frame, Frame):
            raise ValueError(f"a stream of frames was sent a {type(frame).__name__}")
        span = _span(frame) if frame is not None else None
        if span is not None:
            check_span(*span)
        if frame is not None and any(abs(t or 0) >= FURTHEST for t in (frame.window_start, frame.window_end)):
            raise ValueError("a frame's window lies impossibly far away")
        epoch = epoch_for(self.total, packet.epoch, None if span is None else span[0])
        info, picture = encode_frame(packet, epoch)
        self.total.packet(packet.seq, epoch)
        note_counters(self.total, packet.counters)
        if span is not None:
            self.total.add(epoch, 1, *span)
        time = clamp_ns(max(packet.t_last, span[1] if span is not None else packet.t_last))
        self._container.message(self._info, packet.seq, time, info)
        if picture is not None:
            self._container.message(self._picture, packet.seq, time, picture)

    def flush(self) -> None:
        """Nothing is held back."""


def _span(frame: Frame) -> tuple[int, int]:
    """First and last instant (µs) that a frame speaks of."""
    instants = [t for t in (frame.t, frame.exposure_start, frame.exposure_end) if t is not None]
    return min(instants), max(instants)


def _packed(events: Events) -> list[PackedEvents]:
    """Events as packed ones, cut where they span more than one packed run can."""
    parts: list[PackedEvents] = []
    at = 0
    while at < len(events):
        stop = int(np.searchsorted(events.t[at:], int(events.t[at]) + LONGEST_US, side="right")) + at
        parts.append(pack(events[at : max(stop, at + 1)]))
        at = max(stop, at + 1)
    return parts


def _joined(columns: list[Any]) -> Any:
    return np.concatenate(columns).ravel() if columns else b""


def stream_writer(declared: Declared, stream: StreamInfo, codec: str) -> StreamWriter:
    """The writer for a stream's kind. Raises ``InputError`` for a kind that cannot be recorded."""
    if stream.kind == "events":
        return EventStream(declared, stream, codec)
    if stream.kind in ("imu", "triggers"):
        return SampleStream(declared, stream, codec)
    if stream.kind in ("frames", "output", "picture"):
        return PictureStream(declared, stream)
    raise InputError(f"a stream of kind {stream.kind!r} cannot be recorded")
