"""Rate limit: at most so many events a second of stream time, thinned evenly.

Stream time is cut into slots of ``slot_us`` (multiples of it, wherever the stream begins). In each at most
``mev_s * slot_us`` events pass. Which ones: what a picture is made of is how often each pixel fires, so every event of
a slot has the same chance, whatever its pixel, polarity and place in the slot. The chance is the limit over the number
of events in the slot before; the draw is a hash of pixel, polarity and time, so the same events pass in every run and
however packets are cut. Cutting off the end of each slot instead would blacken whatever the sensor reads out last; it
happens only where the rate has just risen, for the rest of that slot, because the limit is a promise.
"""

from __future__ import annotations

import msgspec
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array, PackedEvents, Resolution
from rtpipe.window.filters.base import Base

SLOT_END, SEEN, PASSED, CHANCE = range(4)
ALWAYS = 1 << 32
LONGEST_SLOT_US = 1_000_000


@kernel()
def _thin(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array,
    t0: int, slot: int, limit: int, state: Array,
) -> int:  # fmt: skip
    kept = 0
    end, seen, passed, chance = state[SLOT_END], state[SEEN], state[PASSED], state[CHANCE]
    for i in range(dt.size):
        t = t0 + np.int64(dt[i])
        if t >= end:
            if t - end >= slot:
                seen = 0  # a slot of silence lies between
            chance = ALWAYS if seen <= limit else limit * ALWAYS // seen
            end = (t // slot + 1) * slot
            seen = passed = 0
        seen += 1
        key = np.uint64(x[i]) | np.uint64(yp[i]) << np.uint64(16) | np.uint64(t) << np.uint64(32)
        key *= np.uint64(0x9E3779B97F4A7C15)
        key ^= key >> np.uint64(32)
        key *= np.uint64(0xD6E8FEB86659FD93)
        keep = (np.int64(key >> np.uint64(32)) < chance) & (passed < limit)
        passed += int(keep)
        dt_out[kept] = dt[i]
        x_out[kept] = x[i]
        yp_out[kept] = yp[i]
        kept += int(keep)
    state[SLOT_END], state[SEEN], state[PASSED], state[CHANCE] = end, seen, passed, chance
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``mev_s``: at most so many million events a second pass, in every slot of ``slot_us`` µs of stream time."""

    mev_s: float = 10.0
    slot_us: int = 1000

    def __post_init__(self) -> None:
        if not 1 <= self.slot_us <= LONGEST_SLOT_US:
            raise ValueError(f"slot_us: a number from 1 to {LONGEST_SLOT_US} wanted, got {self.slot_us}")
        if not 1 <= self.mev_s * self.slot_us <= 1e9:
            raise ValueError(
                f"mev_s: {self.mev_s} Mev/s is {self.mev_s * self.slot_us:g} events in a slot of {self.slot_us} µs; "
                "1 to 1,000,000,000 wanted"
            )


class Filter(Base):
    """Passes at most ``mev_s`` million events a second, an even sample of them where there are more."""

    name = "rate_limit"

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self._limit = int(settings.mev_s * settings.slot_us)
        self.reset()

    def reset(self) -> None:
        """The next event begins a slot of its own, after silence."""
        self._state = np.array([np.iinfo(np.int64).min // 2, 0, 0, ALWAYS], np.int64)

    def _prepare(self, resolution: Resolution) -> Resolution:
        return resolution

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        return _thin(
            events.dt, events.x, events.yp, room.dt, room.x, room.yp,
            events.t0, self.settings.slot_us, self._limit, self._state,
        )  # fmt: skip
