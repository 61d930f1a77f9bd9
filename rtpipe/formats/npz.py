"""NumPy archives (.npz) of events, and of pictures with their exposures where they are in it.

Events: columns of one length under usual names (``t``, ``t_us``, ``ts``, ``timestamp`` …, ``x``, ``y``, ``p``,
``polarity`` …). Pictures: ``blur``, ``frames`` or ``images``, uint8 or uint16 [N, H, W] or [N, H, W, 3], with
``exp_start_us`` and ``exp_end_us``. Or, as event double integral data sets are passed around: ``tn``, time within the
exposure (0 to 1), and ``idx``, the first event of each picture [N + 1]; the exposures are then laid end to end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import sensors, zipped
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.event_table import Clock, Cursor, EventTable, unit_clock
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.types import MAX_SIDE, Array, Events, Frame, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "NumPy archive (.npz) with columns t, x, y, p and perhaps pictures"

NOMINAL_EXPOSURE_US = 50_000
"""Length of an exposure where times are fractions of one and nobody said how long it was."""
MOST_FRAMES = 1 << 24

NAMES = {
    "t": ("t", "t_us", "t_ns", "t_ms", "t_s", "ts", "timestamp", "timestamps", "time", "tn"),
    "x": ("x", "xs", "x_pos"),
    "y": ("y", "ys", "y_pos"),
    "p": ("p", "ps", "pol", "polarity", "polarities"),
}
"""Under which names a column is looked for, in this order."""
_PICTURES = ("blur", "frames", "images")
_STATED = {"t_us": "us", "t_ns": "ns", "t_ms": "ms", "t_s": "s"}


def probe(path: Path, head: bytes) -> bool:
    """A zip that holds the columns of events; also one too damaged to tell, if its first member is an array."""
    if not head.startswith(zipped.ZIP_MAGIC):
        return False
    try:
        archive = zipped.Npz(path)
    except FormatError:
        return b".npy" in head[:200]
    archive.close()
    return all(any(name in archive.arrays for name in names) for names in NAMES.values())


def columns(archive: zipped.Npz) -> dict[str, str]:
    """The names of the columns t, x, y, p in ``archive``, which have one length. Raises ``FormatError``."""
    found: dict[str, str] = {}
    for column, names in NAMES.items():
        name = next((name for name in names if name in archive.arrays), None)
        if name is None:
            raise FormatError(f"{archive.path}: no column {column} in it; it is looked for as {', '.join(names)}")
        head = archive.arrays[name]
        if head.row_bytes != head.dtype.itemsize or head.dtype.kind not in "biuf":
            raise FormatError(f"{archive.path}: {name} holds {head.dtype} {head.shape}; one number per event wanted")
        found[column] = name
    lengths = {name: archive.arrays[name].shape[0] for name in found.values()}
    if len(set(lengths.values())) > 1:
        raise FormatError(f"{archive.path}: columns of different lengths: {lengths}")
    return found


class _Columns:
    """Cursors in four arrays of an archive, opened as they are asked for."""

    def __init__(self, archive: zipped.Npz, names: Mapping[str, str], opened: ExitStack) -> None:
        self._archive, self._names, self._opened = archive, names, opened
        self._rows: dict[str, zipped.Rows] = {}

    def read(self, column: str, start: int, stop: int) -> Array:
        if column not in self._rows:
            self._rows[column] = self._opened.enter_context(self._archive.rows(self._names[column]))
        return self._rows[column].read(start, stop).reshape(-1)


def event_table(archive: zipped.Npz) -> tuple[EventTable, str | None]:
    """The events of ``archive``, and the unit of time where the name of its column states one."""
    names = columns(archive)

    @contextmanager
    def cursor() -> Iterator[Cursor]:
        with ExitStack() as opened:
            yield _Columns(archive, names, opened)

    table = EventTable(archive.path, archive.arrays[names["t"]].shape[0], cursor)
    return table, _STATED.get(names["t"])


class Reader(Recording):
    """A recording of this kind (see :class:`rtpipe.formats.contract.Reader`), read in constant memory.

    Options settle what the data leave open: ``time_unit`` ``"s"``, ``"ms"``, ``"us"`` or ``"ns"``; ``resolution``
    (width, height); ``exposure_us``, the length of the exposures, where times are fractions of one: without it they
    are counted as 50 ms and ``notes`` says so.
    """

    def __init__(
        self,
        path: Path,
        *,
        time_unit: str | None = None,
        resolution: Resolution | None = None,
        exposure_us: int | None = None,
    ) -> None:
        self.path = Path(path)
        if time_unit is not None and time_unit not in infer.UNITS:
            raise InputError(f"time_unit {time_unit!r}: {', '.join(infer.UNITS)} wanted")
        if exposure_us is not None and not 0 < exposure_us < LONGEST_S:
            raise InputError(f"exposure_us {exposure_us}: microseconds, at least 1")
        if resolution is not None and not 0 < min(resolution) <= max(resolution) <= MAX_SIDE:
            raise InputError(f"{self.path}: resolution {resolution}: 1 to {MAX_SIDE} pixels wanted")
        self._archive = zipped.Npz(self.path)
        try:
            self._open(time_unit, resolution, exposure_us)
        except BaseException:
            self._archive.close()
            raise

    def _open(self, unit: str | None, resolution: Resolution | None, exposure_us: int | None) -> None:
        notes: list[str] = []
        relative = columns(self._archive)["t"] == "tn"
        self._events, stated = event_table(self._archive)
        if not len(self._events):
            raise FormatError(f"{self.path}: no events in it")
        self._pictures = next((name for name in _PICTURES if name in self._archive.arrays), None)
        size = self._picture_size() if self._pictures else None
        if relative:
            clock, exposures = self._laid_end_to_end(exposure_us, notes)
        else:
            if unit is None and stated is None:
                unit, why = self._events.infer_unit()
                notes.append(why)
            clock = unit_clock(self.path, infer.UNITS[unit or stated or "us"])
            exposures = self._stated_exposures()
        self._exposures = exposures
        notes += self._events.settle(clock)
        if size is not None and exposures is None:
            notes.append(f"the pictures in it ({self._pictures}) have no times and are left out")
        if resolution is None and size is not None:
            resolution = size
        elif resolution is None:
            resolution, why = sensors.fitting(self._events.largest())
            notes.append(why)
        self.resolution = self._events.resolution = resolution
        streams = [StreamInfo("camera/events", resolution)]
        first, last = [self._events.first], [self._events.last]
        if size is not None and exposures is not None and len(exposures):
            streams.append(StreamInfo("camera/frames", size))
            first.append(int(exposures[0, 0]))
            last.append(int(exposures[-1, 1]))
            if len(self._archive.arrays[str(self._pictures)].shape) == 4:
                notes.append("pictures of three channels are taken for BGR")
        self.t_start, self.t_end = min(first), max(last)
        if self.t_end - self.t_start > LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: times from {self.t_start} to {self.t_end} µs: damaged, or another unit")
        self.streams = tuple(streams)
        self.notes = tuple(notes)

    def _picture_size(self) -> Resolution:
        head = self._archive.arrays[str(self._pictures)]
        height, width = (*head.shape, 0, 0)[1:3]
        plain = len(head.shape) == 3 or (len(head.shape) == 4 and head.shape[3] == 3)
        if not plain or head.dtype not in (np.uint8, np.uint16) or not 0 < min(height, width) <= max(height, width):
            raise FormatError(f"{self.path}: {self._pictures} holds {head.dtype} {head.shape}; pictures wanted")
        if max(height, width) > MAX_SIDE or head.shape[0] > MOST_FRAMES:
            raise FormatError(f"{self.path}: {self._pictures} holds {head.shape}; no camera makes such pictures")
        return width, height

    def _numbers(self, name: str) -> Array:
        """A short column of finite numbers."""
        read = self._archive.whole(name, MOST_FRAMES).reshape(-1)
        if read.dtype.kind not in "iuf" or not np.isfinite(read).all() or (read.size and np.abs(read).max() > 1 << 53):
            raise FormatError(f"{self.path}: {name}: {read.dtype}: finite numbers wanted")
        return read

    def _laid_end_to_end(self, exposure_us: int | None, notes: list[str]) -> tuple[Clock, Array | None]:
        """Clock and exposures [N, 2] where ``tn`` is time within the exposure."""
        if "idx" not in self._archive.arrays:
            raise FormatError(f"{self.path}: tn is time within an exposure, but there is no idx to say within which")
        idx = self._numbers("idx").astype(np.int64)
        if len(idx) < 2 or (np.diff(idx) < 0).any() or idx[0] != 0 or idx[-1] != len(self._events):
            raise FormatError(f"{self.path}: idx does not divide {len(self._events)} events among pictures")
        if self._pictures and self._archive.arrays[self._pictures].shape[0] != len(idx) - 1:
            raise FormatError(f"{self.path}: idx is for {len(idx) - 1} pictures, {self._pictures} holds another number")
        notes.append("times are fractions of each picture's exposure (tn): the exposures are laid end to end")
        if exposure_us is None:
            exposure_us = NOMINAL_EXPOSURE_US
            notes.append(
                f"how long an exposure was is not in the file: counted as {exposure_us} µs, so speeds and rates are "
                "not the camera's; exposure_us says the true length"
            )
        length, path = exposure_us, self.path
        if length * len(idx) > LONGEST_S * 1_000_000:
            raise FormatError(f"{path}: {len(idx) - 1} exposures of {length} µs are longer than any recording")

        def clock(values: Array, start: int) -> Array:
            within = values.astype(np.float64)
            if not (within.min() >= 0 and within.max() <= 1):
                raise FormatError(
                    f"{path}: tn from {values.min()} to {values.max()} after event {start}; 0 to 1 wanted"
                )
            picture = np.searchsorted(idx[1:], np.arange(start, start + len(values)), side="right")
            return picture * length + np.rint(within * length).astype(np.int64)

        starts = np.arange(len(idx) - 1, dtype=np.int64) * length
        return clock, np.stack([starts, starts + length], axis=1) if self._pictures else None

    def _stated_exposures(self) -> Array | None:
        """The exposures [N, 2] in µs, None where there are none; in order of time."""
        if not self._pictures or not {"exp_start_us", "exp_end_us"} <= set(self._archive.arrays):
            return None
        edges = [np.rint(self._numbers(name)).astype(np.int64) for name in ("exp_start_us", "exp_end_us")]
        if {len(edge) for edge in edges} != {self._archive.arrays[self._pictures].shape[0]}:
            raise FormatError(f"{self.path}: {self._pictures} and its exposures have different lengths")
        exposures = np.stack(edges, axis=1)
        if (np.diff(exposures, axis=0) < 0).any() or (exposures[:, 0] > exposures[:, 1]).any():
            raise FormatError(f"{self.path}: the exposures run backwards")
        return exposures

    def counts(self) -> Mapping[str, int]:
        """Events and frames; nothing is scanned."""
        n = 0 if self._exposures is None else len(self._exposures)
        return {s.name: len(self._events) if s.kind == "events" else n for s in self.streams}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order. What lies before is decompressed, but not kept."""
        return self._events.chunks(t0, t1)

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), in order of time. Raises ``FormatError``."""
        if self._exposures is None or len(self.streams) < 2:
            return
        with self._archive.rows(str(self._pictures)) as rows:
            for k, (start, end) in enumerate(self._exposures.tolist()):
                t = (start + end) // 2
                if t0 is not None and t < t0:
                    continue
                if t1 is not None and t >= t1:
                    return
                image = rows.read(k, k + 1)[0]
                yield Frame(image.astype(image.dtype.newbyteorder("="), copy=False), t, start, end)

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._archive.close()
