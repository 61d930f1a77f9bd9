"""Who does what a setting asks for: the camera's hardware, this computer, or nobody, which is said in plain words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from drivers.camera.contract import Capability, Where
from drivers.camera.settings import HOST, IDENTITY, Camera
from rtpipe.errors import InputError
from rtpipe.ledger import Flow
from rtpipe.packing import pack
from rtpipe.types import Events, Frame, PackedEvents, Resolution
from rtpipe.window.filters.chain import Chain, make

SWITCHES = ("imu", "triggers", "frames.enabled")
"""Streams that this computer can leave out where the camera cannot."""


def asked(settings: Camera) -> dict[str, Any]:
    """Everything that is set, by name (``"roi"``, ``"frames.exposure_us"``, ``"biases.diff_on"``), as plain values."""
    found: dict[str, Any] = {}
    for each in msgspec.structs.fields(settings):
        value = getattr(settings, each.name)
        if each.name in IDENTITY or value is None or value == "" or value == []:
            continue
        if isinstance(value, dict):
            found.update({f"{each.name}.{name}": number for name, number in value.items()})
        elif each.name == "frames":
            parts = msgspec.to_builtins(value)
            found.update({f"frames.{name}": part for name, part in parts.items() if part not in (None, True)})
        elif each.name not in ("imu", "triggers") or value is False:
            found[each.name] = msgspec.to_builtins(value)
    return found


def where(settings: Camera, capabilities: Sequence[Capability], encoding: str = "") -> dict[str, Where]:
    """Who does each of :func:`asked`. ``encoding``: the camera's own bytes are passed on, where this computer cannot
    change events. Raises ``InputError`` for what neither can do."""
    able = {capability.name: capability.where for capability in capabilities}
    found: dict[str, Where] = {}
    for name in asked(settings):
        if name in able:
            found[name] = able[name]
        elif name in SWITCHES:
            found[name] = "host"
        elif name not in HOST:
            known = sorted(each for each in able if each.startswith(f"{name.partition('.')[0]}."))
            more = f"; it has {', '.join(known)}" if known else ""
            raise InputError(f"{name}: this camera cannot do it, and no computer can instead{more}")
        elif encoding:
            raise InputError(
                f"{name}: this camera's hardware cannot do it, and this computer cannot change {encoding} bytes that "
                "are passed on as they are: leave it out, or set raw: false"
            )
        else:
            found[name] = "host"
    return found


def filters(settings: Camera, done: Mapping[str, Where]) -> list[dict[str, Any]]:
    """The filters (:mod:`rtpipe.window.filters`) for what is done on the host, in the order in which they stand."""
    chosen: list[dict[str, Any]] = []
    host = {name for name, side in done.items() if side == "host"}
    if "mask" in host:
        chosen.append({"filter": "hot_pixels", "pixels": [list(pixel) for pixel in settings.mask], "learn": False})
    if "roi" in host and settings.roi is not None:
        chosen.append({"filter": "roi", "crop": False, **msgspec.to_builtins(settings.roi)})
    if "refractory_us" in host:
        chosen.append({"filter": "refractory", "period_us": settings.refractory_us})
    if "activity_us" in host:
        chosen.append({"filter": "background", "duration_us": settings.activity_us})
    if "trail_us" in host:
        chosen.append({"filter": "trail", "on_us": settings.trail_us, "off_us": settings.trail_us, "reach_us": 0})
    if "rate_limit_mev_s" in host:
        chosen.append({"filter": "rate_limit", "mev_s": settings.rate_limit_mev_s})
    if "flip" in host:
        sides = {"horizontal": settings.flip != "vertical", "vertical": settings.flip != "horizontal"}
        chosen.append({"filter": "flip", **sides})
    return chosen


@dataclass
class Host:
    """The filters of this computer, changed while they run; what each removed is kept over changes."""

    resolution: Resolution
    _chosen: list[dict[str, Any]] = field(default_factory=list)
    _chain: Chain | None = None
    _gone: dict[str, Flow] = field(default_factory=dict)

    def change(self, chosen: list[dict[str, Any]]) -> None:
        """These filters from now on. Compiles what was never used (a second). Raises ``InputError``; the filters are
        then as they were."""
        if chosen == self._chosen:
            return
        chain = Chain(make(chosen)) if chosen else None
        if chain is not None and chain.open(self.resolution) != self.resolution:
            raise InputError("a camera's pictures and events keep the sensor's size")
        for name, flow in self._now().items():
            kept = self._gone.setdefault(name, Flow())
            _add(kept, flow)
        self._chosen, self._chain = chosen, chain

    @property
    def active(self) -> bool:
        """Whether anything is done to events."""
        return self._chain is not None

    @property
    def flows(self) -> dict[str, Flow]:
        """``"filters"`` and each ``"filter NAME"``, all that there ever were."""
        total = {name: Flow(flow.taken, flow.passed, dict(flow.dropped)) for name, flow in self._gone.items()}
        for name, flow in self._now().items():
            _add(total.setdefault(name, Flow()), flow)
        return total

    def _now(self) -> Mapping[str, Flow]:
        return {} if self._chain is None else self._chain.flows

    def events(self, events: Events) -> Events | PackedEvents | None:
        """What the filters keep of events that are on the sensor and in order; None where that is nothing."""
        if self._chain is None:
            return events
        kept = self._chain.apply(pack(events), owned=True)
        return kept if len(kept) else None

    def frame(self, frame: Frame) -> Frame:
        """The frame in the geometry of the events."""
        return frame if self._chain is None else self._chain.frame(frame)

    def reset(self) -> None:
        """Time jumped."""
        if self._chain is not None:
            self._chain.reset()


def _add(to: Flow, flow: Flow) -> None:
    to.taken += flow.taken
    to.passed += flow.passed
    for reason, n in flow.dropped.items():
        to.drop(reason, n)
