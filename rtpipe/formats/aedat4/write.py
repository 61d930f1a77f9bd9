"""Writing AEDAT4 (LZ4), so that the DV software, dv-processing and other tools read it."""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import BinaryIO, ClassVar

import lz4.frame
import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.aedat4 import build
from rtpipe.formats.aedat4.container import MAGIC
from rtpipe.formats.export import Export
from rtpipe.packing import fault, unpack
from rtpipe.types import Count, Events, Frame, Imu, PackedEvents, Packet, Resolution, StreamInfo, Trigger

_KINDS = {"events": "EVTS", "frames": "FRME", "imu": "IMUS", "triggers": "TRIG"}


class Writer(Export):
    """An AEDAT4 being written (a context manager). One packet of the file for each that is given.

    An export, not a live recording: it grows as ``PATH.part`` and takes its name in :meth:`close`; after an error (or a
    kill) no ``PATH`` is left. Frames must be uint8 and of the sensor's size; a frame's time is that of its exposure.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "frames", "imu", "triggers")

    def __init__(self, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> None:
        super().__init__(path)
        kept = [stream for stream in streams if stream.kind in _KINDS]
        sources = {stream.name.rpartition("/")[0] for stream in kept}
        sized = [stream for stream in kept if stream.resolution is not None]
        if len(sources) > 1 or not sized:
            said = f"{len(sources)} cameras" if sources else "nothing of a camera's"
            said = said if sized else "no stream of a known size"
            raise InputError(f"{self.path}: an AEDAT4 holds one camera with events or frames; this is {said}")
        self.resolution: Resolution = next((s.resolution for s in kept if s.kind == "events"), None) or (0, 0)
        self.resolution = self.resolution if all(self.resolution) else sized[0].resolution or (0, 0)
        self._streams = {stream.kind: number for number, stream in enumerate(kept)}
        camera = next((stream.camera for stream in kept if stream.camera), "rtpipe")
        described = [(_KINDS[s.kind], self.resolution if s.kind in ("events", "frames") else None) for s in kept]
        self._info = build.description(described, camera)
        self._contents: list[tuple[int, int, int, int, int, int]] = []
        self._counts: Counter[str] = Counter()
        self._newest: dict[str, int] = {}
        with self._world():
            self._file: BinaryIO = self._part.open("wb")
            start = build.header(-1, self._info)
            self._file.write(MAGIC + struct.pack("<I", len(start)) + start)
        self._at = len(MAGIC) + 4 + len(start)

    @classmethod
    def for_streams(cls, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> Writer:
        """A writer for these streams."""
        return cls(path, streams)

    def write(self, packet: Packet) -> None:
        """Append a packet's body. Raises ``WorldError`` where the disk is full, ``InputError`` for events out of order
        or off the sensor, a picture of another kind or size, or a trigger that AEDAT4 has no name for."""
        body, kind = packet.body, packet.stream.rsplit("/", 1)[-1]
        if body is None or kind not in self._streams:
            return
        if isinstance(body, PackedEvents):
            body = unpack(body)
        if isinstance(body, Events):
            if len(body):
                self._check(body)
                self._append(kind, build.events(body), len(body), int(body.t[0]), int(body.t[-1]))
        elif isinstance(body, Frame):
            shape, dtype = body.image.shape, body.image.dtype
            if dtype != np.uint8 or shape[:2] != self.resolution[::-1] or shape[2:] not in ((), (3,)):
                width, height = self.resolution
                raise InputError(f"{self.path}: AEDAT4 holds frames of uint8, {width}x{height}, not {dtype} {shape}")
            t = body.t if body.exposure_start is None else body.exposure_start
            if body.exposure_start is not None and t <= 0:
                raise InputError(f"{self.path}: an exposure from {t} µs: in AEDAT4 that means that it is not known")
            self._append(kind, build.frame(body), 1, t, t)
        elif isinstance(body, Imu) and len(body):
            self._append(kind, build.imu(body), len(body), int(body.t[0]), int(body.t[-1]))
        elif isinstance(body, Trigger) and len(body):
            types = build.trigger_types(body)
            known = [kind for kind in types if kind is not None]
            if len(known) < len(types):
                i = types.index(None)
                raise InputError(
                    f"{self.path}: AEDAT4 has no trigger of channel {body.channel[i]}, edge {body.edge[i]} "
                    f"(at {body.t[i]} µs)"
                )
            self._append(kind, build.triggers(body, known), len(body), int(body.t[0]), int(body.t[-1]))

    def _check(self, events: Events) -> None:
        wrong = fault(events, self.resolution)
        if not wrong and events.t[0] < self._newest.get("events", -(1 << 62)):
            wrong = "order"
        if wrong:
            raise InputError(f"{self.path}: events with bad {wrong} cannot be written")
        self._newest["events"] = int(events.t[-1])

    def _append(self, kind: str, data: bytes, n: int, first: int, last: int) -> None:
        squeezed = lz4.frame.compress(data, content_checksum=False, store_size=False)
        with self._world():
            self._file.write(struct.pack("<iI", self._streams[kind], len(squeezed)))
            self._file.write(squeezed)
        self._contents.append((self._at + 8, self._streams[kind], len(squeezed), n, first, last))
        self._at += 8 + len(squeezed)
        self._counts[kind] += n

    def close(self) -> Mapping[str, Count]:
        """Write the table of contents and give the file its name; how much of each stream it holds. May be called
        twice."""
        if self._open:
            rows = np.array(self._contents, np.int64).reshape(-1, 6)
            with self._world():
                self._file.write(lz4.frame.compress(build.contents(rows), store_size=False))
                self._file.seek(len(MAGIC) + 4)
                self._file.write(build.header(self._at, self._info))
            self._name()
        return {f"camera/{kind}": Count(0, n) if kind == "events" else Count(n, 0) for kind, n in self._counts.items()}
