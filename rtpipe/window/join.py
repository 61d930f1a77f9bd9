"""The join stage, in front of the windows: one source's frames become another's, on its clock and in its view."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from rtpipe.clocks.delay import Delay, DelayEstimator
from rtpipe.clocks.host import CameraClock
from rtpipe.clocks.pairing import SLACK_US, Pairing, Signal
from rtpipe.errors import ConfigError
from rtpipe.ledger import Flow
from rtpipe.packing import pack
from rtpipe.raw import opened, warm
from rtpipe.types import Edge, Events, Frame, PackedEvents, Packet, RawEvents, Resolution, StreamInfo, Trigger
from rtpipe.window.cut import DISCONTINUITY, STREAM_ENDED
from rtpipe.window.join_settings import JoinSettings
from rtpipe.window.view import View

JOINED = "engine/frames"
"""The frames as they are joined to the events, for whoever shows them beside what was made of them."""
NO_CLOCK, SIZE = "clock not known", "size"
"""Why a frame is left out: it came before there was any relation between the clocks, or is not of its stream's size."""
EARLIEST_US = -50_000
"""The least delay that is looked for: the event camera's own path may be the longer one."""
SOONEST_US = 5_000
"""A frame's signal is no later than this after the frame itself, by this computer's clock."""
GOOD_US = 5_000
"""A delay known this well, or to half the exposure, is good enough to compute with."""
SETTLED_US = 3_500.0
REST_US, LOOK_US = 20_000_000, 3_000_000
"""A delay known to ``SETTLED_US`` is looked at again so often, for so long."""
MOST_WAITING = 64
BLIND = 200
"""After so many signals, pictures are paired with them though the clocks have no relation to the host's."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A frame's place: what is added to its times (µs), or the exposure that its signal says."""

    shift: float
    known: bool
    signal: Signal | None = None


