"""HighREV folders: ``blur/SEQ_00005.png`` with ``event/SEQ_00005_00.npz``, ``_01`` …, and ``sharp/SEQ_00005.png``.

In the event files (``x``, ``y``, ``timestamp``, ``polarity``, each [N, 1]) x is the row and y the column; the last one
of each picture lies after its exposure. The unit of time is documented nowhere; it is proven by how long an exposure
lasts or must be said. Exposures are taken to last from the first to the last event of their picture.

The prepared variant has one ``SEQ_00005.npz`` per picture with ``voxel``, float32 [H, W, 6], and no events: such a
recording gives windows (:meth:`Reader.windows`) and its blurred frames, laid end to end for want of times.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import zipped
from rtpipe.formats.ecm_h5 import infer
from rtpipe.formats.event_table import unit_clock
from rtpipe.formats.pictures import Pictures
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.packing import fault
from rtpipe.types import Array, Events, Frame, StreamInfo, Window

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "HighREV folder: blur/*.png with event/*.npz or voxels"

NOMINAL_EXPOSURE_US = 50_000
"""Length of a picture's window in the prepared variant, which has no times."""
MOST_EVENTS = 1 << 26
"""Events in one of a picture's files; HighREV has some 100,000."""
LARGEST_VOXEL = 1 << 27
"""Bytes of one voxel grid; HighREV's have 48 MB."""

_EVENT_FOLDERS = ("event", "events", "voxel", "voxels")
_PICTURE = re.compile(r"(?P<sequence>.+)_(?P<number>\d{5})\.(?:png|jpg)")
_PART = re.compile(r"(?P<picture>.+_\d{5})_(?P<part>\d{2,})\.npz")
_VOXEL = re.compile(r"(?P<picture>.+_\d{5})\.npz")
_PLAUSIBLE = {"us": (1e3, 1e6), "ms": (1.0, 1e3), "s": (1e-3, 1.0), "ns": (1e6, 1e9)}
"""How long an exposure of 1 ms to 1 s is in each unit of time."""


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """A folder with ``blur/`` and with ``event/`` or ``voxel/`` in it."""
    return path.is_dir() and (path / "blur").is_dir() and any((path / name).is_dir() for name in _EVENT_FOLDERS)


@dataclass(frozen=True, slots=True)
class _Shot:
    """A picture of a sequence: its name, its event files in order (or its voxel grid), and its exposure in µs."""

    name: str
    parts: tuple[Path, ...]
    start: int = 0
    end: int = 0


