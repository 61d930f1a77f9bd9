"""Background activity: an event that no neighbour announced is noise.

T. Delbruck, "Frame-free dynamic digital vision", 2008. Polarity does not matter; a pixel does not support itself;
events that are removed support their neighbours all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, PackedEvents, Resolution
from rtpipe.window.filters.base import Base
from rtpipe.window.filters.surface import NEVER_US, Surface


@kernel()
def _supported(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    offset: np.uint32, duration: np.uint32, stride: np.uint32, times: Array,
) -> int:  # fmt: skip
    kept = 0
    step = np.uint64(stride)
    one = np.uint64(1)
    for i in range(dt.size):
        now = np.uint32(dt[i] + offset)
        at = np.uint64(np.uint32(yp[i] & np.uint16(0x7FFF)) + np.uint32(1)) * step + np.uint64(x[i]) + one
        above, below = at - step, at + step
        newest = max(
            max(max(times[above - one], times[above]), max(times[above + one], times[at - one])),
            max(max(times[at + one], times[below - one]), max(times[below], times[below + one])),
        )
        times[at] = now
        dt_out[kept] = dt[i]
        x_out[kept] = x[i]
        yp_out[kept] = yp[i]
        kept += int(np.uint32(now - newest) < duration)
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``duration_us``: an event is kept if one of its 8 neighbours had an event less than this long ago (µs)."""

    duration_us: int = 2000

    def __post_init__(self) -> None:
        if not 1 <= self.duration_us < NEVER_US:
            raise ValueError(f"duration_us: a number from 1 to {NEVER_US - 1} wanted, got {self.duration_us}")


class Filter(Base):
    """Keeps an event if one of its 8 neighbours had an event less than ``duration_us`` µs before it."""

    name = "background"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def reset(self) -> None:
        """No pixel ever had an event."""
        self._surface.clear()

    def _prepare(self, resolution: Resolution) -> Resolution:
        width, height = resolution
        self._stride = np.uint32(width + 2)  # a border that never has events: no branch at the sensor's edge
        self._surface = Surface((width + 2) * (height + 2))
        return resolution

    def _parts(self, events: PackedEvents) -> Iterator[PackedEvents]:
        return self._surface.runs(events)

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        offset, duration = self._surface.offset(events.t0), np.uint32(self.settings.duration_us)
        return _supported(
            events.dt, events.x, events.yp, room.dt, room.x, room.yp,
            offset, duration, self._stride, self._surface.times,
        )  # fmt: skip
