"""What a pipeline file may say of windows, and whether it fits the engine that is to eat them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypeAlias

import msgspec

from rtpipe.packing import LONGEST_US
from rtpipe.stage import EngineSpec
from rtpipe.window.join_settings import JoinSettings
from rtpipe.window.making import EVENTS, FILLERS, MAX_BINS, NONE

By: TypeAlias = Literal[
    "exposure", "mid_exposure", "between_frames", "frame", "time", "count", "mixed", "trigger"
]  # fmt: skip

FRAMED = ("exposure", "mid_exposure", "between_frames", "frame")
"""Windows that carry the camera's frame."""

REPRESENTATIONS = (*FILLERS, EVENTS, NONE)

_NEEDS: Mapping[str, tuple[str, ...]] = {
    "exposure": ("events", "frames"),
    "mid_exposure": ("events", "frames"),
    "between_frames": ("events", "frames"),
    "frame": ("frames",),
    "trigger": ("events", "triggers"),
}
_BELONGS: Mapping[str, tuple[str, ...]] = {
    "length_us": ("time", "mixed", "mid_exposure", "trigger"),
    "hop_us": ("time",),
    "events": ("count", "mixed"),
    "offset_us": ("trigger",),
    "channel": ("trigger",),
    "edge": ("trigger",),
}
_RANGES = {"length_us": (1, LONGEST_US), "hop_us": (1, LONGEST_US), "events": (1, LONGEST_US)}
_RANGES |= {"offset_us": (-LONGEST_US, LONGEST_US), "channel": (0, 255)}

MAX_HISTORY_MB = 65_536


class WindowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How windows are cut, and what they become.

    ``of``: the source whose streams are taken; ``frames``: another source whose frames take the place of its own,
    joined to its clock and view as ``join`` says. ``by``, what a window is:

    - ``"exposure"`` of each camera frame; ``"mid_exposure"``: the window that the recording names for a frame (RLED),
      else ``length_us`` (20 ms where left out) about the middle of its exposure. ``without_exposure``: what becomes of
      a frame that has none;
    - ``"between_frames"``: from each frame to the next, which it carries; ``"frame"``: the frame alone, no events;
    - ``"time"``: ``length_us`` every ``hop_us`` (the length where left out); ``"count"``: ``events`` each; ``"mixed"``:
      ``events`` or ``length_us`` since it opened, whichever comes first;
    - ``"trigger"``: ``length_us`` from each trigger (to the next one where left out), moved by ``offset_us``; those of
      ``channel`` (all where left out) with an ``edge`` that counts (``"rising"`` where left out).

    ``representation`` and ``bins`` follow the engine where left out. ``mode``: time inside a window is measured
    ``"trained"`` from its first to its last event, as the networks learned it (filled at the close), or between its
    ``"edges"`` (filled as packets arrive). ``history_mb`` bounds the events that are kept; ``background`` is that of
    the drawing of events.
    """

    of: str = "camera"
    frames: str | None = None
    join: JoinSettings | None = None
    by: By = "exposure"
    length_us: int | None = None
    hop_us: int | None = None
    events: int | None = None
    offset_us: int | None = None
    channel: int | None = None
    edge: Literal["rising", "falling", "any"] | None = None
    representation: str | None = None
    bins: int | None = None
    mode: Literal["trained", "edges"] = "trained"
    without_exposure: Literal["pass", "drop"] = "pass"
    history_mb: float = 256.0
    background: Literal["dark", "white"] = "dark"

    def __post_init__(self) -> None:
        for name, owners in _BELONGS.items():
            value = getattr(self, name)
            if value is not None and self.by not in owners:
                raise ValueError(f"{name} belongs to by: {' or '.join(owners)}, not to by: {self.by}")
            low, high = _RANGES.get(name, (0, 0))
            if value is not None and name in _RANGES and not low <= value <= high:
                raise ValueError(f"{name}: a number from {low} to {high} wanted, got {value}")
        if self.frames is None and self.join is not None:
            raise ValueError("join says how the frames of another source are joined: name it in frames")
        if self.frames is not None and (self.by not in FRAMED or self.by == "frame"):
            instead = f"use of: {self.frames}" if self.by == "frame" else f"use by: {', '.join(FRAMED[:3])}"
            raise ValueError(f"frames of another source have no place in windows by: {self.by}: {instead}")
        if self.frames == self.of:
            raise ValueError(f"frames: {self.of} is where the events come from, its own frames are taken anyway")
        if self.by == "time" and self.length_us is None:
            raise ValueError("by: time needs length_us (µs), and hop_us where windows do not follow one another")
        if self.by == "count" and self.events is None:
            raise ValueError("by: count needs events, the number in each window")
        if self.by == "mixed" and (self.events is None or self.length_us is None):
            raise ValueError("by: mixed needs events and length_us (µs): the most that a window holds and lasts")
        if self.by in ("count", "mixed") and self.mode == "edges":
            raise ValueError(f"by: {self.by} knows no edges in advance: use mode: trained")
        if self.representation is not None and self.representation not in REPRESENTATIONS:
            raise ValueError(f"representation {self.representation!r}: one of {', '.join(REPRESENTATIONS)} wanted")
        if self.by == "frame" and self.representation not in (None, NONE):
            raise ValueError(
                f"by: frame takes no events, of which representation {self.representation!r} could be made"
            )
        if self.bins is not None and not 1 <= self.bins <= MAX_BINS:
            raise ValueError(f"bins: a number from 1 to {MAX_BINS} wanted, got {self.bins}")
        if not 0 < self.history_mb <= MAX_HISTORY_MB:
            raise ValueError(f"history_mb: a number above 0 and up to {MAX_HISTORY_MB} wanted, got {self.history_mb}")

    @property
    def needs(self) -> tuple[str, ...]:
        """The kinds of the source's streams without which no window can be cut."""
        return _NEEDS.get(self.by, ("events",))


