"""HDF5 in the layout of events_contrast_maximization: RLED, EventHDR, EFNet's raw GoPro and REBlur files.

``events/xs``, ``ys``, ``ts``, ``ps``; ``images/image%09d`` with the attribute ``timestamp`` and in some files
``exposure_start`` and ``exposure_end``; ``sharp_images/`` likewise. The files of different data sets differ in the unit
of time, the order of ``sensor_resolution`` and the encoding of polarity: see :mod:`rtpipe.formats.ecm_h5.infer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import hdf5
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.ecm_h5.images import Images
from rtpipe.formats.ecm_h5.indices import EventIndices
from rtpipe.formats.ecm_h5.write import Writer
from rtpipe.formats.hdf5_events import EventColumns
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.types import MAX_SIDE, Array, Events, Frame, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "HDF5 with events/ and images/: RLED, EventHDR, EFNet's GoPro and REBlur"
SUFFIXES = (".h5", ".hdf5")

_ALTERNATIVES = {"t": ("ts", "t"), "x": ("xs", "x"), "y": ("ys", "y"), "p": ("ps", "p")}


def probe(path: Path, head: bytes) -> bool:
    """An HDF5 file with this layout's events, or one too damaged to tell (the reader then says what is wrong)."""
    if not head.startswith(hdf5.SIGNATURE):
        return False
    try:
        with hdf5.open_file(path) as file:
            events = hdf5.child(path, file, "events")
            if not hasattr(events, "keys"):
                return events is not None  # a table: refused by name
            if hdf5.child(path, file, "ms_to_idx") is not None:
                return False  # DSEC
            return any(hdf5.child(path, events, name) is not None for name in _ALTERNATIVES["t"])
    except FormatError:
        return True


