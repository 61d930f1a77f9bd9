"""HDF5 in the layout of events_contrast_maximization: RLED, EventHDR, EFNet's raw GoPro and REBlur files.

``events/xs``, ``ys``, ``ts``, ``ps``; ``images/image%09d`` with the attribute ``timestamp`` and in some files
``exposure_start`` and ``exposure_end``; ``sharp_images/`` likewise. The files of different data sets differ in the unit
of time, the order of ``sensor_resolution`` and the encoding of polarity: see :mod:`rtpipe.formats.ecm_h5.infer`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import hdf5
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.ecm_h5.images import Images
from rtpipe.formats.ecm_h5.indices import EventIndices
from rtpipe.formats.ecm_h5.write import Writer
from rtpipe.formats.hdf5_columns import Column
from rtpipe.formats.hdf5_runs import Runs
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.packing import fault
from rtpipe.types import MAX_SIDE, Array, Events, Frame, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "HDF5 with events/ and images/: RLED, EventHDR, EFNet's GoPro and REBlur"
SUFFIXES = (".h5", ".hdf5")

RUN = 1 << 18
"""Events per run, about; a multiple of the file's chunk."""

_ALTERNATIVES = {"t": ("ts", "t"), "x": ("xs", "x"), "y": ("ys", "y"), "p": ("ps", "p")}


