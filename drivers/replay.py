"""A recording played as if a camera were sending it: at its own pace, at any speed, or as fast as it can be taken."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from rtpipe.errors import InputError, RtpipeError
from rtpipe.formats import open_recording
from rtpipe.formats.later import later
from rtpipe.formats.prefetch import Prefetch
from rtpipe.formats.recording import Recording
from rtpipe.types import Frame, Packet, StreamInfo

KINDS = ("events", "frames", "imu", "triggers")
"""What a camera sends; an engine's output in the recording is not played."""

LATE_S = 0.05
"""Later than this a packet is no jitter: the consumer made us wait, and the clock is set back instead of bursting."""

MOST_PACKETS, MOST_EVENTS = 16, 200_000
"""What one read returns at most, so that the caller's queues are looked at in between."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What to play, and how."""

    path: str
    """The recording, of any supported format."""
    speed: float = 1.0
    """1 is real time, 0.1 ten times slower, 0 as fast as possible."""
    loop: bool = False
    """Begin again at the end; time goes on downstream."""
    start_s: float = 0.0
    """Where to begin, in seconds from the recording's start."""
    packet_us: int = 2000
    """Length of an events packet in µs of camera time."""
    packet_events: int = 100_000
    """Most events in one packet."""
    exposure_us: int | None = None
    """Exposure of the frames in µs where the recording does not state it (RLED)."""
    time_unit: str | None = None
    """Unit of the recording's times (s, ms, us, ns) where it cannot be told from the data."""
    resolution: tuple[int, int] | None = None
    """The sensor's (width, height) where it cannot be told from the data."""
    color: bool | None = None
    """Read pictures of three channels in colour or as grey, instead of by what they hold."""
    raw: bool = False
    """Pass the camera's own bytes on undecoded, from files that hold them (Prophesee RAW, recordings of such): they are
    scanned here, recorded as they are and decoded in front of the windows."""
    options: dict[str, Any] = {}
    """Further options of the recording's format, as ``rtpipe info -o`` takes them."""


