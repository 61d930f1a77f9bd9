"""Filters one after the other, made from what a person writes: names, or mappings of a name and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import msgspec

from rtpipe import registry
from rtpipe.errors import InputError
from rtpipe.ledger import Flow
from rtpipe.types import Frame, PackedEvents, Resolution
from rtpipe.window.filters.base import Filter, new_room

Choice: TypeAlias = "str | Mapping[str, Any] | Filter"
"""``"hot_pixels"``, ``{"filter": "background", "duration_us": 2000}``, or a filter that was made already."""


def make(choices: Sequence[Choice]) -> list[Filter]:
    """The filters that are meant, in their order. Raises ``InputError`` that lists what is allowed."""
    return [_make(choice) for choice in choices]


def _make(choice: Choice) -> Filter:
    if not isinstance(choice, str | Mapping):
        return choice
    data = {"filter": choice} if isinstance(choice, str) else dict(choice)
    name = data.pop("filter", None)
    if not isinstance(name, str):
        raise InputError(f"filter: NAME is wanted; installed: {', '.join(registry.names('filters'))}")
    module = registry.load("filters", name)
    allowed = [field.name for field in msgspec.structs.fields(module.Settings)]
    unknown = sorted(map(str, set(data) - set(allowed)))
    if unknown:
        raise InputError(f"filter {name!r} has no setting {', '.join(unknown)}; allowed: {', '.join(allowed)}")
    try:
        filter_: Filter = module.Filter(msgspec.convert(data, module.Settings))
    except (msgspec.ValidationError, ValueError) as error:
        raise InputError(f"filter {name!r}: {error}") from error
    return filter_


class Chain:
    """Filters in a row, in one buffer. ``total`` counts events in and out, and by filter what was removed."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self.filters = tuple(filters)
        self.total = Flow()
        names = [each.name for each in self.filters]
        self._labels = [
            name if names.count(name) == 1 else f"{name} {names[: index + 1].count(name)}"
            for index, name in enumerate(names)
        ]

    @property
    def geometric(self) -> bool:
        """Whether frames must go through it too."""
        return any(each.geometric for each in self.filters)

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``"filters"``, the chain as a whole, then ``"filter NAME"`` for each: events."""
        own = {f"filter {label}": each.flow for label, each in zip(self._labels, self.filters, strict=True)}
        return {"filters": self.total, **own}

    @property
    def facts(self) -> Mapping[str, str]:
        """What the filters say in words."""
        said: dict[str, str] = {}
        for each, label in zip(self.filters, self._labels, strict=True):
            said.update({key if key not in said else f"{key} ({label})": text for key, text in each.facts.items()})
        return said

    def open(self, resolution: Resolution) -> Resolution:
        """Make every filter ready (compiles); returns the size that comes out of the last. Raises ``InputError``."""
        for each in self.filters:
            resolution = each.open(resolution)
        return resolution

    def apply(self, events: PackedEvents, *, owned: bool = False) -> PackedEvents:
        """What all filters keep of ``events``, which must be checked and in order; columns that nobody else holds.

        ``owned``: the columns of ``events`` are the caller's and are worked in.
        """
        n = len(events)
        room = events if owned else new_room(n)
        for each in self.filters:
            before = len(events)
            room = events = each.apply(events, room)
            self.total.drop(each.name, before - len(events))
        self.total.taken += n
        self.total.passed += len(events)
        if 2 * len(events) < n:  # who keeps these few must not keep the room of the many
            return PackedEvents(events.t0, events.dt.copy(), events.x.copy(), events.yp.copy())
        return events

    def refuse(self, n: int, reason: str) -> None:
        """Count events that were not given to the first filter."""
        self.total.taken += n
        self.total.drop(reason, n)

    def frame(self, frame: Frame) -> Frame:
        """The frame in the geometry of the events that come out."""
        for each in self.filters:
            frame = each.frame(frame)
        return frame

    def reset(self) -> None:
        """Time jumped."""
        for each in self.filters:
            each.reset()
