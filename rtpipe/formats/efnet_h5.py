"""EFNet's processed HDF5: blurry pictures, sharp ones, and for each a voxel grid and a mask instead of events.

``images/image%09d`` uint8 [3, H, W] (BGR), ``sharp_images/image%09d`` likewise, ``voxels/voxel%09d`` float32 [6, H, W],
``masks/mask%09d`` uint8 [1, H, W]. There are no events and no times in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError, InputError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_columns import whole
from rtpipe.formats.recording import Recording
from rtpipe.types import MAX_SIDE, Array, Events, Frame, Resolution, StreamInfo, Window

__all__ = ["DESCRIPTION", "Reader", "probe"]

DESCRIPTION = "EFNet's processed HDF5: pictures with voxel grids and masks"
MOST_BINS = 256


def probe(path: Path, head: bytes) -> bool:
    """An HDF5 file with ``voxels`` and without ``events``."""
    if not head.startswith(hdf5.SIGNATURE):
        return False
    try:
        with hdf5.open_file(path) as file:
            return hdf5.child(path, file, "voxels") is not None and hdf5.child(path, file, "events") is None
    except FormatError:
        return False  # too damaged to tell: ecm_h5 says what is wrong


class _Stack:
    """One group of datasets ``NAME%09d``, by their number."""

    def __init__(self, path: Path, file: Any, groups: tuple[str, ...], name: str) -> None:
        self._path = path
        self.name = next((group for group in groups if hdf5.child(path, file, group) is not None), groups[0])
        self._group = hdf5.child(path, file, self.name)
        self.members: dict[int, str] = {}
        if self._group is None:
            return
        if not hasattr(self._group, "keys"):
            raise FormatError(f"{path}: {self.name} is no group")
        with hdf5.reading(path, self.name):
            for key in self._group:
                number = key.removeprefix(name)
                if number != key and number.isascii() and number.isdigit() and len(number) <= 9:
                    self.members[int(number)] = key

    def node(self, number: int, kinds: str, dims: tuple[int, ...] = (3,)) -> Any:
        """The dataset of that number. Raises ``FormatError``."""
        child = hdf5.child(self._path, self._group, self.members[number])
        return hdf5.dataset(self._path, child, kinds, dims)

    def read(self, number: int, kinds: str, channels: tuple[int, ...], size: Resolution) -> Array:
        """The array [channels, H, W] of that number. Raises ``FormatError`` where it has another shape."""
        node = self.node(number, kinds)
        if node.shape[1:] != size[::-1] or node.shape[0] not in channels:
            width, height = size
            wanted = " or ".join(str(n) for n in channels) if len(channels) < 4 else f"1 to {MOST_BINS}"
            raise FormatError(f"{self._path}: {node.name} is {node.shape}; ({wanted}, {height}, {width}) wanted")
        return whole(self._path, node)


class Reader(Recording):
    """An EFNet file (see :class:`rtpipe.formats.contract.Reader`): frames, truth and ready-made windows, no events.

    It has no times, so pictures are numbered: number k is at ``k * period_us``, and so is its window's start.
    """

    def __init__(self, path: Path, *, period_us: int = 40_000) -> None:
        self.path = Path(path)
        if not 1 <= period_us <= 1_000_000_000:
            raise InputError(f"period_us {period_us}: microseconds from picture to picture, at least 1")
        self._period = period_us
        self._file = hdf5.open_file(self.path)
        try:
            with hdf5.reading(self.path, "its structure"):
                self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        self._images = _Stack(self.path, self._file, ("images",), "image")
        self._sharp = _Stack(self.path, self._file, ("sharp_images",), "image")
        self._voxels = _Stack(self.path, self._file, ("voxels",), "voxel")
        self._masks = _Stack(self.path, self._file, ("masks", "mask"), "mask")
        numbers = sorted({*self._images.members, *self._voxels.members})
        if not self._voxels.members:
            raise FormatError(f"{self.path}: voxels is empty")
        first = self._voxels.node(min(self._voxels.members), "f")
        bins, height, width = first.shape
        if not (1 <= bins <= MOST_BINS and 0 < min(height, width) <= max(height, width) <= MAX_SIDE):
            raise FormatError(f"{self.path}: {first.name} is {first.shape}: no voxel grid [bins, height, width]")
        self._bins = int(bins)
        self.resolution = (int(width), int(height))
        self.t_start = numbers[0] * self._period
        self.t_end = (numbers[-1] + 1) * self._period
        masks = f" and {len(self._masks.members)} masks" if self._masks.members else ", no masks"
        notes = [
            f"no events in it, but {len(self._voxels.members)} voxel grids of {bins} bins{masks}",
            f"no times in it: pictures are numbered, {self._period / 1000:g} ms apart (period_us), without exposures",
        ]
        lacking = len(set(self._images.members) - set(self._voxels.members))
        notes.extend([f"{lacking} pictures have no voxel grid"] if lacking else [])
        self.notes = tuple(notes)
        self.streams = (StreamInfo("camera/frames", self.resolution),) if self._images.members else ()

    def counts(self) -> Mapping[str, int]:
        """Frames, and the sharp pictures as ``"truth"``."""
        counted = {stream.name: len(self._images.members) for stream in self.streams}
        return counted | ({"truth": len(self._sharp.members)} if self._sharp.members else {})

    def event_chunks(self, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:  # noqa: ARG002
        """Nothing: there are no events in it."""
        return iter(())

    def frames(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The blurry pictures with ``t0 <= t < t1`` (µs)."""
        return self._pictures(self._images, "camera", t0, t1)

    def truth(self, t0: int | None = None, t1: int | None = None) -> Iterator[Frame]:
        """The sharp pictures with ``t0 <= t < t1`` (µs)."""
        return self._pictures(self._sharp, "truth", t0, t1)

    def windows(self) -> Iterator[Window]:
        """For each voxel grid a window: ``tensor`` float32 [bins, H, W] as it is stored (not normalised), ``mask``
        uint8 [H, W] 0/1 and ``frame`` where there are such. ``n_events`` counts the cells that are not zero: how many
        events made them is not in the file. Raises ``FormatError``."""
        for number in sorted(self._voxels.members):
            stored = self._voxels.read(number, "f", (self._bins,), self.resolution)
            tensor = np.ascontiguousarray(stored, np.float32)
            if not np.isfinite(tensor).all():
                raise FormatError(f"{self.path}: voxels/{self._voxels.members[number]} holds what is no number")
            t = number * self._period
            yield Window(
                t,
                t + self._period,
                int(np.count_nonzero(tensor)),
                tensor,
                self._mask(number),
                frame=self._frame(self._images, number, "camera") if number in self._images.members else None,
            )

    def close(self) -> None:
        """Let the file go. May be called twice."""
        self._file.close()

    def _pictures(self, stack: _Stack, source: str, t0: int | None, t1: int | None) -> Iterator[Frame]:
        for number in sorted(stack.members):
            t = number * self._period
            if (t0 is None or t >= t0) and (t1 is None or t < t1):
                yield self._frame(stack, number, source)

    def _frame(self, stack: _Stack, number: int, source: str) -> Frame:
        planes = stack.read(number, "u", (1, 3), self.resolution)
        if planes.dtype.itemsize > 2:
            raise FormatError(f"{self.path}: {stack.name}/{stack.members[number]} holds {planes.dtype}, no picture")
        planes = planes.astype(planes.dtype.newbyteorder("="), copy=False)
        image = planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
        return Frame(image, number * self._period, source=source)

    def _mask(self, number: int) -> Array | None:
        if number not in self._masks.members:
            return None
        mask: Array = self._masks.read(number, "bui", (1,), self.resolution)[0]
        return np.asarray(mask != 0, np.uint8)
