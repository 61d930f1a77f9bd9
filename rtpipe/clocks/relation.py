"""How the clocks of a run's sources lie to one another, by way of this computer's."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec

from rtpipe.clocks.host import CameraClock


class Clock(msgspec.Struct, frozen=True):
    """A source's clock on this computer's, as it is now: its instant ``t_us`` was ``host_ns`` (CLOCK_MONOTONIC), to
    within ``uncertainty_us``, beside the constant part of the way from the sensor. ``drift``: host time per camera
    time, less one; good near ``t_us``."""

    t_us: int
    host_ns: int
    drift: float
    uncertainty_us: float

    def at(self, t_us: int) -> int:
        """When, on this computer's clock (ns), the source's instant ``t_us`` was."""
        since = (t_us - self.t_us) * 1000
        return self.host_ns + since + round(self.drift * since)


def reading(clock: CameraClock) -> Clock | None:
    """What the estimate says now; None while it is not steady."""
    if not clock.steady:
        return None
    t = clock.newest_us
    return Clock(t, clock.host_ns(t), clock.drift, clock.uncertainty_ns / 1e3)


class Relation(msgspec.Struct, frozen=True):
    """``source``'s time plus ``offset_us`` is ``to``'s at the same moment, when it was ``at_us`` there; ``drift_ppm``:
    how much faster ``to`` counts. ``by``: ``"hardware"`` where both run on a synchronisation cable, else ``"host"``."""

    source: str
    to: str
    offset_us: int
    at_us: int
    drift_ppm: float
    uncertainty_us: float
    by: str

    @property
    def words(self) -> str:
        """For people."""
        sign = "-" if self.offset_us < 0 else "+"
        offset = f"{sign} {abs(self.offset_us) / 1e3:,.3f} ms ±{self.uncertainty_us / 1e3:.3f}"
        return f"{self.to} = {self.source} {offset}, drift {self.drift_ppm:.1f} ppm (by {self.by})"


def relations(clocks: Mapping[str, Clock], synchronised: frozenset[str] = frozenset()) -> list[Relation]:
    """Every source's relation to the first one. ``synchronised``: those on one synchronisation cable."""
    names = list(clocks)
    found = []
    for name in names[1:]:
        first, own = clocks[names[0]], clocks[name]
        ahead_ns = first.host_ns - own.host_ns
        at = own.t_us + round(ahead_ns / (1000 * (1 + own.drift)))  # the source's time at first.t_us
        by = "hardware" if {names[0], name} <= synchronised else "host"
        doubt = first.uncertainty_us + own.uncertainty_us
        drift_ppm = (own.drift - first.drift) * 1e6
        found.append(Relation(name, names[0], first.t_us - at, first.t_us, round(drift_ppm, 3), round(doubt, 1), by))
    return found


def words_of(text: str) -> list[str]:
    """The relations that :func:`as_json` wrote, for people; none where it is not of that kind."""
    try:
        found = msgspec.json.decode(text, type=_Noted).relations
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return [each.words[:200] for each in found[:16]]


class _Noted(msgspec.Struct):
    relations: list[Relation] = []


def as_json(clocks: Mapping[str, Clock], synchronised: frozenset[str] = frozenset()) -> str:
    """Clocks and their relations, to keep with a recording."""
    found = relations(clocks, synchronised)
    return json.dumps({"clocks": msgspec.to_builtins(clocks), "relations": msgspec.to_builtins(found)})
