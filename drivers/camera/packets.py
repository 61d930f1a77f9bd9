"""Readings of a camera to packets: placed on one line of time, sifted, cut, numbered, every element accounted for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.camera import sift
from drivers.camera.contract import Batch, Reading
from drivers.camera.host import Host
from drivers.camera.inbox import TRANSFERS, elements
from drivers.camera.timeline import AHEAD_US, BACK_US, Timeline
from rtpipe import raw
from rtpipe.formats.later import later
from rtpipe.formats.packets import cut, frame_end
from rtpipe.ledger import Flow
from rtpipe.packing import ORDER
from rtpipe.types import Body, Events, Frame, Imu, PackedEvents, Packet, RawEvents, Resolution, StreamInfo, Trigger

MOST_EVENTS = 100_000
"""In one packet."""
SILENCE_US = 5_000
"""Watermarks by the host's clock, which move on without events, come no more often than this (µs)."""
BEHIND_US = 50_000
"""Events come no later than so long after samples and frames of their time (µs)."""
SIZE, TYPE, TIMES, INVALID, OFF = "size", "type", "times", "invalid", "not_wanted"
"""Why something is refused: a frame of another size than the sensor; pixels or columns of the wrong type; times that no
clock shows; bytes that are not what they say; a stream that is switched off."""
START = -(1 << 62)
FURTHEST = 1 << 60
"""No time of a camera is further from zero (µs)."""


@dataclass
class _Stream:
    """What is known of a kind: the numbers of its packets, the newest element, the last promise, what waits."""

    info: StreamInfo
    seq: int = 0
    epoch: int = 0
    newest: int = START
    mark: int = START
    waiting: list[Events] = field(default_factory=list)
    n: int = 0
    received_ns: int = 0