class Reader(Recording):
    """A HighREV folder (see :class:`rtpipe.formats.contract.Reader`), read file by file.

    ``sequence``: which one, by the first part of its file names, where there are several. ``time_unit`` ``"s"``,
    ``"ms"``, ``"us"`` or ``"ns"`` where the data do not prove it. ``color`` False to read pictures as grey, True to
    keep three channels. ``exposure_us``: the length of a picture's window where there are voxels and no times.
    """

    def __init__(
        self,
        path: Path,
        *,
        sequence: str | None = None,
        time_unit: str | None = None,
        color: bool | None = None,
        exposure_us: int = NOMINAL_EXPOSURE_US,
    ) -> None:
        self.path = Path(path)
        if time_unit is not None and time_unit not in infer.UNITS:
            raise InputError(f"time_unit {time_unit!r}: {', '.join(infer.UNITS)} wanted")
        if not 0 < exposure_us < LONGEST_S:
            raise InputError(f"exposure_us {exposure_us}: microseconds, at least 1")
        pictures = self._pictures_of(sequence)
        shots = self._shots([file.stem for file in pictures])
        blurred = [file for file in pictures if file.stem in shots]
        self._blur = Pictures(self.path, blurred, color)
        self.resolution = self._blur.size
        sharp = [self.path / "sharp" / file.name for file in blurred]
        self._sharp = Pictures(self.path, sharp, color) if sharp[0].is_file() else None
        notes = [f"{len(pictures) - len(blurred)} pictures without events are left out"][: len(pictures) - len(blurred)]
        first = next(iter(shots.values()))
        self.has_events = _PART.fullmatch(first.parts[0].name) is not None
        camera = _sequence(blurred[0])
        streams = [StreamInfo("camera/frames", self.resolution, camera)]
        if self.has_events:
            self._shots_in_order = self._timed(list(shots.values()), time_unit, notes)
            streams.insert(0, StreamInfo("camera/events", self.resolution, camera))
        else:
            notes.append(
                f"voxel grids and no times in it: pictures are laid end to end as exposures of {exposure_us} µs; "
                "exposure_us says another"
            )
            self._shots_in_order = [
                _Shot(shot.name, shot.parts, k * exposure_us, (k + 1) * exposure_us)
                for k, shot in enumerate(shots.values())
            ]
        self.streams = tuple(streams)
        self.t_start, self.t_end = self._shots_in_order[0].start, self._shots_in_order[-1].end
        if self.has_events:
            self.t_end = max(self.t_end, self._last_event())
        self.notes = (*notes, *self._blur.notes)

    def _pictures_of(self, sequence: str | None) -> list[Path]:
        """The blurred pictures of the one sequence, in order."""
        files = sorted(file for file in (self.path / "blur").iterdir() if _PICTURE.fullmatch(file.name))
        there = sorted({_sequence(file) for file in files})
        if sequence is None and len(there) == 1:
            sequence = there[0]
        if sequence not in there:
            shown = ", ".join(there[:8])[:200] + (", …" if len(there) > 8 else "")
            if not there:
                raise FormatError(f"{self.path}: no pictures SEQUENCE_00000.png in blur/")
            if sequence is None:
                raise FormatError(f"{self.path}: several sequences; choose with the option sequence: {shown}")
            raise InputError(f"{self.path}: no sequence {sequence!r:.60}; there is {shown}")
        return [file for file in files if _sequence(file) == sequence]

    def _shots(self, names: list[str]) -> dict[str, _Shot]:
        """The pictures that have events or a voxel grid, by name, in order."""
        found: dict[str, list[tuple[int, Path]]] = {}
        for folder in _EVENT_FOLDERS:
            for file in sorted((self.path / folder).iterdir()) if (self.path / folder).is_dir() else ():
                if part := _PART.fullmatch(file.name):
                    found.setdefault(part["picture"], []).append((int(part["part"]), file))
            if found:
                break
        else:  # no events: voxel grids?
            for folder in _EVENT_FOLDERS:
                for file in sorted((self.path / folder).iterdir()) if (self.path / folder).is_dir() else ():
                    if voxel := _VOXEL.fullmatch(file.name):
                        found.setdefault(voxel["picture"], []).append((0, file))
        shots = {name: _Shot(name, tuple(f for _, f in sorted(found[name]))) for name in names if name in found}
        if not shots:
            raise FormatError(f"{self.path}: none of its pictures has events (event/{names[0]}_00.npz) or a voxel grid")
        return shots

    def _timed(self, shots: list[_Shot], unit: str | None, notes: list[str]) -> list[_Shot]:
        """The pictures with their exposures; settles unit of time and polarity."""
        if unit is None:
            unit, why = self._proven_unit(shots)
            notes.append(why)
        self._clock_scale = infer.UNITS[unit]
        self._off: int | None = None
        timed: list[_Shot] = []
        for shot in shots:
            edges = [run for part in shot.parts[:-1] or shot.parts if len(run := self._times(part))]
            if not edges:
                raise FormatError(f"{self.path}: {shot.name} has no events during its exposure")
            start, end = int(edges[0][0]), int(edges[-1][-1]) + 1  # so that the last event is within
            if start >= end or (timed and start < timed[-1].end - 1):
                raise FormatError(f"{self.path}: the events of {shot.name} are earlier than those before them")
            timed.append(_Shot(shot.name, shot.parts, start, end))
        if timed[-1].end - timed[0].start > LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: events from {timed[0].start} to {timed[-1].end} µs: damaged?")
        notes.append("x and y are exchanged in the files, as in all of HighREV; the size of the pictures agrees")
        notes.append("exposures are taken to last from the first to the last event of each picture")
        if any(len(shot.parts) > 1 for shot in timed):
            notes.append(
                "the last event file of each picture lies after its exposure; events that come again are left out"
            )
        return timed

    def _proven_unit(self, shots: list[_Shot]) -> tuple[str, str]:
        part_times = [self._raw(part, "t") for part in shots[0].parts[:-1] or shots[0].parts]
        ends = np.array([times[k] for times in part_times if len(times) for k in (0, -1)], np.float64)
        span = float(ends.max() - ends.min()) if len(ends) and np.isfinite(ends).all() else 0.0
        units = [unit for unit, (low, high) in _PLAUSIBLE.items() if low < span < high]
        if len(units) != 1:
            raise FormatError(
                f"{self.path}: the events of {shots[0].name} span {span:g}, in no unit of time (or in several) an "
                "exposure of 1 ms to 1 s; say the unit with the option time_unit (s, ms, us, ns)"
            )
        return units[0], f"times are {infer.NAMES[units[0]]}: the events of a picture span {span:g}, 1 ms to 1 s wanted"

    def _raw(self, file: Path, column: str) -> Array:
        """One column of an event file as it is stored, one-dimensional."""
        names = {"t": ("timestamp", "t", "ts"), "x": ("x",), "y": ("y",), "p": ("polarity", "p")}[column]
        archive = zipped.Npz(file)
        try:
            name = next((name for name in names if name in archive.arrays), None)
            if name is None or archive.arrays[name].dtype.kind not in "biuf":
                raise FormatError(f"{file}: no numbers {names[0]} in it")
            return archive.whole(name, MOST_EVENTS).reshape(-1)
        finally:
            archive.close()

    def _times(self, file: Path) -> Array:
        return unit_clock(file, self._clock_scale)(self._raw(file, "t"), 0)

    def _last_event(self) -> int:
        last = self._times(self._shots_in_order[-1].parts[-1])
        return int(last[-1]) if len(last) else self._shots_in_order[-1].end

    def _events_of(self, file: Path) -> Events:
        """The events of one file, sound."""
        t, row, column = self._times(file), self._raw(file, "x"), self._raw(file, "y")
        values = self._raw(file, "p")
        width, height = self.resolution
        if {len(row), len(column), len(values)} != {len(t)}:
            raise FormatError(f"{file}: columns of different lengths")
        if not len(t):
            return Events.empty()
        if not (row.min() >= 0 and column.min() >= 0 and row.max() < height and column.max() < width):
            other = column.max() < height and row.max() < width
            hint = "; here x is the column, unlike in HighREV" if other else ""
            raise FormatError(f"{file}: events up to row {row.max()}, column {column.max()} of {width}x{height}{hint}")
        try:
            p, self._off = infer.polarity(values, self._off)
            events = Events(t, column, row, p)
        except ValueError as error:
            raise FormatError(f"{file}: {error}") from error
        except FormatError as error:
            raise FormatError(f"{file}: {error}") from error
        if fault(events, self.resolution):
            raise FormatError(f"{file}: time runs backwards in it")
        return events

    def counts(self) -> Mapping[str, int]:
        """Events and frames, and the sharp pictures as ``"truth"``; reads all events."""
        counted = {"camera/frames": len(self._blur)}
        if self.has_events:
            counted["camera/events"] = sum(len(run) for run in self.event_chunks())
        return counted | ({"truth": len(self._sharp)} if self._sharp else {})

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, file by file; each once."""
        if not self.has_events:
            return
        shots = self._shots_in_order
        newest: int | None = None
        for shot, following in zip(shots, [*shots[1:], None], strict=True):
            if t0 is not None and following is not None and following.start <= t0:
                continue
            if t1 is not None and shot.start >= t1:
                return
            for part in shot.parts:
                events = self._events_of(part)
                if following is not None:  # what comes again with the next picture
                    events = events[: int(np.searchsorted(events.t, following.start))]
                if not len(events):
                    continue
                if newest is not None and events.t[0] < newest:
                    raise FormatError(f"{part}: its events are earlier than those before them")
                newest = int(events.t[-1])
                low = 0 if t0 is None else int(np.searchsorted(events.t, t0))
                high = len(events) if t1 is None else int(np.searchsorted(events.t, t1))
                if low < high:
                    yield events[low:high]

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The blurred pictures with ``t0 <= t < t1`` (µs), in order."""
        return self._between(self._blur, t0, t1, "camera")

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The sharp pictures with ``t0 <= t < t1`` (µs): the middle of the exposure they belong to."""
        return self._between(self._sharp, t0, t1, "truth") if self._sharp else iter(())

    def _between(self, pictures: Pictures, t0: int | None, t1: int | None, source: str) -> Iterator[Frame]:
        for k, shot in enumerate(self._shots_in_order):
            t = (shot.start + shot.end) // 2
            if (t0 is None or t >= t0) and (t1 is None or t < t1):
                image = pictures.read(k)
                yield Frame(image, t, shot.start, shot.end) if source == "camera" else Frame(image, t, source=source)

    def windows(self) -> Iterator[Window]:
        """Of the prepared variant every picture's window: ``tensor`` float32 [6, H, W], ``frame`` the blurred picture,
        ``n_events`` how many cells are not zero (the number of events is not in the files)."""
        if self.has_events:
            return
        for shot, frame in zip(self._shots_in_order, self.frames(), strict=True):
            tensor = self._voxel(shot.parts[0])
            yield Window(shot.start, shot.end, int(np.count_nonzero(tensor)), tensor, frame=frame)

    def _voxel(self, file: Path) -> Array:
        archive = zipped.Npz(file)
        try:
            head = archive.arrays.get("voxel")
            width, height = self.resolution
            if head is None or head.shape[:2] != (height, width) or len(head.shape) != 3 or head.dtype.kind != "f":
                held = "nothing" if head is None else f"{head.dtype} {head.shape}"
                raise FormatError(f"{file}: voxel holds {held}; numbers [{height}, {width}, bins] wanted")
            if head.shape[0] * head.row_bytes > LARGEST_VOXEL:
                raise FormatError(f"{file}: a voxel grid of {head.shape} is too large")
            grid = archive.whole("voxel", height)
        finally:
            archive.close()
        return np.ascontiguousarray(grid.transpose(2, 0, 1), dtype=np.float32)

    def close(self) -> None:
        """Nothing stays open between reads."""


def _sequence(file: Path) -> str:
    found = _PICTURE.fullmatch(file.name)
    return found["sequence"] if found else ""
