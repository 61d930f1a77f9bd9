"""Flips: for a camera that hangs upside down, or looks into a mirror."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, Frame, PackedEvents
from rtpipe.window.filters.base import Base


@kernel()
def _flip(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    horizontal: bool, vertical: bool, right: np.uint16, bottom: np.uint16,
) -> None:  # fmt: skip
    for i in range(dt.size):
        row = yp[i] & np.uint16(0x7FFF)
        polarity = yp[i] & np.uint16(0x8000)
        dt_out[i] = dt[i]
        x_out[i] = np.uint16(right - x[i]) if horizontal else x[i]
        yp_out[i] = polarity | (np.uint16(bottom - row) if vertical else row)


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``horizontal``: left becomes right; ``vertical``: top becomes bottom; both: turned by 180 degrees."""

    horizontal: bool = False
    vertical: bool = False

    def __post_init__(self) -> None:
        if not (self.horizontal or self.vertical):
            raise ValueError("horizontal: true, vertical: true or both wanted: as it is nothing would be flipped")


class Filter(Base):
    """Mirrors events and frames. Removes nothing."""

    name = "flip"
    geometric = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def frame(self, frame: Frame) -> Frame:
        """The frame mirrored, copied."""
        columns = slice(None, None, -1 if self.settings.horizontal else 1)
        rows = slice(None, None, -1 if self.settings.vertical else 1)
        return replace(frame, image=frame.image[rows, columns].copy())

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        right, bottom = np.uint16(self.resolution[0] - 1), np.uint16(self.resolution[1] - 1)
        _flip(
            events.dt, events.x, events.yp, room.dt, room.x, room.yp,
            self.settings.horizontal, self.settings.vertical, right, bottom,
        )  # fmt: skip
        return len(events)