class Packets:
    """One camera's streams. ``flows``: ``"events"``, ``"frames"`` … as they came, and ``"transfers"``; what the filters
    of this computer took out is in ``host.flows``."""

    def __init__(
        self, infos: Sequence[StreamInfo], resolution: Resolution, timeline: Timeline, host: Host, packet_us: int
    ) -> None:
        self._streams = {info.kind: _Stream(info) for info in infos}
        self._resolution, self._time, self._host, self._packet_us = resolution, timeline, host, packet_us
        self.flows: dict[str, Flow] = {kind: Flow() for kind in self._streams} | {TRANSFERS: Flow()}
        self.off: frozenset[str] = frozenset()
        """Kinds that are switched off on this computer."""

    @property
    def newest(self) -> int | None:
        """The last instant that was sent (µs downstream)."""
        return max((s.mark for s in self._streams.values() if s.mark > START), default=None)

    def take(self, batch: Batch) -> list[Packet]:
        """The packets that are complete because of a batch."""
        transfers = self.flows[TRANSFERS]
        transfers.taken += 1 + sum(batch.lost.values())
        transfers.passed += 1
        for reason, n in batch.lost.items():
            transfers.drop(reason, n)
        for reason, n in batch.refused.items():
            self.refuse("events", reason, n)
        made: list[Packet] = []
        for reading in batch.readings:
            made += self._take(reading, batch.received_ns)
        if all(reading.kind != "events" for reading in batch.readings):
            made += self._while_others_go_on(batch.received_ns)
        return made

    def refuse(self, kind: str, reason: str, n: int) -> None:
        """Count what came and goes no further."""
        flow = self.flows.setdefault(kind, Flow())
        flow.taken += n
        flow.drop(reason, n)

    def pass_over(self, batch: Batch, reason: str) -> None:
        """Count a whole batch as dropped (paused)."""
        self.take(Batch((), batch.received_ns, batch.lost, refused=batch.refused))
        for reading in batch.readings:
            self.refuse(reading.kind, reason, elements(reading.body))

    def flush(self) -> list[Packet]:
        """What waits for more, as it is."""
        stream = self._streams.get("events")
        return self._emit(stream, None) if stream is not None and stream.waiting else []

    def due(self, now_ns: int) -> list[Packet]:
        """What has waited long enough (a packet's length) for more to come."""
        stream = self._streams.get("events")
        if stream is None or not stream.waiting or now_ns - stream.received_ns < 1000 * self._packet_us:
            return []
        return self.flush()

    def silence(self, host_ns: int) -> list[Packet]:
        """Nothing had come at ``host_ns``: time goes on all the same."""
        stream = self._streams.get("events")
        until = self._time.silent_until(host_ns)
        if stream is None or until is None or until < stream.newest + max(SILENCE_US, self._packet_us):
            return []
        made: list[Packet] = []
        if self._time.epoch != stream.epoch:  # the other streams have passed a jump, and this one is silent
            self._time.follow("events")
            made = self._jump(stream, self._time.epoch)
        if until < stream.mark + max(SILENCE_US, self._packet_us):
            return made
        return [*made, *self._emit(stream, None), *self._watermark(stream, until, host_ns)]

    def _while_others_go_on(self, received_ns: int) -> list[Packet]:
        """Events are silent, the camera's other streams are not: they tell its time, however late all of them are."""
        stream = self._streams.get("events")
        others = [each.newest for kind, each in self._streams.items() if kind != "events"]
        if stream is None or any(each.epoch != stream.epoch for each in self._streams.values()):
            return []
        until = max(others, default=START) - BEHIND_US
        if until < max(stream.mark, stream.newest) + max(SILENCE_US, self._packet_us):
            return []
        return [*self._emit(stream, None), *self._watermark(stream, until, received_ns)]

    def _take(self, reading: Reading, received_ns: int) -> list[Packet]:
        stream, body = self._streams.get(reading.kind), reading.body
        if stream is None or reading.kind in self.off:
            self.refuse(reading.kind, OFF, elements(body))
            return []
        if body is None:
            if not self._time.fits(reading.kind, reading.t_last, reading.t_last, received_ns):
                return []  # a promise is no reason to believe that the clock has jumped
            place = self._time.place(reading.kind, reading.t_last, reading.t_last, received_ns)
            return [*self._emit(stream, None), *self._watermark(stream, reading.t_last + place.offset, received_ns)]
        self.flows[reading.kind].taken += elements(body)
        if max(map(abs, _span(reading))) > FURTHEST:
            return self._drop(stream, TIMES, elements(body))
        if isinstance(body, Events):
            return self._events(stream, body, received_ns)
        if isinstance(body, Imu | Trigger):
            return self._samples(stream, body, received_ns)
        if isinstance(body, RawEvents):
            return self._raw(stream, reading, body, received_ns)
        return self._frame(stream, body, received_ns)

    # one kind each

    def _events(self, stream: _Stream, events: Events, received_ns: int) -> list[Packet]:
        made: list[Packet] = []
        if not len(events):
            return made
        t = events.t
        straight = int(t[-1]) - int(t[0]) < AHEAD_US and self._time.fits("events", int(t[0]), int(t[-1]), received_ns)
        parts = [events] if straight else [events[part] for part in sift.segments(t, BACK_US, AHEAD_US)]
        for index, part in enumerate(parts):
            if not self._goes_on(part, received_ns) and any(self._goes_on(x, received_ns) for x in parts[index + 1 :]):
                self._drop(stream, ORDER, len(part))  # a few wrong times are no jump: the rest goes on as before
                continue
            epoch, offset = self._time.place("events", *_ends(part.t), received_ns)
            if epoch != stream.epoch:
                made += self._jump(stream, epoch)
            kept, refused = sift.sifted(part, self._resolution, stream.newest - offset, stream.mark - offset)
            for reason, n in refused.items():
                self._drop(stream, reason, n)
            if len(kept):
                made += self._gather(
                    stream, Events(kept.t + offset, kept.x, kept.y, kept.p) if offset else kept, received_ns
                )
        return made

    def _goes_on(self, events: Events, received_ns: int) -> bool:
        return self._time.fits("events", *_ends(events.t), received_ns)

    def _gather(self, stream: _Stream, events: Events, received_ns: int) -> list[Packet]:
        """Put events to those that wait; packets of what is long enough."""
        made: list[Packet] = []
        if not stream.waiting:
            stream.received_ns = received_ns
        begun = int(stream.waiting[0].t[0]) if stream.waiting else int(events.t[0])
        while len(events):
            end = begun + self._packet_us
            n = int(events.t.searchsorted(end)) if int(events.t[-1]) >= end else len(events)
            n = min(n, MOST_EVENTS - stream.n)
            if n:
                stream.waiting.append(events[:n])
                stream.n += n
                stream.newest = int(events.t[n - 1])
                events = events[n:]
            if len(events) or stream.newest + 1 >= end:
                made += self._emit(stream, received_ns)
                begun = int(events.t[0]) if len(events) else begun
        return made

    def _emit(self, stream: _Stream, received_ns: int | None) -> list[Packet]:
        """What waits, as one packet."""
        if not stream.waiting:
            return []
        events = Events.concatenate(stream.waiting)
        stream.waiting, stream.n = [], 0
        n = len(events)
        self.flows["events"].passed += n
        first, last = int(events.t[0]), int(events.t[-1])
        body: Events | PackedEvents | None = self._host.events(events)
        arrived = stream.received_ns
        stream.received_ns = received_ns or arrived
        return [self._packet(stream, first, last, arrived, body)]

    def _raw(self, stream: _Stream, reading: Reading, body: RawEvents, received_ns: int) -> list[Packet]:
        if raw.fault(body) or body.encoding != stream.info.encoding or reading.t_last < reading.t_first:
            return self._drop(stream, INVALID, len(body))
        epoch, offset = self._time.place("events", reading.t_first, reading.t_last, received_ns)
        made = self._jump(stream, epoch) if epoch != stream.epoch else []
        first, last = reading.t_first + offset, reading.t_last + offset
        if first < max(stream.newest, stream.mark):
            return made + self._drop(stream, ORDER if first < stream.newest else sift.LATE, len(body))
        stream.newest = last
        self.flows["events"].passed += len(body)
        return [*made, self._packet(stream, first, last, received_ns, later(body, offset) if offset else body)]

    def _samples(self, stream: _Stream, body: Imu | Trigger, received_ns: int) -> list[Packet]:
        kind = stream.info.kind
        if not len(body):
            return []
        if isinstance(body, Imu) and not body.acceleration.shape == body.rotation.shape == (len(body), 3):
            return self._drop(stream, TYPE, len(body))
        epoch, offset = self._time.place(kind, *_ends(body.t), received_ns)
        made = self._jump(stream, epoch) if epoch != stream.epoch else []
        t = body.t + offset
        top = np.maximum.accumulate(np.maximum(t, max(stream.newest, stream.mark)))
        wrong = t < top
        if wrong.any():
            self._drop(stream, ORDER, int(wrong.sum()))
            body = _picked(body, ~wrong)
            if not len(body):
                return made
        moved = later(body, offset) if offset else body
        assert isinstance(moved, Imu | Trigger)
        self.flows[kind].passed += len(moved)
        stream.newest = int(moved.t[-1])
        return [*made, self._packet(stream, int(moved.t[0]), stream.newest, received_ns, moved)]

    def _frame(self, stream: _Stream, frame: Frame, received_ns: int) -> list[Packet]:
        if frame.image.dtype not in (np.uint8, np.uint16) or frame.image.ndim not in (2, 3):
            return self._drop(stream, TYPE, 1)
        if frame.resolution != stream.info.resolution:
            return self._drop(stream, SIZE, 1)
        if not _exposed(frame):
            frame = Frame(frame.image, frame.t, source=frame.source, flags=frame.flags)
        end = frame_end(frame)
        start = end if frame.exposure_start is None else frame.exposure_start
        epoch, offset = self._time.place("frames", end, end, received_ns)
        made = self._jump(stream, epoch) if epoch != stream.epoch else []
        if end + offset < max(stream.newest, stream.mark):
            return made + self._drop(stream, ORDER, 1)
        stream.newest = end + offset
        self.flows["frames"].passed += 1
        moved = later(self._host.frame(frame), offset)
        return [*made, self._packet(stream, min(start, end) + offset, end + offset, received_ns, moved)]

    # what all share

    def _jump(self, stream: _Stream, epoch: int) -> list[Packet]:
        made = self._emit(stream, None)
        if stream.info.kind == "events":
            self._host.reset()
        stream.epoch, stream.newest = epoch, stream.mark  # a packet of the new epoch is not before the old one's
        return made

    def _watermark(self, stream: _Stream, until: int, received_ns: int) -> list[Packet]:
        if stream.info.kind != "events" or until <= max(stream.mark, stream.newest):
            return []
        self._time.told(until)
        return [
            self._packet(stream, max(stream.mark, stream.newest, until - self._packet_us), until, received_ns, None)
        ]

    def _packet(self, stream: _Stream, first: int, last: int, received_ns: int, body: Body) -> Packet:
        stream.mark = max(stream.mark, last)
        stream.seq += 1
        return Packet(stream.info.name, stream.seq - 1, min(first, last), last, received_ns, body, stream.epoch)

    def _drop(self, stream: _Stream, reason: str, n: int) -> list[Packet]:
        self.flows[stream.info.kind].drop(reason, n)
        return []


def _ends(t: np.ndarray[tuple[int], np.dtype[np.int64]]) -> tuple[int, int]:
    """The first and the last time, which is never before it (they may be out of order by little)."""
    return int(t[0]), max(int(t[0]), int(t[-1]))


def _span(reading: Reading) -> tuple[int, int]:
    """The first and the last time of what a reading holds, as far as it has its own."""
    body = reading.body
    if isinstance(body, Events | Imu | Trigger) and len(body):
        return int(body.t[0]), int(body.t[-1])
    return (frame_end(body), body.t) if isinstance(body, Frame) else (reading.t_first, reading.t_last)


def _picked(body: Imu | Trigger, keep: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> Imu | Trigger:
    whole = cut(body, 0, len(body))
    names = ("t", "acceleration", "rotation", "temperature") if isinstance(whole, Imu) else ("t", "channel", "edge")
    return type(whole)(*(getattr(whole, name)[keep] for name in names))


def _exposed(frame: Frame) -> bool:
    """Whether the frame's exposure is one: known, forwards, shorter than a minute, near what it shows."""
    start, end = frame.exposure_start, frame.exposure_end
    return (
        start is not None and end is not None and start <= end <= start + 60_000_000 and abs(end - frame.t) < 60_000_000
    )
