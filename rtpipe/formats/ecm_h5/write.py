"""Writing the HDF5 layout of events_contrast_maximization as EFNet's raw files (GoPro, REBlur) have it.

``events/xs``, ``ys`` (int16), ``ts`` (float64 seconds), ``ps`` (uint8 0/1); ``images/image%09d`` with ``timestamp``
(the end of the exposure), ``exposure_start``, ``exposure_end``, ``exposure_time`` in seconds;
``sharp_images/image%09d`` with ``timestamp``. Times are in seconds as the public tools expect; a microsecond survives
the way there and back.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias, TypeVar

import h5py
import hdf5plugin
import numpy as np

from rtpipe.errors import InputError
from rtpipe.formats.export import Export
from rtpipe.packing import fault, unpack
from rtpipe.types import Array, Count, Events, Frame, PackedEvents, Packet, Resolution, StreamInfo

CHUNK = 1 << 16
"""Events per HDF5 chunk; also how many are gathered before they are compressed and written."""

LARGEST_US = 1 << 51
"""Beyond this a float64 in seconds no longer tells two microseconds apart (71 years from the clock's zero)."""

Compression: TypeAlias = Literal["gzip", "blosc"]
_W = TypeVar("_W", bound="Writer")

_COMPRESSION: dict[str, Mapping[str, Any]] = {
    "gzip": {"compression": "gzip", "compression_opts": 1, "shuffle": True},
    "blosc": hdf5plugin.Blosc(cname="lz4", clevel=5, shuffle=hdf5plugin.Blosc.BITSHUFFLE),
}


class Writer(Export):
    """A recording in EFNet's raw layout, written in constant memory (a context manager).

    ``resolution`` is the sensor's (width, height). ``compression``: ``"gzip"`` opens everywhere; ``"blosc"`` is five
    times as fast both ways and needs hdf5plugin in whoever reads it. An export, not a live recording: it grows as
    ``PATH.part`` and takes its name in :meth:`close`; after an error (or a kill) no ``PATH`` is left.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "frames", "truth")
    FAILURES: ClassVar[tuple[type[Exception], ...]] = (OSError, RuntimeError)

    TIME_UNIT: ClassVar[Literal["s", "us"]] = "s"
    """What is different in the layouts of other data sets, which derive from this: the unit of all times, how a
    polarity is stored, and the order of ``sensor_resolution``."""
    POLARITY: ClassVar[type] = np.uint8
    HEIGHT_FIRST: ClassVar[bool] = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        resolution: Resolution,
        camera: str = "",
        *,
        compression: Compression = "gzip",
    ) -> None:
        super().__init__(path, overwrite=True)
        self.resolution = resolution
        self._storage = _COMPRESSION[compression]
        self._waiting: list[Events] = []
        self._n_waiting = 0
        self._newest: int | None = None
        self._t0 = 0
        self._written = {"events": 0, "on": 0, "images": 0, "sharp_images": 0}
        self._to_index: list[tuple[int, Callable[[int], None]]] = []
        self._chunk_starts: list[int] = []
        self._reached = -(1 << 63)  # the last event in the file
        self._per_unit = 1e6 if self.TIME_UNIT == "s" else 1.0
        with self._world():
            self._file = h5py.File(self._part, "w", rdcc_nbytes=1 << 20)
            stated = resolution[::-1] if self.HEIGHT_FIRST else resolution
            self._file.attrs.update(sensor_resolution=stated, time_unit=np.bytes_(self.TIME_UNIT.encode()))
            self._file.attrs.update(width=resolution[0], height=resolution[1])  # no other tool says which is which
            if camera:  # of fixed length, like all our text: see hdf5.text
                self._file.attrs["camera"] = np.bytes_(camera.encode())
            columns = {"xs": np.int16, "ys": np.int16, "ts": np.float64, "ps": self.POLARITY}
            for name, dtype in columns.items():
                self._file.create_dataset(
                    f"events/{name}", (0,), dtype, maxshape=(None,), chunks=(CHUNK,), **self._storage
                )
            self._file.create_group("images")

    @classmethod
    def for_streams(
        cls: type[_W],
        path: str | os.PathLike[str],
        streams: Sequence[StreamInfo],
        *,
        compression: Compression = "gzip",
    ) -> _W:
        """A writer for these streams; the events' resolution, else the frames', is the sensor's."""
        kept = sorted((s for s in streams if s.kind in ("events", "frames")), key=lambda s: s.kind)
        sized = [stream for stream in kept if stream.resolution is not None]
        if len({stream.name.rpartition("/")[0] for stream in kept}) > 1:
            raise InputError(f"{path}: this layout holds one camera, not {', '.join(s.name for s in kept)}")
        if not sized or sized[0].resolution is None:
            raise InputError(f"{path}: none of the streams has a resolution, so no HDF5 file can be written")
        if os.path.lexists(path):
            raise InputError(f"{path}: there is a file of that name")
        return cls(path, sized[0].resolution, sized[0].camera, compression=compression)

    def add_events(self, events: Events) -> None:
        """Append events, in order and on the sensor (``InputError`` otherwise). Takes a copy."""
        if not len(events):
            return
        wrong = fault(events, self.resolution)
        first, last = int(events.t[0]), int(events.t[-1])
        if not wrong and self._newest is not None and first < self._newest:
            wrong = "order"
        if wrong:
            raise InputError(f"{self.path}: events with bad {wrong} cannot be written")
        self._check_time(first)
        self._check_time(last)
        if self._newest is None:
            self._t0 = first
        self._newest = last
        self._waiting.append(Events(events.t.copy(), events.x.copy(), events.y.copy(), events.p.copy()))
        self._n_waiting += len(events)
        if self._n_waiting >= CHUNK:
            self._append(whole_chunks_only=True)

    def add_frame(self, frame: Frame) -> None:
        """Append a camera's frame, in order of time."""
        self._add_image("images", frame)

    def add_truth(self, frame: Frame) -> None:
        """Append a sharp picture, in order of time."""
        self._add_image("sharp_images", frame)

    def write(self, packet: Packet) -> None:
        """Append what this layout holds of a packet: events and the camera's frames. IMU samples, triggers, pictures
        made by engines and watermarks have no place in it and are left out."""
        if isinstance(packet.body, PackedEvents):
            self.add_events(unpack(packet.body))
        elif isinstance(packet.body, Events):
            self.add_events(packet.body)
        elif isinstance(packet.body, Frame) and packet.stream.endswith("/frames"):
            self.add_frame(packet.body)

    def close(self) -> Mapping[str, Count]:
        """Finish the file and give it its name; how much of each stream it holds. May be called twice."""
        if self._open:
            self._append()
            with self._world():
                self._index(closing=True)
                self._finish()
            self._name()
        written = self._written
        return {
            "camera/events": Count(0, written["events"]),
            "camera/frames": Count(written["images"], 0),
            "truth": Count(written["sharp_images"], 0),
        }

    def _append(self, *, whole_chunks_only: bool = False) -> None:
        """Move what waits into the file."""
        gathered = Events.concatenate(self._waiting)
        n = len(gathered) // CHUNK * CHUNK if whole_chunks_only else len(gathered)
        ready, rest = gathered[:n], gathered[n:]
        self._waiting, self._n_waiting = [rest], len(rest)
        at = self._written["events"]
        columns: dict[str, Array] = {"xs": ready.x, "ys": ready.y, "ts": ready.t / self._per_unit, "ps": ready.p}
        with self._world():
            for name, values in columns.items():
                dataset = self._file["events"][name]
                dataset.resize((at + n,))
                dataset[at:] = values
            if n:
                self._chunk_starts.extend(ready.t[::CHUNK].tolist())  # every append but the last is of whole chunks
                self._reached = int(ready.t[-1])
            self._index()
        self._written["events"] += n
        self._written["on"] += int(np.count_nonzero(ready.p))

    def _finish(self) -> None:
        """The file's attributes, when everything is in it."""
        n, on = self._written["events"], self._written["on"]
        t0, tk = self._t0 / self._per_unit, (self._newest or 0) / self._per_unit
        self._file.attrs.update(num_events=n, num_pos=on, num_neg=n - on, t0=t0, tk=tk, duration=tk - t0)
        self._file.attrs["num_imgs"] = self._written["images"]

    def _add_image(self, group: str, frame: Frame) -> None:
        t = frame.t if frame.exposure_end is None else frame.exposure_end
        for instant in (t, frame.t, frame.exposure_start, frame.window_start, frame.window_end):
            self._check_time(instant)
        name = f"{group}/image{self._written[group]:09d}"
        with self._world():
            stored = self._file.create_dataset(name, data=frame.image, chunks=frame.image.shape, **self._storage)
            shown = frame.t if group == "sharp_images" else t
            stored.attrs.update(size=frame.image.shape, timestamp=shown / self._per_unit)
        self._describe(stored, frame, t)
        self._written[group] += 1

    def _describe(self, stored: Any, frame: Frame, end: int) -> None:
        """The further attributes of a picture whose exposure ends at ``end`` (µs)."""
        with self._world():
            stored.attrs["type"] = np.bytes_(b"color_bgr" if frame.image.ndim == 3 else b"greyscale")
            if frame.exposure_start is not None and frame.exposure_end is not None:
                start, stop = frame.exposure_start / 1e6, frame.exposure_end / 1e6
                stored.attrs.update(exposure_start=start, exposure_end=stop, exposure_time=stop - start)
        self._to_index.append((end, partial(stored.attrs.__setitem__, "event_idx")))

    def _index(self, *, closing: bool = False) -> None:
        """Tell those who asked how many events precede an instant, where that is known by now."""
        later: list[tuple[int, Callable[[int], None]]] = []
        for instant, tell in self._to_index:
            if closing or instant <= self._reached:
                tell(self._count_before(instant))
            else:
                later.append((instant, tell))
        self._to_index = later

    def _count_before(self, instant: int) -> int:
        """How many events in the file are earlier than ``instant`` (µs)."""
        chunk = max(0, bisect_left(self._chunk_starts, instant) - 1)
        times = np.rint(self._file["events/ts"][chunk * CHUNK : (chunk + 1) * CHUNK] * self._per_unit)
        return chunk * CHUNK + int(np.searchsorted(times, instant))

    def _check_time(self, instant: int | None) -> None:
        if instant is not None and abs(instant) > LARGEST_US:
            raise InputError(f"{self.path}: time {instant} µs is too far from zero for seconds in float64")


def last_before(stored: Any) -> Callable[[int], None]:
    """Sets ``event_idx`` of a picture as RLED and EventHDR count: the last event before it, 0 where there is none."""

    def tell(n: int) -> None:
        stored.attrs["event_idx"] = max(0, n - 1)

    return tell
