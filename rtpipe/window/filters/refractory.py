"""Refractory period: after an event a pixel is dead for a while."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, PackedEvents, Resolution
from rtpipe.window.filters.base import Base
from rtpipe.window.filters.surface import NEVER_US, Surface


@kernel()
def _rested(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    offset: np.uint32, period: np.uint32, width: np.uint32, every: bool, times: Array,
) -> int:  # fmt: skip
    kept = 0
    for i in range(dt.size):
        now = np.uint32(dt[i] + offset)
        at = np.uint64(np.uint32(yp[i] & np.uint16(0x7FFF)) * np.uint32(width) + np.uint32(x[i]))
        last = times[at]
        keep = np.uint32(now - last) >= period
        times[at] = now if keep or every else last
        dt_out[kept] = dt[i]
        x_out[kept] = x[i]
        yp_out[kept] = yp[i]
        kept += int(keep)
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``period_us``: events of a pixel that follow less than this long (µs) after another are removed, whatever their
    polarity. ``after``: that other one is the last ``"kept"`` event, so that a busy pixel still fires once a period, or
    ``"any"`` event, removed ones too, so that a pixel must have been silent for a whole period.
    """

    period_us: int = 1000
    after: Literal["kept", "any"] = "kept"

    def __post_init__(self) -> None:
        if not 1 <= self.period_us < NEVER_US:
            raise ValueError(f"period_us: a number from 1 to {NEVER_US - 1} wanted, got {self.period_us}")


class Filter(Base):
    """Keeps an event if its pixel's last one lies ``period_us`` µs or more back."""

    name = "refractory"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings

    def reset(self) -> None:
        """Every pixel is rested."""
        self._surface.clear()

    def _prepare(self, resolution: Resolution) -> Resolution:
        self._surface = Surface(resolution[0] * resolution[1])
        return resolution

    def _parts(self, events: PackedEvents) -> Iterator[PackedEvents]:
        return self._surface.runs(events)

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        offset, period = self._surface.offset(events.t0), np.uint32(self.settings.period_us)
        return _rested(
            events.dt, events.x, events.yp, room.dt, room.x, room.yp,
            offset, period, np.uint32(self.resolution[0]), self.settings.after == "any", self._surface.times,
        )  # fmt: skip
