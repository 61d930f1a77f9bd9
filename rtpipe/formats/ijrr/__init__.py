"""Folders of the IJRR event camera dataset (Mueggler et al., 2017), and all that are laid out like it.

``events.txt`` (lines ``t x y p``; or ``events.npz`` with such columns), ``images.txt`` (lines ``t images/FILE``),
``imu.txt`` (lines ``t ax ay az gx gy gz`` in m/s² and rad/s); times in seconds. ``calib.txt`` and ``groundtruth.txt``
are not read. ``events.txt`` may be named instead of its folder, and a text file of events alone opens too; a first line
``width height`` states its geometry.

Two files beside these keep what the layout has no place for: ``exposures.txt`` (lines ``start end`` in seconds, one per
picture) and ``resolution.txt`` (``width height``). They are written by :class:`Writer` and read where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import npz, sensors, zipped
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.event_table import EventTable, unit_clock
from rtpipe.formats.ijrr import text
from rtpipe.formats.ijrr.lines import EventLines, size_line
from rtpipe.formats.ijrr.write import Writer
from rtpipe.formats.pictures import Pictures
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.packing import fault
from rtpipe.types import MAX_SIDE, Array, Events, Frame, Imu, Resolution, StreamInfo

__all__ = ["DESCRIPTION", "SUFFIXES", "Reader", "Writer", "probe"]

DESCRIPTION = "IJRR folder with events.txt, images.txt, imu.txt; or a text file of events"
SUFFIXES = ("/",)

IMU_RUN = 1024
LARGEST_LIST = 1 << 28
"""Bytes of images.txt and exposures.txt, which are kept in memory."""


def probe(path: Path, head: bytes) -> bool:
    """A folder with ``events.txt`` or ``events.npz``, or a text file whose first line is an event or its sensor's size
    before one."""
    if path.is_dir():
        return (path / "events.txt").is_file() or (path / "events.npz").is_file()
    lines = [line for line in head.split(b"\n") if line.strip() and not line.lstrip().startswith(b"#")]
    lines = lines[1:] if lines and size_line(lines[0]) else lines
    if not lines or b"\0" in head:
        return False
    first = lines[0] if len(lines) > 1 or len(head) < text.LONGEST_LINE else b""
    return not text.parse(np.frombuffer(first, np.uint8), text.SHIFTS["ns"], 1).wrong


def _folder_of(path: Path) -> Path | None:
    """The folder of a recording of which ``path`` is the folder or its ``events.txt``; None for a file alone."""
    if path.is_dir():
        return path
    beside = (path.parent / name for name in ("images.txt", "resolution.txt", "imu.txt"))
    return path.parent if path.name == "events.txt" and any(file.is_file() for file in beside) else None


class Reader(Recording):
    """A recording of this kind (see :class:`rtpipe.formats.contract.Reader`), read in constant memory and entered at a
    time by bisection.

    Options settle what the data leave open: ``time_unit`` ``"s"``, ``"ms"``, ``"us"`` or ``"ns"`` of all files;
    ``resolution`` (width, height); ``color`` False to read pictures as grey, True to keep three channels;
    ``exposure_us``: the length of the exposures, about the pictures' times, where no ``exposures.txt`` states them.
    """

    def __init__(
        self,
        path: Path,
        *,
        time_unit: str | None = None,
        resolution: Resolution | None = None,
        exposure_us: int | None = None,
        color: bool | None = None,
    ) -> None:
        self.path = Path(path)
        if time_unit is not None and time_unit not in infer.UNITS:
            raise InputError(f"time_unit {time_unit!r}: {', '.join(infer.UNITS)} wanted")
        if exposure_us is not None and not 0 < exposure_us < LONGEST_S:
            raise InputError(f"exposure_us {exposure_us}: microseconds, at least 1")
        if resolution is not None and not 0 < min(resolution) <= max(resolution) <= MAX_SIDE:
            raise InputError(f"{self.path}: resolution {resolution}: 1 to {MAX_SIDE} pixels wanted")
        self._root = _folder_of(self.path)
        self._archive: zipped.Npz | None = None
        self._lines: EventLines | None = None
        try:
            self._open(time_unit, resolution, exposure_us, color)
        except BaseException:
            self.close()
            raise

    def _open(self, unit: str | None, size: Resolution | None, exposure_us: int | None, color: bool | None) -> None:
        notes: list[str] = []
        listed = self._listed("images.txt")
        words = [line.split() for line in listed]
        if any(len(line) != 2 for line in words):
            raise FormatError(f"{self.path}: images.txt: lines of a time and a file's name wanted")
        unit = self._settle_events(unit, [word[0] for word in words], notes)
        self._shift = text.SHIFTS[unit]
        self._pictures = Pictures(self.path, [self._picture_file(word[1]) for word in words], color)
        notes.extend(self._pictures.notes)
        self._stamps = self._exposed([self._time(word[0], "images.txt") for word in words], exposure_us, notes)
        self._imu_file = self._file("imu.txt")
        self._span()
        self.resolution = self._proven_resolution(size, notes)
        if isinstance(self._events, EventTable):
            self._events.resolution = self.resolution
        streams = [StreamInfo("camera/events", self.resolution)]
        if len(self._pictures):
            streams.append(StreamInfo("camera/frames", self._pictures.size))
        if self._imu_file is not None:
            streams.append(StreamInfo("camera/imu"))
        self.streams = tuple(streams)
        if isinstance(self._events, EventLines) and self._events.off_is_minus:
            notes.append("polarity is -1 and 1")
        self.notes = tuple(notes)

    def _settle_events(self, unit: str | None, stamps: list[str], notes: list[str]) -> str:
        """Open the events and fix their unit of time, told from them and the pictures' times."""
        period = None
        if len(stamps) > 1:
            period = (self._float(stamps[-1]) - self._float(stamps[0])) / (len(stamps) - 1)
        self._events: EventTable | EventLines
        npz_file = self._file("events.npz")
        if self._root is None or npz_file is None or self._file("events.txt") is not None:
            self._lines = self._events = EventLines(self._file("events.txt") or self.path)
            if unit is None:
                unit = self._proven_unit(self._lines, period, notes)
            self._lines.settle(unit)
            return unit
        self._archive = zipped.Npz(npz_file)
        self._events, stated = npz.event_table(self._archive)
        events_unit = unit or stated
        if events_unit is None:
            events_unit, why = self._events.infer_unit()
            notes.append(why)
        notes.extend(self._events.settle(unit_clock(npz_file, infer.UNITS[events_unit])))
        return unit or "s"

    def _proven_unit(self, lines: EventLines, period: float | None, notes: list[str]) -> str:
        head, tail = lines.words()
        sample = np.array([self._float(word) for word in head + tail])
        if not len(sample):
            return "s"
        span = float(sample.max() - sample.min())
        per_line = max(1, sum(len(word) + 8 for word in head) / len(head))
        try:
            unit, why = infer.time_unit(infer.Times(sample, span, int(lines.size / per_line), period))
        except FormatError as error:
            if all(len(word.partition(".")[2]) >= 6 for word in head):  # nobody writes millionths of a microsecond
                return "s"
            raise FormatError(f"{self.path}: {error}") from error
        if unit != "s":  # seconds are what the layout says
            notes.append(f"times are {infer.NAMES[unit]}: {why}")
        return unit

    def _span(self) -> None:
        first: list[int] = []
        last: list[int] = []
        if isinstance(self._events, EventTable):
            edges = (self._events.first, self._events.last) if len(self._events) else None
        else:
            edges = self._events.ends()
        if edges is not None:
            first.append(edges[0])
            last.append(edges[1])
        if len(self._stamps):
            first.append(int(self._stamps[0, 1]))
            last.append(int(self._stamps[-1, 2]))
        if self._imu_file is not None:
            ends = [(int(run.t[0]), int(run.t[-1])) for run in self.imu()]
            first.extend(end[0] for end in ends[:1])
            last.extend(end[1] for end in ends[-1:])
        if not first:
            raise FormatError(f"{self.path}: no events, no pictures and no IMU samples in it")
        self.t_start, self.t_end = min(first), max(last)
        if not 0 <= self.t_end - self.t_start <= LONGEST_S * 1_000_000 or (edges and edges[1] < edges[0]):
            raise FormatError(f"{self.path}: times from {first} to {last} µs: damaged, or the unit of time is another")

    def _proven_resolution(self, told: Resolution | None, notes: list[str]) -> Resolution:
        if told is not None:
            return told
        size = self._lines.header if self._lines is not None else None
        for line in islice(self._listed("resolution.txt"), 1):
            size = size_line(line.encode())
        if size is None and len(self._pictures):
            return self._pictures.size
        if size is not None:
            if not 0 < min(size) <= max(size) <= MAX_SIDE:
                raise FormatError(f"{self.path}: it states a sensor of {size[0]}x{size[1]}")
            return size
        size, why = sensors.fitting(self._events.largest())
        notes.append(why)
        return size

    def _exposed(self, stamps: list[int], exposure_us: int | None, notes: list[str]) -> Array:
        """``t``, start and end of the exposure of every picture [N, 3] µs; all three ``t`` where it is not known."""
        table = np.repeat(np.array(stamps, np.int64)[:, None], 3, axis=1)
        listed = [line.split() for line in self._listed("exposures.txt")]
        if listed:
            if len(listed) != len(stamps) or any(len(line) != 2 for line in listed):
                raise FormatError(f"{self.path}: exposures.txt: two times for each of {len(stamps)} pictures wanted")
            table[:, 1:] = [[self._time(word, "exposures.txt") for word in line] for line in listed]
            if (table[:, 1] > table[:, 0]).any() or (table[:, 0] > table[:, 2]).any():
                raise FormatError(f"{self.path}: exposures.txt: a picture's time lies outside its exposure")
        elif stamps and exposure_us is not None:
            table[:, 1] -= exposure_us // 2
            table[:, 2] = table[:, 1] + exposure_us
            notes.append(f"exposures of {exposure_us} µs about each picture's time, as told")
        elif stamps:
            notes.append("exposures are not in it: exposure_us says their length, about each picture's time")
        if len(table) and (np.diff(table, axis=0) < 0).any():
            raise FormatError(f"{self.path}: images.txt: a picture is earlier than the one before it")
        return table

    def counts(self) -> Mapping[str, int]:
        """Elements per stream; reads the text files once."""
        counted: dict[str, int] = {}
        for stream in self.streams:
            if stream.kind == "events":
                events = self._events
                counted[stream.name] = len(events) if isinstance(events, EventTable) else events.count()
            elif stream.kind == "frames":
                counted[stream.name] = len(self._pictures)
            else:
                counted[stream.name] = sum(len(run) for run in self.imu())
        return counted

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order. Raises ``FormatError`` for a line that is no event, and naming
        the time at which events are off the sensor or run backwards."""
        newest: int | None = None
        for run in self._events.chunks(t0, t1):
            wrong = fault(run, self.resolution)
            if wrong == "order" or (newest is not None and run.t[0] < newest):
                raise FormatError(f"{self.path}: the times of its events run backwards after {run.t[0]} µs")
            if wrong:
                reach = (int(run.x.max()), int(run.y.max()))
                width, height = self.resolution
                raise FormatError(f"{self.path}: events up to {reach} are off the {width}x{height} sensor")
            newest = int(run.t[-1])
            yield run

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """Frames with ``t0 <= t < t1`` (µs), in order of time."""
        low = 0 if t0 is None else int(np.searchsorted(self._stamps[:, 0], t0))
        high = len(self._stamps) if t1 is None else int(np.searchsorted(self._stamps[:, 0], t1))
        for k in range(low, high):
            t, start, end = self._stamps[k].tolist()
            exposure = (start, end) if start < end else (None, None)
            yield Frame(self._pictures.read(k), t, *exposure)

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples with ``t0 <= t < t1`` (µs), in packets of 1024; no temperature (NaN)."""
        if self._imu_file is None:
            return
        newest = -(1 << 62)
        with self._imu_file.open("rb") as stream:
            while lines := list(islice(iter(lambda: stream.readline(text.LONGEST_LINE), b""), IMU_RUN)):
                run = self._samples(lines)
                if not len(run):
                    continue
                if run.t[0] < newest or (np.diff(run.t) < 0).any():
                    raise FormatError(f"{self.path}: imu.txt: time runs backwards after {run.t[0]} µs")
                newest = int(run.t[-1])
                low = 0 if t0 is None else int(np.searchsorted(run.t, t0))
                high = len(run) if t1 is None else int(np.searchsorted(run.t, t1))
                if low < high:
                    columns = (run.t, run.acceleration, run.rotation, run.temperature)
                    yield Imu(*(column[low:high] for column in columns))
                if high < len(run):
                    return

    def _samples(self, lines: Sequence[bytes]) -> Imu:
        words = [line.decode("ascii", "replace").split() for line in lines]
        words = [line for line in words if line and not line[0].startswith("#")]
        if any(len(line) != 7 for line in words):
            raise FormatError(f"{self.path}: imu.txt: lines of seven numbers (t ax ay az gx gy gz) wanted")
        t = np.array([self._time(line[0], "imu.txt") for line in words], np.int64)
        try:
            values = np.array([line[1:] for line in words], np.float32).reshape(-1, 6)
        except ValueError as error:
            raise FormatError(f"{self.path}: imu.txt: a number wanted, {str(error)[:80]!r}") from error
        return Imu(t, values[:, :3].copy(), values[:, 3:].copy(), np.full(len(t), np.nan, np.float32))

    def close(self) -> None:
        """Let the files go. May be called twice."""
        if self._lines is not None:
            self._lines.close()
        if self._archive is not None:
            self._archive.close()

    def _file(self, name: str) -> Path | None:
        """The file of that name in the folder, None where there is none."""
        return self._root / name if self._root is not None and (self._root / name).is_file() else None

    def _listed(self, name: str) -> list[str]:
        """The lines of a small text file in the folder without comments; none where there is no such file."""
        file = self._file(name)
        if file is None:
            return []
        if file.stat().st_size > LARGEST_LIST:
            raise FormatError(f"{self.path}: {name}: more than {LARGEST_LIST} bytes")
        lines = file.read_text("ascii", "replace").splitlines()
        return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]

    def _picture_file(self, name: str) -> Path:
        """A picture's file, which lies inside the folder whatever ``name`` says."""
        assert self._root is not None
        pure = Path(name)
        if "\0" in name or pure.is_absolute() or ".." in pure.parts or len(name) > 200:
            raise FormatError(f"{self.path}: images.txt: {name!r:.80} is not a file in this folder")
        return self._root / pure

    def _time(self, word: str, name: str) -> int:
        try:
            return text.microseconds(word, self._shift)
        except ValueError as error:
            raise FormatError(f"{self.path}: {name}: {error}") from error

    def _float(self, word: str) -> float:
        try:
            value = float(word)
        except ValueError:
            value = np.nan
        if not np.isfinite(value):
            raise FormatError(f"{self.path}: {word!r:.40} is no time")
        return value