class Reader(Recording):
    """A recording in this layout (see :class:`rtpipe.formats.contract.Reader`), read in constant memory.

    Options settle what the data leave open: ``time_unit`` ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; ``resolution``
    (width, height); ``color`` False to read pictures of three channels as grey, True to keep them.
    ``exposure_us`` is the length of the exposure where the file does not state it (RLED): ``timestamp`` is then taken
    for its end, and ``Frame.t`` is its middle. Without it such frames have no exposure and ``t`` is ``timestamp``.
    ``event_indices`` False leaves aside what an RLED file says of each picture's events (``Frame.window_start``).
    """

    def __init__(
        self,
        path: Path,
        *,
        time_unit: str | None = None,
        resolution: Resolution | None = None,
        exposure_us: int | None = None,
        color: bool | None = None,
        event_indices: bool = True,
    ) -> None:
        self.path = Path(path)
        if time_unit is not None and time_unit not in infer.UNITS:
            raise InputError(f"time_unit {time_unit!r}: {', '.join(infer.UNITS)} wanted")
        if exposure_us is not None and exposure_us < 1:
            raise InputError(f"exposure_us {exposure_us}: microseconds, at least 1")
        self._file = hdf5.open_file(self.path)
        self._events: EventColumns | None = None
        try:
            with hdf5.reading(self.path, "its structure"):
                self._open(time_unit, resolution, exposure_us, color)
                self._take_indices(event_indices)
        except BaseException:
            self.close()
            raise

    def _open(self, unit: str | None, size: Resolution | None, exposure_us: int | None, color: bool | None) -> None:
        notes: list[str] = []
        self._scale = 1.0
        self._off: int | None = None
        self._events = events = EventColumns(self.path, self._nodes(), self._microseconds, self._polarity)
        images = Images(self.path, self._file, "images")
        sharp = Images(self.path, self._file, "sharp_images")
        if not len(events) and not len(images):
            raise FormatError(f"{self.path}: no events and no pictures in it")
        try:
            if unit is None:
                unit = hdf5.text(self.path, self._file, "time_unit")
                if unit not in infer.UNITS:
                    unit, why = infer.time_unit(self._evidence(events, images))
                    notes.append(f"times are {infer.NAMES[unit]}: {why}")
            self._scale = infer.UNITS[unit]
            self.resolution, why = (size, "") if size else self._proven_resolution(events, images)
            notes.extend([why] if why else [])
            self._off = self._proven_polarity(events)
        except FormatError as error:
            raise self._placed(error) from error
        if not 0 < min(self.resolution) <= max(self.resolution) <= MAX_SIDE:
            raise InputError(f"{self.path}: resolution {self.resolution}: 1 to {MAX_SIDE} pixels wanted")
        events.resolution = self.resolution
        if len(images) and images.size != self.resolution:
            notes.append(f"pictures are {images.size[0]}x{images.size[1]}, another size than the sensor")
        if self._off == -1:
            notes.append("polarity is -1 and 1")
        for pictures in (images, sharp):
            notes.extend(pictures.settle(self._scale, exposure_us, color))
        self._images, self._sharp = images, sharp
        self.notes = tuple(dict.fromkeys(notes))
        self._span(events)
        camera = hdf5.text(self.path, self._file, "camera")
        streams = [StreamInfo("camera/events", self.resolution, camera)]
        if len(images):
            streams.append(StreamInfo("camera/frames", images.size, camera))
        self.streams = tuple(streams)

    def _take_indices(self, wanted: bool) -> None:
        images = len(self._images) if wanted else 0
        self._indices = EventIndices(self.path, self._file, self._columns, images)
        self.notes += tuple(self._indices.notes(self._images.stamp))

    @property
    def _columns(self) -> EventColumns:
        assert self._events is not None
        return self._events

    def _nodes(self) -> list[Any]:
        """The datasets t, x, y, p."""
        found: list[Any] = []
        group = hdf5.child(self.path, self._file, "events")
        if not hasattr(group, "keys"):
            dtype = getattr(group, "dtype", None)
            said = "is no group" if dtype is None else f"is a table of its own ({str(dtype)[:100]})"
            raise FormatError(f"{self.path}: events {said}; columns events/ts, xs, ys and ps are read here")
        for names, kinds in zip(_ALTERNATIVES.values(), ("fiu", "iu", "iu", "biuf"), strict=True):
            nodes = (hdf5.child(self.path, group, name) for name in names)
            node = next((node for node in nodes if node is not None), None)
            if node is None:
                raise FormatError(f"{self.path}: no events/{names[0]}; this layout has ts, xs, ys and ps there")
            found.append(hdf5.dataset(self.path, node, kinds, (1,)))
        return found

    def _evidence(self, events: EventColumns, images: Images) -> infer.Times:
        """What the unit of time is told from: the first and last stamps of events and pictures."""
        ends, n = images.stamps(), len(events)
        edges = ((0, min(n, 4096)), (max(0, n - 16), n)) if n else ()
        stamps = [events.t.read(*edge) for edge in edges]
        for (start, _), values in zip(edges, stamps, strict=True):
            if not np.isfinite(values).all():
                at = int(np.argmin(np.isfinite(values)))
                raise FormatError(f"{self.path}: {events.t.name}[{start + at}]: {values[at]} is no time")
        sample = np.concatenate([*stamps, np.asarray(ends)])
        period = (ends[-1] - ends[0]) / (len(images) - 1) if len(images) > 1 else None
        return infer.Times(sample, float(sample.max()) - float(sample.min()), n, period)

    def _proven_resolution(self, events: EventColumns, images: Images) -> tuple[Resolution, str]:
        pair = hdf5.numbers(self.path, self._file, "sensor_resolution")
        if len(pair) not in (0, 2):
            raise FormatError(f"{self.path}: sensor_resolution: two numbers wanted, got {len(pair)}")
        stated = (int(pair[0]), int(pair[1])) if pair else None
        sides = [hdf5.number(self.path, self._file, name) for name in ("width", "height")]  # our own files have these
        if stated is not None and sides in (list(stated), list(stated[::-1])):
            stated = (int(sides[0] or 0), int(sides[1] or 0))
            if not len(images):
                return stated, ""
        largest = (0, 0)
        if not len(images) and (stated is None or stated[0] != stated[1]):
            for i in range(0, len(events), events.run):  # until one of the two orders is ruled out
                x, y = (column.read(i, i + events.run) for column in (events.x, events.y))
                largest = (max(largest[0], int(x.max())), max(largest[1], int(y.max())))
                if stated is None or max(largest) >= min(stated):
                    break
        return infer.resolution(stated, images.size if len(images) else None, largest)

    def _proven_polarity(self, events: EventColumns) -> int | None:
        """Which number means off, from the first event that is."""
        off = None
        for i in range(0, len(events), events.run):
            _, off = infer.polarity(events.p.read(i, i + events.run), off)
            if off is not None:
                break
        return off

    def _span(self, events: EventColumns) -> None:
        first: list[int] = []
        last: list[int] = []
        if len(events):
            first.append(int(events.microseconds(0, 1)[0]))
            last.append(int(events.microseconds(len(events) - 1, len(events))[0]))
        if len(self._images):
            early = self._images.stamp(0)
            first.append(early.t if early.exposure_start is None else early.exposure_start)
            last.append(self._images.stamp(len(self._images) - 1).end)
        self.t_start, self.t_end = min(first), max(last)
        if not 0 <= max(last) - min(first) <= LONGEST_S * 1_000_000 or last[0] < first[0]:
            said = f"from {min(first)} to {max(last)} µs" if last[0] >= first[0] else "backwards"
            raise FormatError(f"{self.path}: its times run {said}; damaged, or the unit of time is another")

    def _microseconds(self, values: Array) -> tuple[Array, int]:
        return infer.microseconds(values, self._scale)

    def _polarity(self, values: Array) -> Array:
        p, self._off = infer.polarity(values, self._off)
        return p

    def counts(self) -> Mapping[str, int]:
        """Events and frames, and the sharp pictures as ``"truth"``; nothing is scanned."""
        counted = {s.name: len(self._columns) if s.kind == "events" else len(self._images) for s in self.streams}
        return counted | ({"truth": len(self._sharp)} if len(self._sharp) else {})

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of about 260k. Raises ``FormatError`` naming the place of
        events that are off the sensor, run backwards or have no polarity."""
        events = self._columns
        first = 0 if t0 is None else events.first_at(t0)
        end = len(events) if t1 is None else events.first_at(t1)
        yield from events.between(first, end, t0, t1)

    def _placed(self, error: FormatError, place: str = "") -> FormatError:
        """``error`` with the file's name and a place before it, where it has none yet."""
        said = str(error)
        return error if str(self.path) in said else FormatError(f"{self.path}: {place}{said}")

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), in order of time. Raises ``FormatError`` where they are not."""
        return self._images.between(t0, t1, "camera", self._indices.window)

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The pictures of ``sharp_images/`` with ``t0 <= t < t1`` (µs); ``t`` is their ``timestamp``."""
        return self._sharp.between(t0, t1, "truth")

    def close(self) -> None:
        """Let the file go, when what is being read ahead has been read. May be called twice."""
        if self._events is not None:
            self._events.close()
        self._file.close()
