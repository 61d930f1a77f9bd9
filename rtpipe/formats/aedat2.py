"""AEDAT 2.0 (.aedat), the files of jAER: events and IMU samples of a DAVIS, events of a DVS128.

Header lines that begin with ``#``, then records of a 32-bit address and a 32-bit time in µs, both big-endian. Of a
DAVIS: bit 31 is 0 for an event (y bits 30 to 22, x 21 to 12, polarity 11, bit 10 an external signal); with bit 31 set,
bits 11 and 10 both set mean one of the seven values of an IMU sample (which: bits 30 to 28; value: 27 to 12), else one
sample of the frame sensor's converter. jAER's origin is the lower left, and the cameras count x from the right: both
are turned round here, as jAER does when it shows them.

Frames are not put together from their samples; ``notes`` says how many samples were left out. Times are 32 bits wide:
where they fall back by more than half of that they have wrapped; where they fall back otherwise the camera's clock was
reset, and such a file is refused.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats.recording import LONGEST_S, Recording
from rtpipe.kernels import kernel
from rtpipe.types import Array, Edge, Events, Frame, Imu, Resolution, StreamInfo, Trigger

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "AEDAT 2.0 of jAER (DAVIS, DVS128)"

MAGIC = b"#!AER-DAT2.0"
RECORD = 8
BLOCK = 1 << 17
"""Records that are decoded at once."""
LARGEST_HEADER = 1 << 24
LAP = 1 << 32
"""µs after which the time in the file begins anew."""
WRAPPED = 1 << 31
"""By how much time must fall back to have wrapped."""
STANDARD_GRAVITY = 9.80665
_LSB_PER_G = {2: 16384, 4: 8192, 8: 4096, 16: 2048}
_LSB_PER_DEGREE = {250: 131.0, 500: 65.5, 1000: 32.8, 2000: 16.4}
"""Sensitivity of the InvenSense IMUs of these cameras by their full scale."""
_EVENT, _IMU, _SAMPLE, _SIGNAL, _OFF = range(5)


@dataclass(frozen=True, slots=True)
class Chip:
    """How a camera's addresses are read: ``resolution`` and whether it is a DAVIS (else a DVS128)."""

    resolution: Resolution
    davis: bool = True


CHIPS = (
    ("dvs128", Chip((128, 128), False)),
    ("davis128", Chip((128, 128))),
    ("davis208", Chip((208, 192))),
    ("davis240", Chip((240, 180))),
    ("davis346", Chip((346, 260))),
    ("davis640", Chip((640, 480))),
)
"""The cameras whose layout is known, by what their class in the header's ``AEChip`` begins with."""


def probe(path: Path, head: bytes) -> bool:  # noqa: ARG001
    """Whether the file begins as an AEDAT 2.0 does."""
    return head.startswith(MAGIC[: max(12, len(head))])


@kernel()
def _split(address: Array, davis: bool, width: int, height: int, kind: Array, x: Array, y: Array, p: Array) -> int:
    """What each record is, and where and which way where it is an event; how many samples of frames there are."""
    samples = 0
    for i in range(address.size):
        a = np.int64(address[i])
        if davis:
            if a >> 31:
                if a & 0xC00 == 0xC00:
                    kind[i] = _IMU
                else:
                    kind[i] = _SAMPLE
                    samples += 1
                continue
            if a & 0x400:
                kind[i] = _SIGNAL
                continue
            column, row, on = a >> 12 & 0x3FF, a >> 22 & 0x1FF, a >> 11 & 1
        else:
            if a & 0x8000:
                kind[i] = _SIGNAL
                continue
            column, row, on = a >> 1 & 0x7F, a >> 8 & 0x7F, 1 - (a & 1)
        if column >= width or row >= height:
            kind[i] = _OFF
            continue
        kind[i] = _EVENT
        x[i] = width - 1 - column
        y[i] = height - 1 - row
        p[i] = on
    return samples


@dataclass(frozen=True, slots=True, eq=False)
class _Records:
    """A run of records: times (µs), addresses, what each is, and of events where and which way."""

    t: Array
    address: Array
    kind: Array
    x: Array
    y: Array
    p: Array

    def events(self) -> Events:
        keep = self.kind == _EVENT
        return Events(self.t[keep], self.x[keep], self.y[keep], self.p[keep])


