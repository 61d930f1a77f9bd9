"""The window stage: packets of events and frames in, windows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from rtpipe.errors import ConfigError
from rtpipe.ledger import Flow
from rtpipe.packing import fault, pack
from rtpipe.stage import EngineSpec
from rtpipe.types import Body, Events, Frame, FrameFlag, PackedEvents, Packet, Resolution, StreamInfo
from rtpipe.window import by_count, by_exposure, by_time
from rtpipe.window.columns import t_first
from rtpipe.window.cut import DISCONTINUITY, STREAM_ENDED, Cut, Do, Slicer, Step
from rtpipe.window.making import BINS, EDGELESS, EVENTS, FILLERS, Maker
from rtpipe.window.settings import WindowSettings

WINDOWS, PICTURES = "engine/window", "engine/picture"
"""The streams that the stage emits."""

BACKWARDS = "order"
"""Why events are refused that are earlier than what the stream had promised (as within a packet)."""


class WindowStage:
    """Cuts the streams ``{of}/events`` and ``{of}/frames`` into windows on ``"engine/window"``.

    With ``picture`` also a drawing of each window's events on ``"engine/picture"``. Windows close on stream time alone.
    A packet's windows (tensor, mask, events) are pooled: valid until the next call of :meth:`process` or
    :meth:`close`. Where the epoch changes, what is open is abandoned and the next window is flagged ``STATE_RESET``, as
    is the very first; packets of an epoch gone by are dropped and counted. Both streams end with an ``end`` packet
    when all inputs have ended. Raises ``ConfigError`` for settings that do not fit the engine.
    """

    def __init__(self, settings: WindowSettings, spec: EngineSpec, picture: bool = False) -> None:
        name = settings.representation or spec.representation
        if name not in (*FILLERS, EVENTS):
            raise ConfigError(
                f"{spec.name} wants windows of {name!r}, which are not among {', '.join((*FILLERS, EVENTS))}"
            )
        if spec.representation and name != spec.representation:
            raise ConfigError(f"representation {name!r} does not fit {spec.name}, which takes {spec.representation!r}")
        bins = settings.bins or spec.bins or BINS.get(name, 0)
        if settings.bins and spec.bins and settings.bins != spec.bins:
            raise ConfigError(f"bins: {settings.bins} does not fit {spec.name}, which takes {spec.bins}")
        if name in BINS and name != "voxel" and bins != BINS[name]:
            raise ConfigError(f"bins: {name} has {BINS[name]}, not {bins}")
        if name == "voxel" and bins < 2:
            raise ConfigError(f"bins: a voxel grid has at least 2, not {bins}")
        if spec.needs_frame and settings.by != "exposure":
            raise ConfigError(f"{spec.name} needs the camera's frame in each window: use by: exposure")
        self.settings, self.spec = settings, spec
        self._representation, self._bins, self._picture = name, bins, picture
        self._filling = settings.mode == "edges" or name in EDGELESS
        self._events_stream, self._frames_stream = f"{settings.of}/events", f"{settings.of}/frames"
        self._slicer = self._new_slicer()
        self._windows = Flow()
        self._maker: Maker | None = None
        self._resolution: Resolution = (0, 0)
        self._seq = {WINDOWS: 0, PICTURES: 0}
        self._epoch: int | None = None
        self._fresh = True
        self._running: set[str] = set()
        self._last: dict[str, Packet] = {}

    def _new_slicer(self) -> Slicer:
        settings, limit = self.settings, int(self.settings.history_mb * 1e6)
        holding = not self._filling or self._representation == EVENTS
        if settings.by == "time":
            length = settings.length_us or 1
            return by_time.Slicer(length, settings.hop_us or length, holding, limit)
        if settings.by == "count":
            return by_count.Slicer(settings.events or 1, holding, limit)
        return by_exposure.Slicer(holding, limit, settings.without_exposure == "pass")

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"events"`` (passed: in at least one window), ``"frames"`` and ``"windows"`` (taken: opened)."""
        return {**self._slicer.flows, "windows": self._windows}

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Compile and make buffers for the resolution of the source's events; may take seconds the first time."""
        by_name = {stream.name: stream for stream in streams}
        events = by_name.get(self._events_stream)
        if events is None or events.resolution is None:
            what = "has no events" if events is None else "does not say its resolution"
            raise ConfigError(f"window: source {self.settings.of!r} {what}; streams: {', '.join(by_name) or 'none'}")
        frames = by_name.get(self._frames_stream)
        if self.settings.by == "exposure" and frames is None:
            raise ConfigError(
                f"window: source {self.settings.of!r} has no frames whose exposure could be a window; "
                "use by: time or by: count"
            )
        if self.spec.needs_frame and frames is not None and frames.resolution not in (None, events.resolution):
            raise ConfigError(f"window: frames are {frames.resolution}, events {events.resolution}: they must be equal")
        self._resolution = events.resolution
        self._running = {stream for stream in (self._events_stream, self._frames_stream) if stream in by_name}
        self.warm(events.resolution)
        made = [StreamInfo(WINDOWS, events.resolution, events.camera)]
        if self._picture:
            made.append(StreamInfo(PICTURES, events.resolution, events.camera))
        return made

    def warm(self, resolution: Resolution) -> None:
        """Compile every kernel that windows of this size need, and make the first buffers."""
        self._maker = maker = Maker(
            resolution, self._representation, self._bins, self._filling, self._picture, self.settings.background
        )
        few = np.zeros(4, np.uint16)
        events = pack(Events(np.array([0, 3, 6, 9]), few, few, few.astype(np.uint8)))
        fault(events, resolution)
        cut = Cut(0, 10)
        maker.open(cut)
        maker.add(cut, events)
        maker.close(cut)
        maker.recycle()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The windows (and drawings) that are ready because of this packet."""
        if packet.stream not in (self._events_stream, self._frames_stream) or self._maker is None:
            return ()
        self._maker.recycle()
        made: list[Packet] = []
        if self._epoch is not None and packet.epoch < self._epoch:
            self._refuse(packet, DISCONTINUITY)
        else:
            if self._epoch is not None and packet.epoch > self._epoch:
                self._make(self._slicer.jump(), packet, made)
                self._fresh = True
                self._last.clear()
            self._epoch = packet.epoch
            if packet.stream == self._frames_stream:
                if isinstance(packet.body, Frame):
                    self._make(self._slicer.frame(packet.body), packet, made)
            else:
                self._take_events(packet, made)
            self._last[packet.stream] = packet
        if packet.end and packet.stream in self._running:
            self._running.discard(packet.stream)
            if not self._running:
                self._end(packet, made)
        return made

    def _take_events(self, packet: Packet, made: list[Packet]) -> None:
        last = self._last.get(packet.stream)
        if last is not None and packet.seq > last.seq + 1:
            self._slicer.lost(last.t_last, packet.t_first)
        body = packet.body
        if isinstance(body, Events | PackedEvents) and len(body):
            wrong = fault(body, self._resolution)
            if not wrong and last is not None and t_first(body) < last.t_last:
                wrong = BACKWARDS
            if wrong:
                self._refuse(packet, wrong)
                self._slicer.lost(packet.t_first, packet.t_last + 1)
            else:
                self._make(self._slicer.events(pack(body) if isinstance(body, Events) else body), packet, made)
        self._make(self._slicer.reach(packet.t_last), packet, made)

    def _refuse(self, packet: Packet, reason: str) -> None:
        kind, n = ("frames", 1) if isinstance(packet.body, Frame) else ("events", packet.n_events)
        flow = self._slicer.flows[kind]
        flow.taken += n
        flow.drop(reason, n)

    def _make(self, steps: Sequence[Step], packet: Packet, made: list[Packet], reason: str = DISCONTINUITY) -> None:
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
                made.append(self._packet(WINDOWS, cut.t_start, cut.t_end, packet, window))
                if picture is not None:
                    made.append(self._packet(PICTURES, picture.t, picture.t, packet, picture))
            else:
                self._windows.drop(reason)
                self._maker.abandon(cut)

    def _packet(self, stream: str, t_first: int, t_last: int, source: Packet, body: Body, end: bool = False) -> Packet:
        seq = self._seq[stream]
        self._seq[stream] += 1
        return Packet(stream, seq, t_first, t_last, source.received_ns, body, self._epoch or 0, end)

    def _end(self, packet: Packet, made: list[Packet]) -> None:
        self._make(self._slicer.end(), packet, made, STREAM_ENDED)
        for stream in (WINDOWS, PICTURES) if self._picture else (WINDOWS,):
            made.append(self._packet(stream, packet.t_last, packet.t_last, packet, None, end=True))

    def close(self) -> Sequence[Packet]:
        """Windows that are complete though an input broke off; the rest is counted."""
        made: list[Packet] = []
        if self._maker is not None and self._running and self._last:
            self._maker.recycle()
            last = next(reversed(self._last.values()))
            self._make(self._slicer.end(), last, made, STREAM_ENDED)
            self._running.clear()
        return made
