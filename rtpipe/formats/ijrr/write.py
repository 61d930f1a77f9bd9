"""Writing an IJRR folder: ``events.txt``, ``images.txt``, ``images/``, ``imu.txt``, in seconds with six decimals."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import BinaryIO, ClassVar

import cv2
import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.export import Export
from rtpipe.formats.ijrr import text
from rtpipe.packing import fault, unpack
from rtpipe.types import Count, Events, Frame, Imu, PackedEvents, Packet, Resolution, StreamInfo

_PIECE = 1 << 16
"""Events that are turned into text at once."""


class Writer(Export):
    """A recording as an IJRR folder (a context manager). ``resolution`` is the sensor's (width, height).

    It grows as the folder ``PATH.part`` and takes its name in :meth:`close`; after an error no ``PATH`` is left. µs and
    pictures (PNG) come back exactly, with their exposures (``exposures.txt``) and the sensor's size
    (``resolution.txt``), which other tools pass over. The IMU's temperature has no place in the layout.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "frames", "imu")

    def __init__(self, path: str | os.PathLike[str], resolution: Resolution) -> None:
        super().__init__(path)
        self.resolution = resolution
        self._newest: dict[str, int] = {}
        self._written = {"events": 0, "frames": 0, "imu": 0}
        self._files: dict[str, BinaryIO] = {}
        with self._world():
            if self._part.is_dir() and not self._part.is_symlink():  # left over by one that was killed
                shutil.rmtree(self._part)
            self._part.mkdir()
            self._line("resolution.txt", f"{resolution[0]} {resolution[1]}")
            self._files["events.txt"] = (self._part / "events.txt").open("wb")

    @classmethod
    def for_streams(cls, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> Writer:
        """A writer for these streams, at most one of each kind; the events' resolution, or else the first, counts."""
        kinds = [stream.kind for stream in streams]
        if len(set(kinds)) < len(kinds):
            raise InputError(f"{path}: a folder of this layout holds one stream of each kind, not {', '.join(kinds)}")
        ordered = sorted(streams, key=lambda stream: stream.kind != "events")
        for stream in ordered:
            if stream.resolution is not None:
                return cls(path, stream.resolution)
        raise InputError(f"{path}: none of the streams has a resolution, so no folder can be written")

    def write(self, packet: Packet) -> None:
        """Append one packet. Raises ``InputError`` for events out of order or off the sensor and for what this layout
        has no place for, ``WorldError`` where the disk is full."""
        body = packet.body
        if isinstance(body, PackedEvents):
            body = unpack(body)
        if isinstance(body, Events):
            self._add_events(body)
        elif isinstance(body, Frame):
            self._add_frame(body)
        elif isinstance(body, Imu):
            self._add_imu(body)
        elif body is not None:
            raise InputError(f"{self.path}: an IJRR folder cannot hold {type(body).__name__}")

    def close(self) -> Mapping[str, Count]:
        """Finish the files and give the folder its name; how much of each stream it holds. May be called twice."""
        if self._open:
            self._name()
        n = self._written
        counts = {"camera/events": Count(0, n["events"]), "camera/frames": Count(n["frames"], 0)}
        return counts | {"camera/imu": Count(n["imu"], 0)}

    def _let_go(self) -> None:
        for file in self._files.values():
            file.close()

    def _add_events(self, events: Events) -> None:
        if not len(events):
            return
        wrong = fault(events, self.resolution)
        if wrong or not self._in_order("events", int(events.t[0]), int(events.t[-1])):
            raise InputError(f"{self.path}: events with bad {wrong or 'order'} cannot be written")
        with self._world():
            for start in range(0, len(events), _PIECE):
                self._files["events.txt"].write(text.written(events[start : start + _PIECE]).data)
        self._written["events"] += len(events)

    def _add_frame(self, frame: Frame) -> None:
        if not self._in_order("frames", frame.t, frame.t):
            raise InputError(f"{self.path}: a frame at {frame.t} µs is earlier than the one before it")
        start, end = frame.exposure_start, frame.exposure_end
        if start is None or end is None:
            start = end = frame.t
        name = f"images/frame_{self._written['frames']:08d}.png"
        made, data = cv2.imencode(".png", frame.image, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        if not made:
            raise InputError(f"{self.path}: a picture {frame.image.dtype} {frame.image.shape} cannot be written as PNG")
        with self._world():
            (self._part / "images").mkdir(exist_ok=True)
            (self._part / name).write_bytes(data.tobytes())
        self._line("images.txt", f"{_seconds(frame.t)} {name}")
        self._line("exposures.txt", f"{_seconds(start)} {_seconds(end)}")
        self._written["frames"] += 1

    def _add_imu(self, samples: Imu) -> None:
        if not len(samples):
            return
        if (np.diff(samples.t) < 0).any() or not self._in_order("imu", int(samples.t[0]), int(samples.t[-1])):
            raise InputError(f"{self.path}: IMU samples that run backwards cannot be written")
        values = np.hstack([samples.acceleration, samples.rotation]).tolist()
        for t, row in zip(samples.t.tolist(), values, strict=True):
            self._line("imu.txt", " ".join([_seconds(t), *(f"{value:.9g}" for value in row)]))
        self._written["imu"] += len(samples)

    def _in_order(self, kind: str, first: int, last: int) -> bool:
        before = self._newest.get(kind, first)
        self._newest[kind] = last
        return first >= before

    def _line(self, name: str, line: str) -> None:
        with self._world():
            if name not in self._files:
                self._files[name] = (self._part / name).open("wb")
            self._files[name].write(f"{line}\n".encode())


def _seconds(t: int) -> str:
    """``t`` µs in seconds with six decimals, exactly."""
    return f"{'-' if t < 0 else ''}{abs(t) // 1_000_000}.{abs(t) % 1_000_000:06d}"
