"""A camera that needs no camera: a live stream of events at any rate, for load tests, benchmarks and first steps.

A bar pattern drifts over the sensor; every event's place and polarity follow from its number, so that a consumer can be
checked without a file. Live: it never waits. With ``frames`` it also sends blurred-looking pictures with exposures.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Events, Frame, Packet, StreamInfo

EXPOSURE_SHARE = 0.5


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``rate_mev_s``: million events per second. ``seconds``: how long (0: until stopped). ``packet_us``: packets of so
    much time. ``frames_hz``: pictures per second (0: none), exposed for half their period."""

    rate_mev_s: float = 1.0
    width: int = 346
    height: int = 260
    seconds: float = 0.0
    packet_us: int = 2000
    frames_hz: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rate_mev_s <= 1000:
            raise ValueError(f"rate_mev_s: 0 to 1000 wanted, not {self.rate_mev_s}")
        if not (8 <= self.width <= 8192 and 8 <= self.height <= 8192):
            raise ValueError(f"width, height: 8 to 8192 wanted, not {self.width}x{self.height}")
        if not 100 <= self.packet_us <= 1_000_000:
            raise ValueError(f"packet_us: 100 to 1000000 wanted, not {self.packet_us}")
        if self.seconds < 0 or not 0 <= self.frames_hz <= 1000:
            raise ValueError("seconds must not be negative, frames_hz is 0 to 1000")


@kernel()
def _fill(first: int, t0: int, span: int, width: int, height: int, t: Array, x: Array, y: Array, p: Array) -> None:
    n = t.size
    for i in range(n):
        number = first + i
        time_us = t0 + (i * span) // n
        row = (number * 7919) % height
        bar = (time_us // 250 + (number % 8) * (width // 8)) % width
        t[i] = time_us
        x[i] = bar
        y[i] = row
        p[i] = number & 1


class Driver:
    """See :class:`Settings`; implements :class:`rtpipe.stage.Driver`."""

    live = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seq = 0
        self._frame_seq = 0
        self._number = 0
        self._begun_ns = 0
        self._paused_ns: int | None = None
        self._ended = False

    def open(self) -> Sequence[StreamInfo]:
        """Compiles the generator; the clock starts at the first :meth:`read`."""
        resolution = (self._settings.width, self._settings.height)
        self._events(0, 1, 1)
        streams = [StreamInfo("camera/events", resolution, "synthetic")]
        if self._settings.frames_hz:
            streams.append(StreamInfo("camera/frames", resolution, "synthetic"))
        return streams

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """The packets whose time has come; a reader that was away too long finds them all, like a camera's ring."""
        if self._ended:
            return None
        if not self._begun_ns:
            self._begun_ns = time.monotonic_ns()
        if self._paused_ns is not None:
            time.sleep(timeout_s)
            return []
        span = self._settings.packet_us
        wait_s = (self._begun_ns + (self._seq + 1) * span * 1000 - time.monotonic_ns()) / 1e9
        if wait_s > 0:
            time.sleep(min(wait_s, timeout_s))
            if wait_s > timeout_s:
                return []
        return self._packet(time.monotonic_ns())

    def _packet(self, now_ns: int) -> list[Packet]:
        span = self._settings.packet_us
        t0 = self._seq * span
        body = self._events(t0, span, round(self._settings.rate_mev_s * span))
        packets = [Packet("camera/events", self._seq, t0, t0 + span, now_ns, body if len(body) else None)]
        self._seq += 1
        packets += self._frames(t0 + span, now_ns)
        if self._settings.seconds and (t0 + span) >= self._settings.seconds * 1e6:
            self._ended = True
            packets.append(Packet("camera/events", self._seq, t0 + span, t0 + span, now_ns, end=True))
            if self._settings.frames_hz:
                packets.append(Packet("camera/frames", self._frame_seq, t0 + span, t0 + span, now_ns, end=True))
        return packets

    def _events(self, t0: int, span: int, n: int) -> Events:
        events = Events(np.empty(n, np.int64), np.empty(n, np.uint16), np.empty(n, np.uint16), np.empty(n, np.uint8))
        size = self._settings.width, self._settings.height
        _fill(self._number, t0, span, *size, events.t, events.x, events.y, events.p)
        self._number += n
        return events

    def _frames(self, until: int, now_ns: int) -> list[Packet]:
        packets: list[Packet] = []
        hz = self._settings.frames_hz
        while hz:
            start = round(self._frame_seq * 1e6 / hz)
            end = start + round(EXPOSURE_SHARE * 1e6 / hz)
            if end > until:
                break
            ramp = (np.arange(self._settings.width) * 4 + start // 250 * 4) & 0xFF
            image = np.broadcast_to(ramp.astype(np.uint8), (self._settings.height, self._settings.width)).copy()
            frame = Frame(image, (start + end) // 2, start, end)
            packets.append(Packet("camera/frames", self._frame_seq, frame.t, end, now_ns, frame))
            self._frame_seq += 1
        return packets

    def control(self, command: str) -> str:
        """``pause`` and ``resume``; a live camera cannot seek or change its speed."""
        if command == "pause" and self._paused_ns is None:
            self._paused_ns = time.monotonic_ns()
        elif command == "resume" and self._paused_ns is not None:
            self._begun_ns += time.monotonic_ns() - self._paused_ns
            self._paused_ns = None
        elif command not in ("pause", "resume"):
            raise InputError(f"a live camera cannot {command.split()[0]}: only a replay can")
        return "paused" if self._paused_ns is not None else "running"

    def progress(self) -> tuple[float, float | None]:
        """Seconds streamed so far, and how many there will be."""
        return self._seq * self._settings.packet_us / 1e6, self._settings.seconds or None

    def close(self) -> None:
        """Nothing to let go."""
        self._ended = True
