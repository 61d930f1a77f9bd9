"""A stretch of what a driver sends, kept for looking at."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from rtpipe.encodings import decode
from rtpipe.errors import WorldError
from rtpipe.packing import unpack
from rtpipe.stage import Driver
from rtpipe.types import Array, Events, Frame, Imu, PackedEvents, Packet, RawEvents, Resolution, Trigger

MOST_EVENTS = 20_000_000
"""So many are kept (260 MB); the rest is counted."""
MOST_FRAMES = 64
"""So many pictures are kept; of the others the times."""
READ_S = 0.01
PATIENCE_S = 5.0
"""For a camera that sends nothing, or a queue that does not empty."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """A packet without what was in it."""

    stream: str
    seq: int
    t_first: int
    t_last: int
    received_ns: int
    epoch: int
    n: int


@dataclass(frozen=True, slots=True)
class FrameTimes:
    """A picture without its pixels. ``mean``, ``deviation`` of them, as a share of white."""

    t: int
    exposure_start: int | None
    exposure_end: int | None
    resolution: Resolution
    mean: float
    deviation: float


@dataclass
class Sample:
    """What came in ``seconds`` of the host's clock. ``disorder``: events whose time is before the one in front of them,
    or outside their packet; ``outside``: events off the sensor."""

    resolution: Resolution
    seconds: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)
    parts: list[Events] = field(default_factory=list)
    n_events: int = 0
    n_on: int = 0
    disorder: int = 0
    outside: int = 0
    frames: list[Frame] = field(default_factory=list)
    frame_times: list[FrameTimes] = field(default_factory=list)
    imu: list[Imu] = field(default_factory=list)
    triggers: list[Trigger] = field(default_factory=list)

    @property
    def events(self) -> Events:
        """The events that were kept (copies)."""
        return Events.concatenate(self.parts)

    @property
    def rate(self) -> float:
        """Events per second of the camera's clock (of this computer's, where that shows nothing): one that is held up
        gets as many, later."""
        arrivals = self.of("events")
        steady = arrivals and arrivals[0].epoch == arrivals[-1].epoch
        covered = (arrivals[-1].t_last - arrivals[0].t_first) / 1e6 if steady else 0.0
        covered = covered if covered > 0 else self.seconds
        return self.n_events / covered if covered else 0.0

    def counts(self) -> Array:
        """How many of the events kept each pixel sent: int64 (H, W)."""
        width, height = self.resolution
        total = np.zeros(width * height, np.int64)
        for part in self.parts:
            inside = (part.x < width) & (part.y < height)
            index = part.y[inside].astype(np.int64) * width + part.x[inside]
            total += np.bincount(index, minlength=width * height)
        return total.reshape(height, width)

    def of(self, kind: str) -> list[Arrival]:
        """The packets of one kind, in order."""
        return [arrival for arrival in self.arrivals if arrival.stream.rpartition("/")[2] == kind]

    def add(self, packet: Packet) -> None:
        """Look at one packet."""
        body: Any = packet.body
        n = 1 if isinstance(body, Frame) else 0 if body is None else len(body)
        stream = packet.stream
        self.arrivals.append(
            Arrival(stream, packet.seq, packet.t_first, packet.t_last, packet.received_ns, packet.epoch, n)
        )
        if isinstance(body, RawEvents):
            body = decode(body, self.resolution).events
        elif isinstance(body, PackedEvents):
            body = unpack(body)
        if isinstance(body, Events):
            self._events(body, packet)
        elif isinstance(body, Frame):
            self._frame(body)
        elif isinstance(body, Imu):
            self.imu.append(body)
        elif isinstance(body, Trigger):
            self.triggers.append(body)

    def _events(self, events: Events, packet: Packet) -> None:
        if not len(events):
            return
        width, height = self.resolution
        self.outside += int(np.count_nonzero((events.x >= width) | (events.y >= height)))
        self.disorder += int(np.count_nonzero(events.t[1:] < events.t[:-1]))
        self.disorder += int(np.count_nonzero((events.t < packet.t_first) | (events.t > packet.t_last)))
        self.n_on += int(np.count_nonzero(events.p))
        if self.n_events < MOST_EVENTS:
            self.parts.append(events)
        self.n_events += len(events)

    def _frame(self, frame: Frame) -> None:
        white = np.iinfo(frame.image.dtype).max
        mean, deviation = float(frame.image.mean()) / white, float(frame.image.std()) / white
        times = FrameTimes(frame.t, frame.exposure_start, frame.exposure_end, frame.resolution, mean, deviation)
        self.frame_times.append(times)
        if len(self.frames) < MOST_FRAMES:
            self.frames.append(frame)


def take(driver: Driver, resolution: Resolution, seconds: float) -> Sample:
    """Read for so long. Raises ``RtpipeError`` of the driver's, ``WorldError`` where it ends."""
    sample = Sample(resolution)
    began = time.monotonic()
    while (now := time.monotonic()) - began < seconds:
        for packet in packets(driver):
            sample.add(packet)
    sample.seconds = now - began
    return sample


def skip(driver: Driver, seconds: float) -> None:
    """Read, and look at nothing, until what comes reached this computer at least so long from now: what was set before
    has taken hold, and what waited in queues is gone."""
    now_ns = time.monotonic_ns()
    enough_ns, give_up_ns = now_ns + int(seconds * 1e9), now_ns + int((seconds + PATIENCE_S) * 1e9)
    while (now_ns := time.monotonic_ns()) < give_up_ns:
        newest = max((packet.received_ns for packet in packets(driver)), default=0)
        if newest >= enough_ns:
            return


def packets(driver: Driver) -> Sequence[Packet]:
    """One read."""
    made = driver.read(READ_S)
    if made is None:
        raise WorldError("the camera's stream has ended")
    return made
