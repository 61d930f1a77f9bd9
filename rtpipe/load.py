"""What happens when pictures take longer than they may: windows that waited too long are skipped, or a lighter engine
stands in; and how long is too long.

Keys of a pipeline file's ``engine`` section that are the same for every engine::

    engine: {network: nernet, late: skip, budget_ms: 80, fallback: {network: complementary}}

Latency stays below the budget and one picture's time, whatever the engine: a window is given up before it is begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from rtpipe import registry
from rtpipe.shrink import MOST, Shrunk
from rtpipe.stage import Engine, EngineSpec
from rtpipe.types import Packet, Window
from rtpipe.window.making import EVENTS, NONE
from rtpipe.window.settings import WindowSettings, chosen, misfit

PERIODS = 2.0
"""A window may wait for this many periods of the windows where no budget is set."""

LEAST_MS, MOST_MS = 20.0, 500.0
"""Bounds of that: below, the machine's own hiccups would be skipped over; above, nobody would call it live."""

SMOOTHING = 0.125
"""Share of the newest period in the mean."""


class LoadSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose for every engine."""

    late: Literal["auto", "skip", "wait"] = "auto"
    """Windows that waited longer than the budget are skipped (counted, the next picture marked), or wait their turn;
    ``auto``: skipped of a live camera, never of a recording."""
    budget_ms: Annotated[float, msgspec.Meta(gt=0, le=60_000)] | None = None
    """How long a window may wait between its data's arrival and the engine; left out: two periods, 20 to 500 ms."""
    shrink: Annotated[int, msgspec.Meta(ge=1, le=MOST)] = 1
    """The engine sees and makes pictures of 1/shrink of the width and height, which are enlarged again."""
    fallback: dict[str, Any] | None = None
    """An engine (``{network: NAME}``, its settings, ``shrink``) that makes the pictures of windows that would be
    skipped. One that carries state sees every window."""


KEYS = tuple(field.name for field in msgspec.structs.fields(LoadSettings))


class Patience:
    """How long windows have waited, and whether that is too long. ``skipping`` False: it never is."""

    def __init__(
        self, skipping: bool, budget_ms: float | None = None, now_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._skipping, self._given, self._now = skipping, budget_ms, now_ns
        self._period_us = 0.0
        self._last: tuple[int, int] | None = None

    @property
    def budget_ms(self) -> float:
        """The budget in use."""
        if self._given is not None:
            return self._given
        return min(max(PERIODS * self._period_us / 1e3, LEAST_MS), MOST_MS)

    def late(self, packet: Packet, window: Window) -> bool:
        """Whether the window in this packet waited longer than it may. Called once for each, in order."""
        if self._last is not None and self._last[0] == packet.epoch:
            period = max(0, window.t_end - self._last[1])
            share = SMOOTHING if self._period_us else 1.0
            self._period_us += share * (period - self._period_us)
        self._last = (packet.epoch, window.t_end)
        if not self._skipping or not packet.received_ns:
            return False
        return self._now() - packet.received_ns > self.budget_ms * 1e6


def patience(settings: LoadSettings, live: bool) -> Patience:
    """The settings' patience with a live camera or a recording."""
    return Patience(settings.late == "skip" or (settings.late == "auto" and live), settings.budget_ms)


def shrunk(engine: Engine, factor: int) -> Engine:
    """The engine at 1/``factor`` of the size. Raises ``InputError`` where it cannot be."""
    return engine if factor == 1 else Shrunk(engine, factor)


def fallback(settings: LoadSettings) -> Engine | None:
    """The engine that stands in, made; None where there is none. Raises ``InputError``."""
    if settings.fallback is None:
        return None
    network, factor, rest = apart(settings.fallback)
    module = registry.load("engines", network)
    return shrunk(module.Engine(msgspec.convert(rest, module.Settings)), factor)


def apart(item: dict[str, Any]) -> tuple[str, int, dict[str, Any]]:
    """Network, shrink and the engine's own settings of a checked ``fallback``."""
    rest = {key: value for key, value in item.items() if key not in ("network", "shrink")}
    return item["network"], item.get("shrink", 1), rest


def wants_events(spec: EngineSpec, stand_in: Engine | None) -> bool:
    """Whether windows must hold their events for the fallback, beside what the engine takes."""
    return stand_in is not None and stand_in.spec.representation == EVENTS != spec.representation


def unfit(window: WindowSettings, spec: EngineSpec, stand_in: EngineSpec) -> str:
    """Why an engine cannot stand in for another on these windows; empty where it can."""
    representation, bins = chosen(window, spec)
    if stand_in.representation not in ("", NONE, EVENTS):
        wanted = (stand_in.representation, stand_in.bins or bins)
        if wanted != (representation, bins):
            return (
                f"{stand_in.name} takes {wanted[0]!r} of {wanted[1]} bins, windows here hold {representation!r} of "
                f"{bins}: a fallback takes the same, or 'events'"
            )
        if not _same_table(spec, stand_in):
            return f"{stand_in.name} has other weights, so that its {representation!r} is another"
    elif stand_in.representation == EVENTS and "events" not in window.needs:
        return f"{stand_in.name} takes events, and windows by: {window.by} hold none"
    own = msgspec.structs.replace(window, representation=None, bins=None)
    wrong = misfit(own, stand_in)
    return wrong[1] if wrong is not None and wrong[0] == "by" else ""


def _same_table(one: EngineSpec, other: EngineSpec) -> bool:
    if one.table is None or other.table is None:
        return one.table is other.table
    return bool(np.array_equal(one.table, other.table))
