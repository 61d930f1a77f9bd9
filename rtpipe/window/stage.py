"""The window stage: packets of events, frames and triggers in, windows out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from rtpipe.errors import ConfigError
from rtpipe.ledger import Flow
from rtpipe.packing import fault, pack
from rtpipe.raw import opened, warm
from rtpipe.stage import EngineSpec
from rtpipe.types import (
    Body,
    Events,
    Frame,
    FrameFlag,
    PackedEvents,
    Packet,
    RawEvents,
    Resolution,
    StreamInfo,
    Trigger,
)
from rtpipe.window.columns import t_first
from rtpipe.window.cut import BACKWARDS, DISCONTINUITY, STREAM_ENDED, Cut, Do, Step
from rtpipe.window.making import Maker, as_they_come, held
from rtpipe.window.settings import WindowSettings, chosen, misfit
from rtpipe.window.slicing import slicer

WINDOWS, PICTURES = "engine/window", "engine/picture"
"""The streams that the stage emits."""
LONGEST_SILENCE_US = 3_600_000_000
"""A stream that goes on after more than this has jumped: nobody wants an hour's empty windows, and a damaged time would
make them without end."""
OWN = "engine/"
"""Streams of this name are of a stage in front (frames that were joined to the events): they pass unchanged."""


class WindowStage:
    """Cuts the streams ``{of}/events``, ``/frames`` and ``/triggers``, as far as windows need them, into windows on
    ``"engine/window"``.

    With ``picture`` also a drawing of each window's events on ``"engine/picture"``; with ``events`` windows hold their
    events beside the tensor (for an engine that stands in). Windows close on stream time alone.
    A packet's windows (tensor, mask, events) are pooled: valid until the next call of :meth:`process` or
    :meth:`close`. Where the epoch changes, what is open is abandoned and the next window is flagged ``STATE_RESET``, as
    is the very first; packets of an epoch gone by are dropped and counted. What it emits ends with an ``end`` packet
    when all inputs have ended. Raises ``ConfigError`` for settings that do not fit the engine.
    """

    def __init__(self, settings: WindowSettings, spec: EngineSpec, picture: bool = False, events: bool = False) -> None:
        wrong = misfit(settings, spec)
        if wrong is not None:
            raise ConfigError(f"{wrong[0]}: {wrong[1]}")
        self.settings, self.spec = settings, spec
        self._representation, self._bins = chosen(settings, spec)
        self._picture = picture and "events" in settings.needs
        self._filling = as_they_come(self._representation, settings.mode == "edges")
        kinds = dict.fromkeys((*settings.needs, "frames"))
        self._kinds = {f"{settings.of}/{kind}": kind for kind in kinds}
        self._events = events and "events" in settings.needs
        self._slicer = slicer(settings, self._events or held(self._representation, settings.mode == "edges"))
        self._windows = Flow()
        self._maker: Maker | None = None
        self._resolution: Resolution = (0, 0)
        self._seq = {WINDOWS: 0, PICTURES: 0}
        self._epoch: int | None = None
        self._fresh = True
        self._running: set[str] = set()
        self._last: dict[str, Packet] = {}

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"events"`` (passed: in at least one window), ``"frames"``, ``"windows"`` (taken: opened) and, where windows
        are cut by them, ``"triggers"``."""
        return {**self._slicer.flows, "windows": self._windows}

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Compile and make buffers for the resolution of the source's events (of its frames where windows hold no
        events); may take seconds the first time."""
        by_name = {stream.name: stream for stream in streams}
        settings = self.settings
        for kind in settings.needs:
            if f"{settings.of}/{kind}" not in by_name:
                instead = "" if kind == "events" else f", which windows by: {settings.by} need"
                raise ConfigError(
                    f"window: source {settings.of!r} has no {kind}{instead}; streams: {', '.join(by_name) or 'none'}"
                )
        first, frames = by_name[f"{settings.of}/{settings.needs[0]}"], by_name.get(f"{settings.of}/frames")
        resolution = first.resolution
        if resolution is None:
            raise ConfigError(f"window: {first.name} does not say its resolution")
        if self.spec.needs_frame and frames is not None and frames.resolution not in (None, resolution):
            raise ConfigError(f"window: frames are {frames.resolution}, events {resolution}: they must be equal")
        self._resolution = resolution
        self._running = {stream for stream in self._kinds if stream in by_name}
        self.warm(resolution)
        warm(first.encoding)
        made = [StreamInfo(WINDOWS, resolution, first.camera)]
        if self._picture:
            made.append(StreamInfo(PICTURES, resolution, first.camera))
        return [*made, *(stream for stream in streams if stream.name.startswith(OWN))]

    def warm(self, resolution: Resolution) -> None:
        """Compile every kernel that windows of this size need, and make the first buffers."""
        self._maker = maker = Maker(
            resolution, self._representation, self._bins, self._filling, self._picture, self.settings.background,
            self.spec.table, self._events,
        )  # fmt: skip
        few = np.zeros(max(4, self._bins), np.uint16)
        events = pack(Events(np.linspace(0, 9, len(few)).astype(np.int64), few, few, few.astype(np.uint8)))
        fault(events, resolution)
        cut = Cut(0, 10)
        maker.open(cut)
        maker.add(cut, events)
        maker.close(cut)
        maker.recycle()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The windows (and drawings) that are ready because of this packet, all at once: valid until the next call."""
        return list(self._each(packet))

    def each(self, packet: Packet) -> Iterator[Packet]:
        """The same one after the other: a window is valid until the next is asked for, and its buffers serve the next,
        however many there are. Everything must be taken before another packet is given."""
        for made in self._each(packet):
            yield made
            if self._maker is not None:
                self._maker.recycle()

    def _each(self, packet: Packet) -> Iterator[Packet]:
        kind = self._kinds.get(packet.stream)
        if kind is None or self._maker is None:
            if packet.stream.startswith(OWN):
                yield packet
            return
        self._maker.recycle()
        if self._epoch is not None and packet.epoch < self._epoch:
            self._refuse(packet, DISCONTINUITY, kind)
        else:
            if self._epoch is not None and packet.epoch > self._epoch:
                yield from self._jump(packet)
            self._epoch = packet.epoch
            if kind == "events":
                yield from self._take_events(packet)
            elif isinstance(packet.body, Frame):
                yield from self._make(self._slicer.frame(packet.body), packet)
            elif isinstance(packet.body, Trigger) and kind == "triggers":
                yield from self._make(self._slicer.trigger(packet.body), packet)
            self._last[packet.stream] = packet
        if packet.end and packet.stream in self._running:
            self._running.discard(packet.stream)
            if not self._running:
                yield from self._end(packet)

    def _jump(self, packet: Packet) -> Iterator[Packet]:
        yield from self._make(self._slicer.jump(), packet)
        self._fresh = True
        self._last.clear()

    def _take_events(self, packet: Packet) -> Iterator[Packet]:
        last = self._last.get(packet.stream)
        if last is not None and packet.t_last - last.t_last > LONGEST_SILENCE_US:
            yield from self._jump(packet)
            last = None
        if last is not None and packet.seq > last.seq + 1:
            self._slicer.lost(last.t_last, packet.t_first)
        if isinstance(packet.body, RawEvents):
            packet = self._decode(packet, packet.body)
        body = packet.body
        if isinstance(body, Events | PackedEvents) and len(body):
            checked = isinstance(body, PackedEvents) and body.checked == self._resolution  # by the wire, just now
            wrong = "" if checked else fault(body, self._resolution)
            if not wrong and last is not None and t_first(body) < last.t_last:
                wrong = BACKWARDS
            if wrong:
                self._refuse(packet, wrong)
                self._slicer.lost(packet.t_first, packet.t_last + 1)
            else:
                yield from self._make(self._slicer.events(pack(body) if isinstance(body, Events) else body), packet)
        yield from self._make(self._slicer.reach(packet.t_last), packet)

    def _decode(self, packet: Packet, body: RawEvents) -> Packet:
        """The packet with its events; what is wrong with them is counted, so that taken is what the packet said."""
        events, refused = opened(body, self._resolution, packet.t_first, packet.t_last)
        flow = self._slicer.flows["events"]
        for reason, n in refused.items():
            flow.taken += n
            flow.drop(reason, n)
        if refused:
            self._slicer.lost(packet.t_first, packet.t_last + 1)
        return replace(packet, body=events)

    def _refuse(self, packet: Packet, reason: str, kind: str = "events") -> None:
        n = len(packet.body) if isinstance(packet.body, Trigger) else int(isinstance(packet.body, Frame))
        n += packet.n_events
        flow = self._slicer.flows[kind]
        flow.taken += n
        flow.drop(reason, n)

    def _make(self, steps: Sequence[Step], packet: Packet, reason: str = DISCONTINUITY) -> Iterator[Packet]:
        assert self._maker is not None
        for do, cut, events in steps:
            if do is Do.ADD and events is not None:
                self._maker.add(cut, events)
            elif do is Do.OPEN:
                self._windows.taken += 1
                self._maker.open(cut)
            elif do is Do.CLOSE:
                self._windows.passed += 1
                if self._fresh:
                    cut.flags |= FrameFlag.STATE_RESET
                    self._fresh = False
                window, picture = self._maker.close(cut)
                yield self._packet(WINDOWS, cut.t_start, cut.t_end, packet, window)
                if picture is not None:  # a picture is an array of its own
                    yield self._packet(PICTURES, picture.t, picture.t, packet, picture)
            else:
                self._windows.drop(reason)
                self._maker.abandon(cut)

    def _packet(self, stream: str, t_first: int, t_last: int, source: Packet, body: Body, end: bool = False) -> Packet:
        seq = self._seq[stream]
        self._seq[stream] += 1
        return Packet(stream, seq, t_first, t_last, source.received_ns, body, self._epoch or 0, end)

    def _end(self, packet: Packet) -> Iterator[Packet]:
        yield from self._make(self._slicer.end(), packet, STREAM_ENDED)
        for stream in (WINDOWS, PICTURES) if self._picture else (WINDOWS,):
            yield self._packet(stream, packet.t_last, packet.t_last, packet, None, end=True)

    def close(self) -> Sequence[Packet]:
        """Windows that are complete though an input broke off; the rest is counted."""
        if self._maker is None or not self._running or not self._last:
            return []
        self._maker.recycle()
        last = next(reversed(self._last.values()))
        made = list(self._make(self._slicer.end(), last, STREAM_ENDED))
        self._running.clear()
        return made
