"""Downsampling: a block of pixels becomes one pixel.

Plain (``events_per_event: 1``): coordinates are divided by ``factor``, rounded down; every event of a block becomes an
event of its pixel, so that the event rate stays and the rate per pixel grows by ``factor`` squared. With
``events_per_event: n`` a pixel adds up the polarities (+1, -1) of its block and emits one event, with the time of the
event that completes it, when the sum reaches n or -n; it then begins again at 0. Opposite events, noise above all,
cancel. A change of brightness that covers the block gives ``factor`` squared events, so n = ``factor`` squared keeps
the contrast threshold of the camera.

Columns and rows beyond the last whole block (346 / 4 leaves 2) are removed.
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Frame, PackedEvents, Resolution
from rtpipe.window.filters.base import Base

OUTSIDE = np.uint16(0xFFFF)


@kernel()
def _divide(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array, columns: Array, rows: Array
) -> int:
    kept = 0
    for i in range(dt.size):
        column = columns[x[i]]
        row = rows[yp[i] & np.uint16(0x7FFF)]
        dt_out[kept] = dt[i]
        x_out[kept] = column
        yp_out[kept] = row | (yp[i] & np.uint16(0x8000))
        kept += int(column != OUTSIDE and row != OUTSIDE)
    return kept


@kernel()
def _integrate(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    columns: Array, rows: Array, width: np.uint32, needed: np.int32, sums: Array,
) -> int:  # fmt: skip
    kept = 0
    for i in range(dt.size):
        column = columns[x[i]]
        row = rows[yp[i] & np.uint16(0x7FFF)]
        if column == OUTSIDE or row == OUTSIDE:
            continue
        polarity = yp[i] & np.uint16(0x8000)
        at = np.uint64(np.uint32(row) * np.uint32(width) + np.uint32(column))
        total = sums[at] + (np.int32(1) if polarity else np.int32(-1))
        if total == needed or total == -needed:
            dt_out[kept] = dt[i]
            x_out[kept] = column
            yp_out[kept] = row | polarity
            kept += 1
            total = np.int32(0)
        sums[at] = total
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``factor``: pixels along each side of a block that becomes one pixel. ``events_per_event``: how many more events
    of one polarity than of the other a block needs to emit one; 1: every event is passed."""

    factor: int = 2
    events_per_event: int = 1

    def __post_init__(self) -> None:
        if not 2 <= self.factor <= 1024:
            raise ValueError(f"factor: a number from 2 to 1024 wanted, got {self.factor}")
        if not 1 <= self.events_per_event <= 1 << 24:
            raise ValueError(f"events_per_event: a number from 1 to {1 << 24} wanted, got {self.events_per_event}")


class Filter(Base):
    """Divides the sensor's sides by ``factor``; frames are averaged over each block."""

    name = "downsample"
    geometric = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def frame(self, frame: Frame) -> Frame:
        """Each block's mean."""
        width, height = self._size
        factor = self.settings.factor
        whole = np.ascontiguousarray(frame.image[: height * factor, : width * factor])
        return replace(frame, image=cv2.resize(whole, self._size, interpolation=cv2.INTER_AREA))

    def reset(self) -> None:
        """Sums that are not complete are void."""
        self._sums[:] = 0

    def _prepare(self, resolution: Resolution) -> Resolution:
        factor = self.settings.factor
        self._size = width, height = resolution[0] // factor, resolution[1] // factor
        if min(self._size) < 1:
            raise InputError(
                f"filter downsample: a sensor of {resolution[0]}x{resolution[1]} has no block of {factor}x{factor}"
            )
        self._columns, self._rows = (_blocks(side, factor) for side in resolution)
        self._sums = np.zeros(width * height, np.int32)
        return self._size

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        columns = events.dt, events.x, events.yp, room.dt, room.x, room.yp, self._columns, self._rows
        if self.settings.events_per_event == 1:
            return _divide(*columns)
        needed = np.int32(self.settings.events_per_event)
        return _integrate(*columns, np.uint32(self._size[0]), needed, self._sums)


def _blocks(side: int, factor: int) -> Array:
    """The block of each coordinate, ``OUTSIDE`` beyond the last whole one: a look-up, not a division per event."""
    blocks = (np.arange(side) // factor).astype(np.uint16)
    blocks[side // factor * factor :] = OUTSIDE
    return blocks