class JoinStage:
    """Emits the frames of ``{frames}/frames`` as ``{of}/frames`` (and as ``"engine/frames"``), at the instants of the
    events' clock at which they were taken; everything else passes unchanged, but for raw bytes, which are decoded here
    where a delay is to be estimated. Frames go out in order; one waits until its signal can have come.

    While the delay between the clocks is not known well enough, frames go out without their exposures: engines then
    pass them through instead of computing nonsense. Frames that come before there is any relation (the first second or
    two) are dropped and counted. Where either camera's time jumps, its part is found anew.
    """

    def __init__(self, of: str, frames: str, settings: JoinSettings) -> None:
        self._of, self._frames_of, self._settings = of, frames, settings
        self._flow = Flow()
        self._view: View | None = None
        self._resolution: Resolution = (0, 0)
        self._clocks = {of: CameraClock(), frames: CameraClock()}
        self._epochs: dict[str, int] = {}
        self._pairing = Pairing()
        self._rising: int | None = None
        self._estimator: DelayEstimator | None = None
        self._delay: Delay | None = None
        self._rested_at: int | None = None
        self._waiting: deque[Packet] = deque()
        self._ended: Packet | None = None
        self._events_ended = False
        self._reached: int | None = None
        self._seq = 0
        self._start: int | None = None
        self._looked = True

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"joined frames"``: passed are those that went on to the windows."""
        return {"joined frames": self._flow}

    @property
    def facts(self) -> Mapping[str, str]:
        """How the frames are put on the events' clock, how well, and what is in the way."""
        return {f"{self._frames_of} joined": self._said()}

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """The streams, the frames' under its new name. Raises ``ConfigError`` where they cannot be joined."""
        by_name = {stream.name: stream for stream in streams}
        events, frames = by_name.get(f"{self._of}/events"), by_name.get(f"{self._frames_of}/frames")
        if events is None or events.resolution is None or frames is None or frames.resolution is None:
            who, what = (
                (self._of, "events") if events is None or events.resolution is None else (self._frames_of, "frames")
            )
            raise ConfigError(f"window: source {who!r} has no {what} to join; streams: {', '.join(by_name) or 'none'}")
        if self._settings.clocks == "trigger" and f"{self._of}/triggers" not in by_name:
            raise ConfigError(f"window: join: clocks: trigger: source {self._of!r} has no stream of triggers")
        self._resolution = events.resolution
        self._view = View(self._settings.view, frames.resolution, events.resolution)
        if self._settings.clocks in ("auto", "host") and self._settings.delay_us is None:
            self._estimator = DelayEstimator(events.resolution, EARLIEST_US, self._settings.search_us)
            self._estimator.warm()
            warm(events.encoding)
        kept = [s for s in streams if s.name not in (frames.name, f"{self._of}/frames")]
        return [*kept, replace(frames, name=f"{self._of}/frames", resolution=events.resolution),
                replace(frames, name=JOINED, resolution=events.resolution)]  # fmt: skip

    def process(self, packet: Packet) -> Sequence[Packet]:
        """The packet, and the frames that can be placed because of it."""
        source, _, kind = packet.stream.rpartition("/")
        made: list[Packet] = []
        if source == self._frames_of and kind == "frames":
            self._take_frame(packet)
        elif source == self._of and kind in ("events", "triggers"):
            packet = self._take_events(packet) if kind == "events" else self._take_triggers(packet)
            made.append(packet)
        elif packet.stream != f"{self._of}/frames":
            return (packet,)
        self._release(made)
        return made

    def close(self) -> Sequence[Packet]:
        """Frames that still wait are dropped."""
        self._flow.drop(STREAM_ENDED, len(self._waiting))
        self._waiting.clear()
        return ()

    # what comes

    def _turn(self, source: str, epoch: int) -> None:
        """Take note of the epoch of one of the sources; where it is new, what was known of its clock is void."""
        before = self._epochs.get(source)
        self._epochs[source] = max(epoch, before or 0)
        if before is None or epoch <= before:
            return
        self._clocks[source] = CameraClock()
        self._pairing.reset()
        self._rising = self._reached = self._start = None
        self._flow.drop(DISCONTINUITY, len(self._waiting))
        self._waiting.clear()
        if self._estimator is not None:
            self._estimator.reset()
        if source == self._frames_of:  # the delay itself is of the cameras, but a stream may buffer anew
            self._delay = self._rested_at = None

    def _take_events(self, packet: Packet) -> Packet:
        self._turn(self._of, packet.epoch)
        if packet.epoch < self._epochs[self._of]:
            return packet
        self._events_ended |= packet.end
        body = packet.body
        if packet.n_events and packet.received_ns:
            self._clocks[self._of].add(packet.t_last, packet.received_ns)
        looked, self._looked = self._looked, self._looking(packet.t_last)
        if self._estimator is not None and self._looked:
            if not looked:
                self._estimator.resume()
            if isinstance(body, RawEvents) and len(body):
                events, refused = opened(body, self._resolution, packet.t_first, packet.t_last)
                if not refused:  # what is wrong with it, the windows say
                    body = events
                    packet = replace(packet, body=body)
            if isinstance(body, Events | PackedEvents) and len(body):
                self._estimator.events(pack(body) if isinstance(body, Events) else body)
            self._estimator.reach(packet.t_last)
        self._reached = packet.t_last
        self._pairing.reach(packet.t_last - SLACK_US)
        return packet

    def _looking(self, t: int) -> bool:
        """Whether the delay is being estimated: always until it is settled, then now and again."""
        if self._settings.clocks == "auto" and self._pairing.locked and not self._pairing.ambiguous:
            return False
        return self._rested_at is None or (t - self._rested_at) % REST_US > REST_US - LOOK_US

    def _take_triggers(self, packet: Packet) -> Packet:
        self._turn(self._of, packet.epoch)
        if isinstance(packet.body, Trigger) and packet.epoch == self._epochs[self._of]:
            columns = packet.body.t.tolist(), packet.body.channel.tolist(), packet.body.edge.tolist()
            for t, channel, edge in zip(*columns, strict=True):
                if self._settings.channel in (None, channel):
                    self._take_signal(t, Edge(edge))
        self._pairing.reach(packet.t_last)
        return packet

    def _take_signal(self, t: int, edge: Edge) -> None:
        if self._settings.marks == "exposure":
            if edge == Edge.RISING:
                self._rising = t
            elif edge == Edge.FALLING and self._rising is not None:
                self._pairing.signal(Signal(self._rising, t))
                self._rising = None
        elif edge == Edge.PULSE or edge == (Edge.RISING if self._settings.edge == "rising" else Edge.FALLING):
            self._pairing.signal(Signal(t))

    def _take_frame(self, packet: Packet) -> None:
        self._turn(self._frames_of, packet.epoch)
        if packet.end:
            self._ended = packet
        if not isinstance(packet.body, Frame):
            return
        self._flow.taken += 1
        if packet.epoch < self._epochs[self._frames_of]:
            self._flow.drop(DISCONTINUITY)
            return
        if packet.received_ns:
            self._clocks[self._frames_of].add(packet.t_last, packet.received_ns)
        assert self._view is not None
        try:
            frame = replace(packet.body, image=self._view.apply(packet.body.image))
        except ValueError:
            self._flow.drop(SIZE)
            return
        self._pairing.picture(self._mark(frame))
        shift = self._host_shift(frame)
        if self._estimator is not None and self._looked and shift is not None:
            self._estimator.frame(replace(frame, t=frame.t + round(shift)))
            if self._estimator.news:
                self._estimate(self._estimator.estimate)
        self._waiting.append(replace(packet, body=frame))

    # what goes

    def _release(self, made: list[Packet]) -> None:
        while self._waiting:
            packet = self._waiting[0]
            assert isinstance(packet.body, Frame)
            placed = self._place(packet.body)
            patient = len(self._waiting) < MOST_WAITING and not self._events_ended
            if placed is None and patient and (self._by_trigger or self._settings.clocks == "trigger"):
                break
            self._waiting.popleft()
            if placed is None:
                self._flow.drop(NO_CLOCK)
                continue
            self._emit(packet, self._moved(packet.body, placed), made)
        if self._ended is not None and not self._waiting:
            end, self._ended = self._ended, None
            t = end.t_last if self._start is None else self._start
            for stream in (f"{self._of}/frames", JOINED):
                made.append(Packet(stream, self._seq, t, t, end.received_ns, None, self._epochs.get(self._of, 0), True))

    @property
    def _by_trigger(self) -> bool:
        return self._settings.clocks in ("auto", "trigger") and self._pairing.locked

    def _mark(self, frame: Frame) -> int:
        """The instant of a frame, on its own clock, that its signal marks."""
        if frame.exposure_start is None or frame.exposure_end is None:
            return frame.t
        return frame.exposure_end if self._settings.marks == "end" else frame.exposure_start

    def _host_shift(self, frame: Frame) -> float | None:
        """What takes the frame's time to the events' clock by way of the host's; None while either is unsteady."""
        own, events = self._clocks[self._frames_of], self._clocks[self._of]
        if not own.steady or not events.steady:
            return None
        return events.camera_us(own.host_ns(frame.t)) - frame.t

    def _place(self, frame: Frame) -> _Placed | None:
        settings = self._settings
        if settings.clocks == "same":
            return _Placed(-(settings.delay_us or 0), True)
        shift = self._host_shift(frame)
        if settings.clocks != "host":
            doubtful = self._pairing.ambiguous and self._delay is not None
            if doubtful or not self._pairing.locked:
                self._look_for_signals(shift)
            if self._pairing.locked:
                mark = self._mark(frame)
                match = self._pairing.match(mark)
                return None if match is None else _Placed(match.signal.t - mark, True, match.signal)
            if settings.clocks == "trigger":
                return None
        if shift is None:
            return None
        if settings.delay_us is not None:
            return _Placed(shift - settings.delay_us, True)
        if self._delay is None:
            return _Placed(shift, False)
        start, end = frame.exposure_start, frame.exposure_end
        enough = GOOD_US if start is None or end is None else max(GOOD_US, (end - start) / 2)
        return _Placed(shift - self._delay.us, self._delay.uncertainty_us <= enough)

    def _look_for_signals(self, shift: float | None) -> None:
        if shift is None and (self._settings.clocks == "auto" or self._pairing.signals < BLIND):
            return
        known: float | None = self._settings.delay_us
        if known is None and self._delay is not None:
            known = self._delay.us
        expected = None if shift is None or known is None else shift - known
        if shift is None:
            self._pairing.lock()
        else:
            self._pairing.lock(shift - self._settings.search_us, shift + SOONEST_US, expected)

    def _estimate(self, found: Delay | None) -> None:
        if found is None:
            return
        self._delay = found
        if found.uncertainty_us <= SETTLED_US and found.pairs >= 16 and self._rested_at is None:
            self._rested_at = self._reached

    def _moved(self, frame: Frame, placed: _Placed) -> Frame:
        """The frame on the events' clock; without exposure where its place is not known well enough."""
        by = round(placed.shift)
        start, end = frame.exposure_start, frame.exposure_end
        if placed.signal is not None and placed.signal.end is not None:
            start, end = placed.signal.t, placed.signal.end
            return replace(frame, t=(start + end) // 2, exposure_start=start, exposure_end=end)
        if not placed.known or start is None or end is None:
            return replace(frame, t=frame.t + by, exposure_start=None, exposure_end=None)
        return replace(frame, t=frame.t + by, exposure_start=start + by, exposure_end=end + by)

    def _emit(self, packet: Packet, frame: Frame, made: list[Packet]) -> None:
        begins = frame.t if frame.exposure_start is None else frame.exposure_start
        if self._start is not None and begins < self._start:  # the estimate moved: frames stay in order
            later = self._start - begins
            start, end = frame.exposure_start, frame.exposure_end
            moved = (None, None) if start is None or end is None else (start + later, end + later)
            frame = replace(frame, t=frame.t + later, exposure_start=moved[0], exposure_end=moved[1])
        self._start = max(begins, self._start) if self._start is not None else begins
        t_last = max(frame.t, frame.exposure_end or frame.t)
        epoch = self._epochs.get(self._of, 0)
        for stream in (f"{self._of}/frames", JOINED):
            made.append(Packet(stream, self._seq, frame.t, t_last, packet.received_ns, frame, epoch))
        self._seq += 1
        self._flow.passed += 1

    def _said(self) -> str:
        pairing, settings = self._pairing, self._settings
        if settings.clocks == "same":
            return "same clock" + (f" less {settings.delay_us / 1e3:.1f} ms" if settings.delay_us else "")
        if self._by_trigger:
            words = f"by trigger, {pairing.paired} of {pairing.paired + pairing.unpaired} frames have theirs"
            words += f", {pairing.unused} signals without a frame" if pairing.unused else ""
            return words + (
                " (an even pace: assumed the least delay; delay_us settles it)" if pairing.ambiguous else ""
            )
        if settings.clocks == "trigger":
            return f"by trigger: no relation yet ({pairing.signals} signals)"
        clocks = self._clocks.values()
        if not all(clock.steady for clock in clocks):
            return (
                "clocks have no steady relation to this computer's yet (recordings of one clock: join: {clocks: same})"
            )
        doubt = sum(clock.uncertainty_ns for clock in clocks) / 1e6
        if settings.delay_us is not None:
            return f"by host ±{doubt:.1f} ms, delay {settings.delay_us / 1e3:.1f} ms as given"
        if self._delay is None:
            return f"by host ±{doubt:.1f} ms, delay not known until something moves: frames pass through"
        both = (doubt**2 + (self._delay.uncertainty_us / 1e3) ** 2) ** 0.5
        return f"by host, delay {self._delay.us / 1e3:.1f} ±{both:.1f} ms (estimated)"