def chosen(settings: WindowSettings, spec: EngineSpec) -> tuple[str, int]:
    """The representation, and its bins (0 where it has none): the settings' word first, then the engine's."""
    name = settings.representation or spec.representation or (NONE if settings.by == "frame" else "")
    return name, settings.bins or spec.bins or (FILLERS[name].bins if name in FILLERS else 0)


def misfit(settings: WindowSettings, spec: EngineSpec) -> tuple[str, str] | None:
    """The setting that does not fit the engine, and why in plain words; None where all do."""
    name, bins = chosen(settings, spec)
    if name not in REPRESENTATIONS:
        known = ", ".join(REPRESENTATIONS)
        return "representation", f"{spec.name} wants windows of {name!r}, which are not among {known}"
    if spec.representation and name != spec.representation:
        return "representation", f"{name!r} does not fit {spec.name}, which takes {spec.representation!r}"
    if name in FILLERS and FILLERS[name].learned and spec.table is None:
        return "representation", f"{name!r} is learned: it comes with an engine's weights, and {spec.name} has none"
    if settings.bins and spec.bins and settings.bins != spec.bins:
        return "bins", f"{settings.bins} does not fit {spec.name}, which takes {spec.bins}"
    fewest, most = (FILLERS[name].fewest, FILLERS[name].most) if name in FILLERS else (0, MAX_BINS)
    if not fewest <= bins <= most:
        allowed = f"{fewest}" if fewest == most else f"at least {fewest} and at most {most}"
        return "bins", f"{name} has {allowed}, not {bins}"
    if settings.by == "frame" and name != NONE:
        return "by", f"frame takes no events, and {spec.name} needs windows of {name!r}"
    if spec.needs_frame and settings.by not in FRAMED:
        return "by", f"{spec.name} needs the camera's frame in each window: use by: {' or by: '.join(FRAMED[:3])}"
    return None
