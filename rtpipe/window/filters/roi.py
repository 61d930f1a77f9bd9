"""Region of interest: a rectangle of the sensor."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import MAX_SIDE, Array, Frame, PackedEvents, Resolution
from rtpipe.window.filters.base import Base

Box = tuple[np.uint16, np.uint16, np.uint16, np.uint16]


@kernel()
def _inside(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    box: Box, moved_x: np.uint16, moved_y: np.uint16,
) -> int:  # fmt: skip
    kept = 0
    left, top, width, height = box
    for i in range(dt.size):
        column = np.uint16(x[i] - left)  # wraps to a large number outside
        row = np.uint16((yp[i] & np.uint16(0x7FFF)) - top)
        keep = (column < width) & (row < height)
        dt_out[kept] = dt[i]
        x_out[kept] = x[i] - moved_x
        yp_out[kept] = yp[i] - moved_y  # the row is at least that, so that the polarity's bit stays
        kept += int(keep)
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The rectangle, in pixels: columns ``x`` to ``x + width - 1``, rows ``y`` to ``y + height - 1``; ``width`` and
    ``height`` reach to the sensor's edge where left out. ``crop``: what comes out has the size of the rectangle, with
    its corner at (0, 0), frames too; without it the sensor keeps its size, and frames stay whole.
    """

    x: int = 0
    y: int = 0
    width: int | None = None
    height: int | None = None
    crop: bool = True

    def __post_init__(self) -> None:
        for name, lowest in (("x", 0), ("y", 0), ("width", 1), ("height", 1)):
            value = getattr(self, name)
            if value is not None and not lowest <= value <= MAX_SIDE:
                raise ValueError(f"{name}: a number from {lowest} to {MAX_SIDE} wanted, got {value}")


class Filter(Base):
    """Keeps the events inside a rectangle. Raises ``InputError`` on ``open`` where the sensor does not hold it."""

    name = "roi"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.geometric = settings.crop

    def frame(self, frame: Frame) -> Frame:
        """The rectangle of the frame, copied; the frame itself without ``crop``."""
        if not self.settings.crop:
            return frame
        left, top, width, height = self._box
        return replace(frame, image=frame.image[top : top + height, left : left + width].copy())

    def _prepare(self, resolution: Resolution) -> Resolution:
        settings, (sensor_width, sensor_height) = self.settings, resolution
        width = sensor_width - settings.x if settings.width is None else settings.width
        height = sensor_height - settings.y if settings.height is None else settings.height
        if min(width, height) < 1 or settings.x + width > sensor_width or settings.y + height > sensor_height:
            raise InputError(
                f"filter roi: columns {settings.x} to {settings.x + width - 1} and rows {settings.y} to "
                f"{settings.y + height - 1} do not lie on a sensor of {sensor_width}x{sensor_height}"
            )
        self._box = settings.x, settings.y, width, height
        return (width, height) if settings.crop else resolution

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        left, top, width, height = (np.uint16(value) for value in self._box)
        moved = (left, top) if self.settings.crop else (np.uint16(0), np.uint16(0))
        box = left, top, width, height
        return _inside(events.dt, events.x, events.yp, room.dt, room.x, room.yp, box, *moved)
