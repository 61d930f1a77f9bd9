"""AEDAT4, the files of iniVation's DV software: events, frames, IMU samples and triggers of one camera.

A frame's own timestamp means mid-exposure in files of the DV application and the start of the exposure in files of
dv-processing 2, so it is not used: ``Frame.t`` is the middle of the stated exposure.

Triggers: ``channel`` 0 is the external signal, 1 the external generator, 2 the readout of a frame (``RISING`` at its
start), 3 the exposure of a frame, 4 a reset of the camera's clock; a type that is not known goes to channel 16 + type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats.aedat4.build import EVENT, OTHER_TRIGGERS, STANDARD_GRAVITY, TRIGGERS
from rtpipe.formats.aedat4.container import MAGIC, Container
from rtpipe.formats.aedat4.flatbuffer import Broken
from rtpipe.formats.aedat4.write import Writer
from rtpipe.formats.packets import cut, frame_end
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.packing import fault
from rtpipe.types import MAX_SIDE, Array, Edge, Events, Frame, Imu, StreamInfo, Trigger

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "AEDAT4 of the DV software"
SUFFIXES = (".aedat4",)

_NAMES = {"EVTS": "camera/events", "FRME": "camera/frames", "IMUS": "camera/imu", "TRIG": "camera/triggers"}
_PICTURES = {0: 1, 16: 3, 24: 4}
"""Channels by the frame's format: grey, BGR, BGRA."""
_Run = TypeVar("_Run", Events, Imu, Trigger)


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Whether the file begins as an AEDAT4 does, or did before it was cut."""
    return head.startswith(MAGIC[: max(len(head), 5)])


class Reader(Recording):
    """An AEDAT4 recording (see :class:`rtpipe.formats.contract.Reader`), read packet by packet.

    ``camera``: which one, by its name in the file, where there are several. ``partial``: read the whole packets of a
    file that was cut off after it was closed. One that was never closed, because its recorder was killed, is read that
    way in any case; ``notes`` says so.
    """

    def __init__(self, path: Path, *, camera: str | None = None, partial: bool = False) -> None:
        self.path = Path(path)
        self._file = Container(self.path, partial)
        try:
            self._choose(camera)
            self._span()
        except BaseException:
            self._file.close()
            raise
        if self._file.left_out or not self._file.closed:
            cut = f"; {self._file.left_out} bytes of a packet cut short are left out" if self._file.left_out else ""
            self.notes = (f"the file was never closed or has been cut off{cut}",)

    def _choose(self, camera: str | None) -> None:
        """Find the streams of the one camera and their packets."""
        offered = [stream for stream in self._file.streams if stream.kind in _NAMES]
        cameras = sorted({stream.source for stream in offered})
        chosen = [stream for stream in offered if camera is None or stream.source == camera]
        if not chosen:
            wanted = f"no camera {camera!r}; there is" if camera is not None else "no events, frames, IMU or triggers:"
            raise FormatError(f"{self.path}: {wanted} {', '.join(cameras) or 'nothing'} in it")
        if len({stream.kind for stream in chosen}) < len(chosen):
            raise FormatError(
                f"{self.path}: several streams of a kind; choose with the option camera: {', '.join(cameras)}"
            )
        self._streams = {stream.kind: stream for stream in chosen}
        self._packets = {stream.kind: self._file.packets_of(stream) for stream in chosen}
        sized = [stream.size for stream in chosen if stream.kind in ("EVTS", "FRME") and stream.size is not None]
        if not sized:
            raise FormatError(f"{self.path}: its header states no sensor size for events or frames")
        self.resolution = sized[0]
        if not 0 < min(self.resolution) <= max(self.resolution) <= MAX_SIDE:
            raise FormatError(f"{self.path}: its header states a sensor of {self.resolution[0]}x{self.resolution[1]}")
        self.streams = tuple(
            StreamInfo(name, self.resolution if kind in ("EVTS", "FRME") else None, self._streams[kind].source)
            for kind, name in _NAMES.items()
            if kind in self._streams and (len(self._packets[kind]) or kind == "EVTS")
        )

    def _span(self) -> None:
        """``t_start`` and ``t_end``, from the first and the last packet of each stream."""
        first: list[int] = []
        last: list[int] = []
        for kind, packets in self._packets.items():
            if kind == "FRME" and len(packets):
                early, late = self._frame(packets[0]), self._frame(packets[-1])
                first.append(early.t if early.exposure_start is None else early.exposure_start)
                last.append(frame_end(late))
            elif len(packets):
                runs = [run for run in (self._times(kind, packets[0]), self._times(kind, packets[-1])) if len(run)]
                first.extend(int(run[0]) for run in runs[:1])
                last.extend(int(run[-1]) for run in runs[-1:])
        if not first:
            raise FormatError(f"{self.path}: there is not one whole packet in it")
        self.t_start, self.t_end = min(first), max(last)
        if not 0 <= self.t_end - self.t_start <= LONGEST_S * 1_000_000 or max(map(abs, first + last)) >= 1 << 61:
            raise FormatError(f"{self.path}: its times run from {self.t_start} to {self.t_end} µs, it is damaged")

    def counts(self) -> Mapping[str, int]:
        """Elements per stream; decodes the whole file once."""
        counted: dict[str, int] = {}
        for stream in self.streams:
            if stream.kind == "frames":
                counted[stream.name] = sum(1 for _ in self.frames())
            elif stream.kind == "events":
                counted[stream.name] = sum(len(run) for run in self.event_chunks())
            else:
                samples: Iterator[Imu | Trigger] = self.imu() if stream.kind == "imu" else self.triggers()
                counted[stream.name] = sum(len(run) for run in samples)
        return counted

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, packet by packet. Raises ``FormatError`` naming the packet."""
        return self._runs("EVTS", self._events, t0, t1)

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples with ``t0 <= t < t1`` (µs) in m/s² and rad/s, packet by packet."""
        return self._runs("IMUS", self._imu, t0, t1)

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """Triggers with ``t0 <= t < t1`` (µs), packet by packet; the module says what the channels are."""
        return self._runs("TRIG", self._triggers, t0, t1)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), in order of time. Raises ``FormatError`` naming the packet."""
        packets = self._packets.get("FRME", np.empty(0, np.int64))
        start = 0 if t0 is None else self._bisect(packets, lambda packet: self._frame(packet).t, t0)
        before: Frame | None = None
        for packet in packets[start:]:
            frame = self._frame(packet)
            if before is not None and (frame.t < before.t or frame_end(frame) < frame_end(before)):
                raise self._damage(packet, "its frame is earlier than the one before it")
            if t1 is not None and frame.t >= t1:
                return
            before = frame
            yield frame

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._file.close()

    def _runs(self, kind: str, decode: Callable[[int], _Run], t0: int | None, t1: int | None) -> Iterator[_Run]:
        packets = self._packets.get(kind, np.empty(0, np.int64))
        start = 0
        if t0 is not None:  # the packet before may hold elements of the same instant
            start = max(0, self._bisect(packets, lambda packet: self._first_time(kind, packet), t0) - 1)
        newest: int | None = None
        for packet in packets[start:]:
            run = decode(packet)
            if not len(run):
                continue
            if newest is not None and run.t[0] < newest:
                raise self._damage(packet, f"time runs back from {newest} to {run.t[0]} µs")
            newest = int(run.t[-1])
            low = 0 if t0 is None else int(np.searchsorted(run.t, t0))
            high = len(run) if t1 is None else int(np.searchsorted(run.t, t1))
            if low < high:
                yield cut(run, low, high)
            if high < len(run):
                return

    def _bisect(self, packets: Array, time_of: Callable[[int], int], instant: int) -> int:
        """The index of the first of ``packets`` that is not before ``instant`` (µs)."""
        low, high = 0, len(packets)
        while low < high:
            middle = (low + high) // 2
            if time_of(packets[middle]) < instant:
                low = middle + 1
            else:
                high = middle
        return low

    def _first_time(self, kind: str, packet: int) -> int:
        times = self._times(kind, packet)
        return int(times[0]) if len(times) else -(1 << 62)

    def _times(self, kind: str, packet: int) -> Array:
        decode: dict[str, Callable[[int], Events | Imu | Trigger]]
        decode = {"EVTS": self._events, "IMUS": self._imu, "TRIG": self._triggers}
        return decode[kind](packet).t

    def _events(self, packet: int) -> Events:
        try:
            stored = self._file.packet(packet, "EVTS").array(0, EVENT)
        except Broken as error:
            raise self._damage(packet, str(error)) from error
        t, x, y = stored["t"].astype(np.int64), stored["x"].copy().view(np.uint16), stored["y"].copy().view(np.uint16)
        events = Events(t, x, y, stored["p"].copy())
        wrong = fault(events, self.resolution)
        if wrong:
            width, height = self.resolution
            words = {
                "order": "time runs backwards in it",
                "coordinates": f"event at {(int(x.max()), int(y.max()))}, off the {width}x{height} sensor",
                "polarity": f"polarity {int(events.p.max())}",
            }
            raise self._damage(packet, words[wrong])
        return events

    def _imu(self, packet: int) -> Imu:
        try:
            samples = self._file.packet(packet, "IMUS").tables(0)
            t = np.array([sample.number(0, "q") for sample in samples], np.int64)
            values = np.array([[sample.real(field) for field in range(1, 8)] for sample in samples], np.float32)
        except Broken as error:
            raise self._damage(packet, str(error)) from error
        self._check_order(packet, t)
        values = values.reshape(-1, 7)
        acceleration, rotation = values[:, 1:4] * np.float32(STANDARD_GRAVITY), np.radians(values[:, 4:7])
        return Imu(t, acceleration, rotation, values[:, 0].copy())

    def _triggers(self, packet: int) -> Trigger:
        try:
            signals = self._file.packet(packet, "TRIG").tables(0)
            t = np.array([signal.number(0, "q") for signal in signals], np.int64)
            kinds = [signal.number(1, "b") for signal in signals]
        except Broken as error:
            raise self._damage(packet, str(error)) from error
        self._check_order(packet, t)
        wired = [TRIGGERS.get(kind, (OTHER_TRIGGERS + kind % 128, Edge.PULSE)) for kind in kinds]
        columns = np.array(wired, np.uint8).reshape(-1, 2)
        return Trigger(t, columns[:, 0].copy(), columns[:, 1].copy())

    def _frame(self, packet: int) -> Frame:
        try:
            table = self._file.packet(packet, "FRME")
            taken, start, end = table.number(0, "q"), table.number(3, "q"), table.number(4, "q")
            layout, width, height = table.number(5, "b"), table.number(6, "h"), table.number(7, "h")
            pixels = table.array(10, np.dtype(np.uint8))
            length = table.number(11, "q")
        except Broken as error:
            raise self._damage(packet, str(error)) from error
        channels = _PICTURES.get(layout, 0)
        if (width, height) != self.resolution or not channels or len(pixels) != width * height * channels:
            raise self._damage(packet, f"{len(pixels)} bytes as picture of {width}x{height}, format {layout}")
        image = pixels.reshape((height, width) if channels == 1 else (height, width, channels))
        if channels == 4:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGRA2BGR))
        if not start and length > 0:
            start, end = taken, taken + length
        if not 0 < start <= end < 1 << 61:
            if not -(1 << 61) < taken < 1 << 61 or start:
                raise self._damage(packet, f"a frame at {taken} exposed from {start} to {end} µs")
            return Frame(image, taken)
        return Frame(image, (start + end) // 2, start, end)

    def _check_order(self, packet: int, t: Array) -> None:
        if np.any(t[1:] < t[:-1]):
            raise self._damage(packet, "time runs backwards in it")

    def _damage(self, packet: int, what: str) -> FormatError:
        return FormatError(f"{self.path}: damaged {self._file.place(packet)}: {what}")