class Reader(Recording):
    """An AEDAT 2.0 recording (see :class:`rtpipe.formats.contract.Reader`), decoded in constant memory and entered at a
    time by bisection. ``chip`` says which camera it was (``"davis240"``, ``"davis346"``, ``"dvs128"`` …) where the
    header does not."""

    def __init__(self, path: Path, *, chip: str | None = None) -> None:
        self.path = Path(path)
        try:
            self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{self.path}: cannot be read: {error.strerror or error}") from error
        try:
            self._open(chip)
        except BaseException:
            self.close()
            raise

    def _open(self, told: str | None) -> None:
        header, self._begin = self._header()
        name, self._chip = self._known_chip(header, told)
        self.resolution = self._chip.resolution
        size = os.fstat(self._fd).st_size - self._begin
        if size % RECORD:
            raise FormatError(f"{self.path}: cut off within the record at byte {self._begin + size // RECORD * RECORD}")
        self._n = size // RECORD
        if not self._n:
            raise FormatError(f"{self.path}: no events in it")
        self._survey()
        notes = ["x and y are turned round, as jAER shows them"]
        notes += [] if self._chip.davis else ["a DVS128 writes 0 for on, as jAER has it"]
        imu = self._imu_scales(header)
        self._per_g, self._per_degree = imu
        if self._counted["camera/imu"]:
            notes.append(
                f"IMU: {32768 // imu[0]} g and {round(32768 / imu[1], -1):.0f} °/s full scale, by its settings"
            )
        if self._samples:
            notes.append(f"{self._samples} samples of frames are left out: frames of AEDAT 2.0 are not put together")
        streams = [StreamInfo("camera/events", self.resolution, name)]
        streams += [StreamInfo(f"camera/{k}", None, name) for k in ("imu", "triggers") if self._counted[f"camera/{k}"]]
        self.streams = tuple(streams)
        self.notes = tuple(notes)

    def _header(self) -> tuple[str, int]:
        """The header's text, and where the records begin."""
        read = b""
        at = 0
        while True:
            end = read.find(b"\n", at)
            if end >= 0 and read[at : at + 1] == b"#":
                at = end + 1
            elif at < len(read) and read[at : at + 1] != b"#":
                return read[:at].decode("latin-1"), at
            else:
                more = bytes(self._bytes(len(read), 1 << 16))
                if not more or len(read) > LARGEST_HEADER:
                    raise FormatError(f"{self.path}: nothing but a header in it, or a header without end")
                read += more

    def _known_chip(self, header: str, told: str | None) -> tuple[str, Chip]:
        stated = re.search(r"^# *AEChip: *([\w.$]{1,100})", header, re.MULTILINE)
        name = told or (stated[1].rsplit(".", 1)[-1] if stated else "")
        for known, chip in CHIPS:
            if name.lower().startswith(known):
                return name, chip
        offered = ", ".join(known for known, _ in CHIPS)
        said = f"{name!r:.60} is not known" if name else "its header does not name the camera"
        raise (InputError if told else FormatError)(f"{self.path}: {said}; the option chip is one of {offered}")

    def _imu_scales(self, header: str) -> tuple[int, float]:
        """Units per g and per °/s as the camera was set, else as jAER sets it."""
        g = re.search(r'key="ImuAccelScale" value="ImuAccelScaleG(\d{1,2})"', header)
        degrees = re.search(r'key="ImuGyroScale" value="GyroFullScaleDegPerSec(\d{1,4})"', header)
        per_g = _LSB_PER_G.get(int(g[1]) if g else 8, 4096)
        return per_g, _LSB_PER_DEGREE.get(int(degrees[1]) if degrees else 1000, 32.8)

    def _survey(self) -> None:
        """Go through all records once: count, check, and keep when each block begins."""
        self._starts: list[int] = []
        self._bases: list[int] = []
        self._counted = {"camera/events": 0, "camera/imu": 0, "camera/triggers": 0}
        self._samples = 0
        base, before = 0, 0
        for block in range(-(-self._n // BLOCK)):
            t = np.concatenate([[before], self._raw(block)[:, 1].astype(np.int64)])
            steps = np.diff(t)
            fallen = np.flatnonzero(steps < 0)
            if (steps[fallen] > -WRAPPED).any():
                i = fallen[steps[fallen] > -WRAPPED][0]
                raise FormatError(f"{self.path}: record {block * BLOCK + i}: time falls back by {-steps[i]} µs")
            self._bases.append(base + (LAP if 0 in fallen else 0))
            base += LAP * len(fallen)
            before = int(t[-1])
            records = self._records(block)
            self._starts.append(int(records.t[0]))
            off = np.flatnonzero(records.kind == _OFF)
            if len(off):
                a = int(records.address[off[0]])
                width, height = self.resolution
                raise FormatError(
                    f"{self.path}: record {block * BLOCK + off[0]}: {a:#x} is off the {width}x{height} sensor"
                )
            kinds = np.bincount(records.kind, minlength=5)
            self._counted["camera/events"] += int(kinds[_EVENT])
            self._counted["camera/triggers"] += int(kinds[_SIGNAL])
            self._samples += int(kinds[_SAMPLE])
        self.t_start, self.t_end = self._starts[0], int(records.t[-1])
        if self.t_end - self.t_start > LONGEST_S * 1_000_000:
            raise FormatError(f"{self.path}: times from {self.t_start} to {self.t_end} µs: damaged")
        self._per_g, self._per_degree = 1, 1.0
        self._counted["camera/imu"] = sum(len(run) for run in self.imu())

    def counts(self) -> Mapping[str, int]:
        """Elements per stream."""
        return {stream.name: self._counted[stream.name] for stream in self.streams}

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events with ``t0 <= t < t1`` (µs) in order, block by block."""
        for records in self._between(t0, t1):
            events = records.events().between(*_interval(t0, t1))
            if len(events):
                yield events

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:  # noqa: ARG002
        """None: frames are not put together from their samples."""
        return iter(())

    def imu(self, t0: int | None = None, t1: int | None = None) -> Iterator[Imu]:
        """IMU samples with ``t0 <= t < t1`` (µs) along the chip's own axes, block by block; incomplete ones (at the
        file's edges) are left out."""
        waiting = np.empty((0, 2), np.int64)
        for records in self._between(t0, t1, before=1):
            keep = records.kind == _IMU
            parts = np.stack([records.t[keep], records.address[keep]], axis=1)
            parts = np.concatenate([waiting, parts])
            starts = np.flatnonzero(parts[:, 1] >> 28 & 7 == 0)
            whole = starts[starts + 7 <= len(parts)]
            waiting = parts[starts[-1] :] if len(starts) and starts[-1] + 7 > len(parts) else parts[:0]
            rows = parts[whole[:, None] + np.arange(7)]
            rows = rows[(rows[:, :, 1] >> 28 & 7 == np.arange(7)).all(axis=1)]
            low, high = np.searchsorted(rows[:, 0, 0], _interval(t0, t1))
            rows = rows[low:high]
            if len(rows):
                values = (rows[:, :, 1] >> 12 & 0xFFFF).astype(np.uint16).view(np.int16).astype(np.float64)
                acceleration = (values[:, :3] * (STANDARD_GRAVITY / self._per_g)).astype(np.float32)
                rotation = np.radians(values[:, 4:] / self._per_degree).astype(np.float32)
                temperature = (values[:, 3] / 340 + 35).astype(np.float32)
                yield Imu(rows[:, 0, 0].copy(), acceleration, rotation, temperature)

    def triggers(self, t0: int | None = None, t1: int | None = None) -> Iterator[Trigger]:
        """External signals with ``t0 <= t < t1`` (µs): channel 0, without a direction."""
        for records in self._between(t0, t1):
            t = records.t[records.kind == _SIGNAL]
            t = t[slice(*np.searchsorted(t, _interval(t0, t1)))]
            if len(t):
                yield Trigger(t, np.zeros(len(t), np.uint8), np.full(len(t), Edge.PULSE, np.uint8))

    def close(self) -> None:
        """Let the file go. May be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _between(self, t0: int | None, t1: int | None, before: int = 0) -> Iterator[_Records]:
        """The blocks that hold records of ``t0 <= t < t1``, and ``before`` more at the start."""
        start = 0 if t0 is None else max(0, int(np.searchsorted(self._starts, t0)) - 1 - before)
        for block in range(start, len(self._starts)):
            if t1 is not None and self._starts[block] >= t1:
                return
            yield self._records(block)

    def _records(self, block: int) -> _Records:
        raw = self._raw(block)
        t = raw[:, 1].astype(np.int64)
        t += self._bases[block] + LAP * np.cumsum(np.diff(t, prepend=t[0]) < 0)
        address = np.ascontiguousarray(raw[:, 0])
        n = len(address)
        kind, p = np.empty(n, np.uint8), np.empty(n, np.uint8)
        x, y = np.empty(n, np.uint16), np.empty(n, np.uint16)
        _split(address, self._chip.davis, *self.resolution, kind, x, y, p)
        return _Records(t, address.astype(np.int64), kind, x, y, p)

    def _raw(self, block: int) -> Array:
        """Addresses and times of a block, uint32 [n, 2]."""
        n = min(BLOCK, self._n - block * BLOCK) * RECORD
        data = self._bytes(self._begin + block * BLOCK * RECORD, n)
        if len(data) != n:
            raise FormatError(f"{self.path}: it became shorter while it was read")
        return data.view(">u4").astype(np.uint32).reshape(-1, 2)

    def _bytes(self, at: int, n: int) -> Array:
        try:
            return np.frombuffer(os.pread(self._fd, n, at), np.uint8)
        except OSError as error:
            raise FormatError(f"{self.path}: byte {at}: cannot be read: {error.strerror or error}") from error


def _interval(t0: int | None, t1: int | None) -> tuple[int, int]:
    return -(1 << 62) if t0 is None else t0, (1 << 62) if t1 is None else t1
