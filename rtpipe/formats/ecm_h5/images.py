"""The pictures of a file in the events_contrast_maximization layout: ``images/`` and ``sharp_images/``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_columns import whole
from rtpipe.types import MAX_SIDE, Array, Frame, Resolution


class Stamp(NamedTuple):
    """When a picture was taken, µs: see :class:`rtpipe.types.Frame`."""

    t: int
    exposure_start: int | None
    exposure_end: int | None

    @property
    def end(self) -> int:
        """When it can be sent."""
        return self.t if self.exposure_end is None else self.exposure_end


class Images:
    """One group of pictures, in order of their names; times and pixels are read when they are asked for."""

    def __init__(self, path: Path, file: Any, group: str) -> None:
        self._path = path
        self._sharp = group == "sharp_images"
        self._group = hdf5.child(path, file, group)
        self._names: list[str] = []
        if self._group is not None:
            if not hasattr(self._group, "keys"):
                raise FormatError(f"{path}: {group} is no group of pictures")
            with hdf5.reading(path, group):
                self._names = sorted((n for n in self._group if n.startswith("image")), key=lambda n: (len(n), n))
        self._scale = 1.0
        self._exposure_us: int | None = None
        self._grey = False
        self._told_grey = False
        self.size: Resolution = (0, 0)
        if self._names:
            height, width = self._node(0).shape[:2]
            self.size = (width, height)

    def __len__(self) -> int:
        return len(self._names)

    def stamps(self) -> list[float]:
        """``timestamp`` of the first few pictures and of the last, in the file's unit."""
        which = sorted({*range(min(8, len(self))), len(self) - 1}) if len(self) else []
        return [self._number(self._node(k), "timestamp") for k in which]

    def settle(self, scale: float, exposure_us: int | None, color: bool | None) -> list[str]:
        """Fix the unit (µs per unit), the exposure where none is stated, and whether three channels are read as grey;
        returns notes. Left open (None), pictures whose channels are all equal are read as grey."""
        self._scale = scale
        self._exposure_us = None if self._sharp else exposure_us
        notes: list[str] = []
        if not len(self):
            return notes
        first = self._node(0)
        if first.ndim == 3 and color is None:
            self._grey = all(_is_grey(self._pixels(k)) for k in sorted({0, len(self) // 2, len(self) - 1}))
            notes.extend(["pictures have three equal channels: read as grey"] if self._grey else [])
        elif first.ndim == 3:
            self._grey = not color
        self._told_grey = color is False
        if self.stamp(0).exposure_start is None and not self._sharp:
            notes.append("exposures are not in the file (t is the end of a nominal one): exposure_us says their length")
        elif self._exposure_us is not None and hdf5.number(self._path, first, "exposure_start") is None:
            notes.append(f"exposures of {exposure_us} µs before each picture's timestamp, as told")
        return notes

    def stamp(self, k: int) -> Stamp:
        """When picture ``k`` was taken."""
        node = self._node(k)
        end = self._us(node, "timestamp")
        if self._sharp:
            return Stamp(end, None, None)
        exposure = [hdf5.number(self._path, node, name) for name in ("exposure_start", "exposure_end")]
        if exposure[0] is not None and exposure[1] is not None:
            start, end = self._us(node, "exposure_start"), self._us(node, "exposure_end")
            if start > end:
                raise FormatError(f"{self._path}: {node.name}: its exposure ends before it starts")
        elif self._exposure_us is not None:
            start = end - self._exposure_us
        else:
            return Stamp(end, None, None)
        return Stamp((start + end) // 2, start, end)

    def between(
        self,
        t0: int | None,
        t1: int | None,
        source: str,
        window: Callable[[int, Stamp], tuple[int, int] | None] = lambda _k, _stamp: None,
    ) -> Iterator[Frame]:
        """Pictures with ``t0 <= t < t1`` (µs) in order, each with what ``window`` says of it. Raises ``FormatError``
        where their times run backwards."""
        low, high = 0, len(self)
        while t0 is not None and low < high:
            middle = (low + high) // 2
            if self.stamp(middle).t < t0:
                low = middle + 1
            else:
                high = middle
        before: Stamp | None = None
        for k in range(low, len(self)):
            stamp = self.stamp(k)
            if before is not None and (stamp.t < before.t or stamp.end < before.end):
                raise FormatError(f"{self._path}: {self._node(k).name} is earlier than the picture before it")
            before = stamp
            if t1 is not None and stamp.t >= t1:
                return
            start, end = window(k, stamp) or (None, None)
            yield Frame(
                self._pixels(k),
                stamp.t,
                stamp.exposure_start,
                stamp.exposure_end,
                source,
                window_start=start,
                window_end=end,
            )

    def _node(self, k: int) -> Any:
        node = hdf5.dataset(self._path, hdf5.child(self._path, self._group, self._names[k]), "u", (2, 3))
        shape, dtype = node.shape, node.dtype
        plain = shape[2:] in ((), (1,), (3,)) and 0 < min(shape) <= max(shape) <= MAX_SIDE
        if not plain or dtype.itemsize > 2:
            raise FormatError(f"{self._path}: {node.name}: {dtype} {shape}: no picture of 8 or 16 bit, grey or BGR")
        if self.size != (0, 0) and shape[:2] != self.size[::-1]:
            raise FormatError(f"{self._path}: {node.name}: its size {shape} is not that of the first picture")
        return node

    def _pixels(self, k: int) -> Array:
        node = self._node(k)
        image = whole(self._path, node)
        if image.dtype.byteorder == ">":
            image = image.astype(image.dtype.newbyteorder("="))
        if image.shape[2:] == (1,):
            return image[:, :, 0]
        if image.ndim == 3 and self._grey:
            if _is_grey(image):
                return np.ascontiguousarray(image[:, :, 0])
            if self._told_grey:
                return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY))
            raise FormatError(f"{self._path}: {node.name} is in colour, others are grey: set the option color")
        return image

    def _number(self, node: Any, attribute: str) -> float:
        value = hdf5.number(self._path, node, attribute)
        if value is None:
            raise FormatError(f"{self._path}: {node.name} has no {attribute}")
        return value

    def _us(self, node: Any, attribute: str) -> int:
        value = self._number(node, attribute) * self._scale
        if abs(value) >= 1 << 61:
            raise FormatError(f"{self._path}: {node.name}: {attribute} {value:g} µs is no time")
        return round(value)


def _is_grey(image: Array) -> bool:
    return bool(np.array_equal(image[..., 0], image[..., 1]) and np.array_equal(image[..., 0], image[..., 2]))