class Driver:
    """The replay driver (see :class:`rtpipe.stage.Driver`).

    Packets are the recording's own (:meth:`rtpipe.formats.recording.Recording.packets`): the same every time, so that
    while nothing jumped ``seq`` is the packet's index. A loop or a seek begins a new epoch, as do the recording's own
    jumps; ``seq`` goes on, and time downstream never goes back: where the recording's does, an offset is added.
    """

    live = False

    def __init__(self, settings: Settings) -> None:
        if not (math.isfinite(settings.speed) and settings.speed >= 0):
            raise InputError(f"speed {settings.speed}: a number from 0 (as fast as possible) wanted")
        self._settings = settings
        self._speed = settings.speed
        self._recording: Recording | None = None
        self._ahead: Prefetch | None = None
        self._streams: dict[str, StreamInfo] = {}
        self._paused = False
        self._stepping = False
        self._seq: dict[str, int] = {}
        self._have: dict[str, int] = {}
        self._epoch = 0  # of the recording's first one, as it is sent
        self._part = 0  # epoch of the recording that is being played
        self._offset = 0
        self._newest: int | None = None  # of all that was sent, in time downstream
        self._position = 0  # of what was sent last, in the recording's time
        self._clock: tuple[int, int] | None = None  # this CLOCK_MONOTONIC (ns) is that instant of the recording (µs)
        self._lap_over = False

    def open(self) -> Sequence[StreamInfo]:
        """Open the recording and begin to read ahead. Raises ``InputError`` or ``FormatError``."""
        s = self._settings
        options: dict[str, Any] = {"exposure_us": s.exposure_us, "time_unit": s.time_unit}
        options |= {"resolution": s.resolution, "color": s.color}
        given = {name: value for name, value in options.items() if value is not None} | s.options
        self._recording = open_recording(s.path, **given)
        self._streams = {stream.name: stream for stream in self._recording.streams if stream.kind in KINDS}
        if not self._streams:
            raise InputError(f"{s.path}: there is nothing of a camera's in it to play")
        if s.raw:
            self._say_encoding(self._recording)
        self._read_from(self._instant(s.start_s, "start_s"))
        return tuple(self._streams.values())

    def resume_after(self, seqs: Mapping[str, int]) -> None:
        """Skip what the consumers already have: packets up to and including these ``seq`` by stream. Called before the
        first read, where a driver takes the place of one that died; right as long as that one had not been sought."""
        self._have = dict(seqs)

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """The packets that are due, waiting at most ``timeout_s``; empty: none yet; None: the recording is over.

        A packet is due when the camera would have sent it, at ``t_last``. ``received_ns`` is the time of this call.
        Raises ``FormatError`` where the recording turns out to be damaged.
        """
        deadline = time.monotonic() + timeout_s
        if self._paused and not self._stepping:
            time.sleep(timeout_s)
            return ()
        sent: list[Packet] = []
        room = MOST_EVENTS
        ahead = self._open_ahead()
        while len(sent) < MOST_PACKETS and room > 0:
            wait = 0.0 if sent else max(0.0, deadline - time.monotonic())
            try:
                packet = ahead.peek(wait)
            except RtpipeError:  # damage further on: what was read before it comes first
                if sent:
                    break
                raise
            if packet is None:
                return None if not sent and ahead.finished else sent
            if not self._is_next(packet):
                ahead.pop()
                if time.monotonic() >= deadline:
                    break
                continue
            due = self._due_in_s(packet)
            if due > 0:
                wait = max(0.0, deadline - time.monotonic())
                if sent or due > wait:
                    if not sent:
                        time.sleep(wait)
                    break
                time.sleep(due)
            ahead.pop()
            sent.append(self._send(packet))
            room -= packet.n_events
            if self._stepping and self._is_step(packet):
                self._stepping = False
                break
        return sent

    def control(self, command: str) -> str:
        """Obey ``pause``, ``resume``, ``step`` (up to the next frame, or one packet where there are no frames; then
        pause), ``seek SECONDS`` from the recording's start, ``seek +S`` or ``seek -S`` from here, ``speed FACTOR``
        (0: as fast as possible); returns what was done in words. Raises ``InputError`` for anything else."""
        verb, *rest = command.split()[:3] or [""]
        if verb in ("pause", "resume", "step") and not rest:
            self._paused = verb != "resume"
            self._stepping = verb == "step"
            self._clock = None
            at = f"{self.progress()[0]:.3f} s"
            words = {"pause": f"paused at {at}", "resume": f"playing on from {at}", "step": f"one step from {at}"}
            return words[verb]
        if verb in ("seek", "speed") and len(rest) == 1:
            try:
                value = float(rest[0])
            except ValueError:
                value = math.nan
            if not math.isfinite(value):
                raise InputError(f"{verb} {rest[0]}: a number wanted")
            if verb == "speed":
                return self._set_speed(value)
            return self._seek_by(value) if rest[0][0] in "+-" else self._seek(value)
        raise InputError(f"{command.strip()!r}: a replay knows pause, resume, step, seek SECONDS and speed FACTOR")

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's report says of the recording: what was inferred rather than stated."""
        notes = self._recording.notes if self._recording is not None else ()
        return {"note:": "; ".join(notes)} if notes else {}

    def progress(self) -> tuple[float, float]:
        """Where in the recording the replay is, and how long the recording is, in seconds."""
        if self._recording is None:
            return 0.0, 0.0
        length = self._recording.t_end - self._recording.t_start
        return min(max(0, self._position - self._recording.t_start), length) / 1e6, length / 1e6

    def close(self) -> None:
        """End the thread that reads ahead and let the file go. May be called twice."""
        if self._ahead is not None:
            self._ahead.close()
            self._ahead = None
        if self._recording is not None:
            self._recording.close()

    def _open_ahead(self) -> Prefetch:
        if self._ahead is None:
            raise InputError(f"{self._settings.path}: not open")
        return self._ahead

    def _say_encoding(self, recording: Recording) -> None:
        first = next(iter(recording.raw_runs(self._settings.packet_us)), None)
        for name, stream in self._streams.items():
            if first is not None and stream.kind == "events":
                self._streams[name] = replace(stream, encoding=first.body.encoding)

    def _instant(self, seconds: float, what: str) -> int:
        """``seconds`` from the recording's start in its own time (µs). Raises ``InputError`` outside the recording."""
        assert self._recording is not None
        length = (self._recording.t_end - self._recording.t_start) / 1e6
        if not 0 <= seconds <= length:
            raise InputError(f"{what} {seconds:g}: the recording is {length:.3f} s long")
        return self._recording.t_start + round(seconds * 1e6)

    def _read_from(self, instant: int) -> None:
        assert self._recording is not None
        if self._ahead is not None:
            self._ahead.close()
        start = None if instant == self._recording.t_start else instant
        self._position = instant
        self._clock = None
        self._lap_over = False
        self._ahead = Prefetch(self._laps(self._recording, start))

    def _laps(self, recording: Recording, start: int | None) -> Iterator[Packet]:
        while True:
            s = self._settings
            for packet in recording.packets(s.packet_us, s.packet_events, start, raw=s.raw):
                if packet.stream in self._streams:
                    yield packet
            if not self._settings.loop:
                return
            start = None

    def _seek(self, seconds: float) -> str:
        instant = self._instant(seconds, "seek")
        self._read_from(instant)
        self._jump(instant)
        return f"at {seconds:.3f} s"

    def _seek_by(self, seconds: float) -> str:
        """From here, not beyond either end: a person who holds a key wants no error there."""
        now, length = self.progress()
        return self._seek(min(max(now + seconds, 0.0), length))

    def _set_speed(self, factor: float) -> str:
        if factor < 0:
            raise InputError(f"speed {factor:g}: 0 (as fast as possible) or more wanted")
        self._speed = factor
        self._clock = None
        return f"speed {factor:g}" if factor else "as fast as possible"

    def _jump(self, to: int) -> None:
        """Begin a new epoch at ``to`` in the recording's time, no earlier downstream than what was sent."""
        if self._newest is None:
            return
        self._epoch += self._part + 1
        self._part = 0
        self._offset = max(self._offset, self._newest - to)

    def _is_next(self, packet: Packet) -> bool:
        """Whether this packet is to be sent: not the end of a lap, not one that the consumers have."""
        assert self._recording is not None
        if packet.end and self._settings.loop:
            self._lap_over = True
            return False
        if self._lap_over:
            self._lap_over = False
            self._clock = None
            self._position = self._recording.t_start
            self._jump(self._recording.t_start)
        if packet.epoch != self._part:  # time jumped in the recording itself: no camera would make us wait for that
            self._part = packet.epoch
            self._clock = None
            self._position = packet.t_first
        seq = self._seq.get(packet.stream, 0)
        if seq > self._have.get(packet.stream, -1):
            return True
        self._account(packet)
        return False

    def _account(self, packet: Packet) -> int:
        """Count this packet as sent; returns its ``seq``."""
        seq = self._seq.get(packet.stream, 0)
        self._seq[packet.stream] = seq + 1
        self._position = max(self._position, packet.t_last)
        newest = packet.t_last + self._offset
        self._newest = newest if self._newest is None else max(self._newest, newest)
        return seq

    def _send(self, packet: Packet) -> Packet:
        seq = self._account(packet)
        at = self._offset
        return replace(
            packet,
            seq=seq,
            t_first=packet.t_first + at,
            t_last=packet.t_last + at,
            received_ns=time.monotonic_ns(),
            body=later(packet.body, at) if at else packet.body,
            epoch=self._epoch + packet.epoch,
        )

    def _due_in_s(self, packet: Packet) -> float:
        """How long until this packet is due; not positive: now."""
        if self._speed == 0 or self._stepping:
            return 0.0
        now = time.monotonic_ns()
        if self._clock is None:
            self._clock = (now, min(self._position, packet.t_last))
        began, instant = self._clock
        due = (began - now) / 1e9 + (packet.t_last - instant) / 1e6 / self._speed
        if due < -LATE_S:
            self._clock = (now, packet.t_last)
        return due

    def _is_step(self, packet: Packet) -> bool:
        frames = any(stream.kind == "frames" for stream in self._streams.values())
        return isinstance(packet.body, Frame) if frames else True