def probe(path: Path, head: bytes) -> bool:
    """An HDF5 file with this layout's events, or one too damaged to tell (the reader then says what is wrong)."""
    if not head.startswith(hdf5.SIGNATURE):
        return False
    try:
        with hdf5.open_file(path) as file:
            events = hdf5.child(path, file, "events")
            return events is not None and any(hdf5.child(path, events, name) for name in _ALTERNATIVES["t"])
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
        self._columns: list[Column] = []
        self._runs = Runs((self._microseconds, self._xs, self._ys, self._ps))
        try:
            with hdf5.reading(self.path, "its structure"):
                self._open(time_unit, resolution, exposure_us, color)
                self._take_indices(event_indices)
        except BaseException:
            self.close()
            raise

    def _open(self, unit: str | None, size: Resolution | None, exposure_us: int | None, color: bool | None) -> None:
        notes: list[str] = []
        self._t, self._x, self._y, self._p = self._find_columns()
        self._n = len(self._t)
        self._chunk = min(RUN, self._t.chunk)
        self._run = self._chunk * max(1, RUN // self._chunk)
        images = Images(self.path, self._file, "images")
        sharp = Images(self.path, self._file, "sharp_images")
        if not self._n and not len(images):
            raise FormatError(f"{self.path}: no events and no pictures in it")
        try:
            if unit is None:
                unit = hdf5.text(self.path, self._file, "time_unit")
                if unit not in infer.UNITS:
                    unit, why = infer.time_unit(self._evidence(images))
                    notes.append(f"times are {infer.NAMES[unit]}: {why}")
            self._scale = infer.UNITS[unit]
            self.resolution, why = (size, "") if size else self._proven_resolution(images)
            notes.extend([why] if why else [])
            self._off = self._proven_polarity()
        except FormatError as error:
            raise self._placed(error) from error
        if not 0 < min(self.resolution) <= max(self.resolution) <= MAX_SIDE:
            raise InputError(f"{self.path}: resolution {self.resolution}: 1 to {MAX_SIDE} pixels wanted")
        if len(images) and images.size != self.resolution:
            notes.append(f"pictures are {images.size[0]}x{images.size[1]}, another size than the sensor")
        if self._off == -1:
            notes.append("polarity is -1 and 1")
        for pictures in (images, sharp):
            notes.extend(pictures.settle(self._scale, exposure_us, color))
        self._images, self._sharp = images, sharp
        self.notes = tuple(dict.fromkeys(notes))
        self._span()
        camera = hdf5.text(self.path, self._file, "camera")
        streams = [StreamInfo("camera/events", self.resolution, camera)]
        if len(images):
            streams.append(StreamInfo("camera/frames", images.size, camera))
        self.streams = tuple(streams)

    def _take_indices(self, wanted: bool) -> None:
        images = len(self._images) if wanted else 0
        span = (self._n, images, self._microseconds, self._chunk)
        self._indices = EventIndices(self.path, self._file, *span)
        self.notes += tuple(self._indices.notes(self._images.stamp))

    def _find_columns(self) -> list[Column]:
        """The columns t, x, y, p, of one length."""
        group = hdf5.child(self.path, self._file, "events")
        for names, kinds in zip(_ALTERNATIVES.values(), ("fiu", "iu", "iu", "biuf"), strict=True):
            nodes = (hdf5.child(self.path, group, name) for name in names) if hasattr(group, "keys") else iter(())
            node = next((node for node in nodes if node is not None), None)
            if node is None:
                raise FormatError(f"{self.path}: no events/{names[0]}; this layout has ts, xs, ys and ps there")
            self._columns.append(Column(self.path, hdf5.dataset(self.path, node, kinds, (1,))))
        if len({len(column) for column in self._columns}) > 1:
            lengths = ", ".join(f"{column.name} {len(column)}" for column in self._columns)
            raise FormatError(f"{self.path}: columns of different lengths: {lengths}")
        return self._columns

    def _evidence(self, images: Images) -> infer.Times:
        """What the unit of time is told from: the first and last stamps of events and pictures."""
        ends = images.stamps()
        edges = ((0, min(self._n, 4096)), (max(0, self._n - 16), self._n)) if self._n else ()
        stamps = [self._t.read(*edge) for edge in edges]
        for (start, _), values in zip(edges, stamps, strict=True):
            if not np.isfinite(values).all():
                at = int(np.argmin(np.isfinite(values)))
                raise FormatError(f"{self.path}: {self._t.name}[{start + at}]: {values[at]} is no time")
        sample = np.concatenate([*stamps, np.asarray(ends)])
        period = (ends[-1] - ends[0]) / (len(images) - 1) if len(images) > 1 else None
        return infer.Times(sample, float(sample.max()) - float(sample.min()), self._n, period)

    def _proven_resolution(self, images: Images) -> tuple[Resolution, str]:
        pair = hdf5.numbers(self.path, self._file, "sensor_resolution")
        if len(pair) not in (0, 2):
            raise FormatError(f"{self.path}: sensor_resolution: two numbers wanted, got {len(pair)}")
        stated = (int(pair[0]), int(pair[1])) if pair else None
        largest = (0, 0)
        if not len(images) and (stated is None or stated[0] != stated[1]):
            for i in range(0, self._n, self._run):  # until one of the two orders is ruled out
                x, y = (column.read(i, min(self._n, i + self._run)) for column in (self._x, self._y))
                largest = (max(largest[0], int(x.max())), max(largest[1], int(y.max())))
                if stated is None or max(largest) >= min(stated):
                    break
        return infer.resolution(stated, images.size if len(images) else None, largest)

    def _proven_polarity(self) -> int | None:
        """Which number means off, from the first event that is."""
        off = None
        for i in range(0, self._n, self._run):
            _, off = infer.polarity(self._p.read(i, min(self._n, i + self._run)), off)
            if off is not None:
                break
        return off

    def _span(self) -> None:
        first: list[int] = []
        last: list[int] = []
        if self._n:
            first.append(int(self._microseconds(0, 1)[0]))
            last.append(int(self._microseconds(self._n - 1, self._n)[0]))
        if len(self._images):
            early = self._images.stamp(0)
            first.append(early.t if early.exposure_start is None else early.exposure_start)
            last.append(self._images.stamp(len(self._images) - 1).end)
        self.t_start, self.t_end = min(first), max(last)
        if not 0 <= max(last) - min(first) <= LONGEST_S * 1_000_000 or last[0] < first[0]:
            said = f"from {min(first)} to {max(last)} µs" if last[0] >= first[0] else "backwards"
            raise FormatError(f"{self.path}: its times run {said}; damaged, or the unit of time is another")

    def _microseconds(self, start: int, stop: int) -> Array:
        """The times of events ``start`` to ``stop`` as int64 µs. Raises ``FormatError`` for what is no time."""
        values = self._t.read(start, stop)
        t, bad = infer.microseconds(values, self._scale)
        if bad >= 0:
            raise FormatError(f"{self.path}: {self._t.name}[{start + bad}]: {values[bad]} is no time")
        return t

    def _first_at(self, instant: int) -> int:
        """The index of the first event that is not before ``instant`` (µs)."""
        low, high = 0, self._n
        while high - low > self._chunk:  # by chunk: each look decompresses one
            middle = (low + high) // 2 // self._chunk * self._chunk
            middle = middle if middle > low else low + self._chunk
            if int(self._microseconds(middle, middle + 1)[0]) < instant:
                low = middle
            else:
                high = middle
        return low + int(np.searchsorted(self._microseconds(low, high), instant))

    def counts(self) -> Mapping[str, int]:
        """Events and frames, and the sharp pictures as ``"truth"``; nothing is scanned."""
        counted = {s.name: self._n if s.kind == "events" else len(self._images) for s in self.streams}
        return counted | ({"truth": len(self._sharp)} if len(self._sharp) else {})

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, in runs of about 260k. Raises ``FormatError`` naming the place of
        events that are off the sensor, run backwards or have no polarity."""
        first = 0 if t0 is None else self._first_at(t0)
        end = self._n if t1 is None else self._first_at(t1)
        cuts = [first, *range((first // self._run + 1) * self._run, end, self._run), end]
        bounds = list(pairwise(cuts)) if first < end else []
        newest: int | None = None
        for (at, stop), (t, x, y, p) in zip(bounds, self._runs.read(bounds), strict=True):
            events = Events(t, x, y, self._polarity(p, at, stop))
            wrong = fault(events, self.resolution)
            if not wrong and newest is not None and events.t[0] < newest:
                wrong = "order"
            if wrong:
                raise FormatError(f"{self.path}: {self._words(wrong, events)} among events {at} to {stop}")
            newest = int(events.t[-1])
            yield events.between(-(1 << 62) if t0 is None else t0, 1 << 62 if t1 is None else t1)

    def _xs(self, start: int, stop: int) -> Array:
        return hdf5.coordinates(self.path, f"{self._x.name}[{start}:{stop}]", self._x.read(start, stop))

    def _ys(self, start: int, stop: int) -> Array:
        return hdf5.coordinates(self.path, f"{self._y.name}[{start}:{stop}]", self._y.read(start, stop))

    def _ps(self, start: int, stop: int) -> Array:
        return self._p.read(start, stop)

    def _polarity(self, values: Array, start: int, stop: int) -> Array:
        try:
            p, self._off = infer.polarity(values, self._off)
        except FormatError as error:
            raise self._placed(error, f"events {start} to {stop}: ") from error
        return p

    def _placed(self, error: FormatError, place: str = "") -> FormatError:
        """``error`` with the file's name and a place before it, where it has none yet."""
        said = str(error)
        return error if str(self.path) in said else FormatError(f"{self.path}: {place}{said}")

    def _words(self, wrong: str, events: Events) -> str:
        if wrong == "order":
            return "time runs backwards"
        if wrong == "polarity":
            return f"polarity {events.p.max()}"
        reach = (int(events.x.max()), int(events.y.max()))
        return f"coordinates up to {reach} are off the {self.resolution[0]}x{self.resolution[1]} sensor"

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), in order of time. Raises ``FormatError`` where they are not."""
        return self._images.between(t0, t1, "camera", self._indices.window)

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The pictures of ``sharp_images/`` with ``t0 <= t < t1`` (µs); ``t`` is their ``timestamp``."""
        return self._sharp.between(t0, t1, "truth")

    def close(self) -> None:
        """Let the file go, when what is being read ahead has been read. May be called twice."""
        self._runs.close()
        for column in self._columns:
            column.close()
        self._file.close()
