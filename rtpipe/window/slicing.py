"""From settings to the rule of when a window opens and closes."""

from __future__ import annotations

from rtpipe.window import (
    between_frames,
    by_count,
    by_exposure,
    by_frame,
    by_mid_exposure,
    by_mixed,
    by_time,
    by_trigger,
)
from rtpipe.window.cut import Slicer
from rtpipe.window.settings import WindowSettings


def slicer(settings: WindowSettings, holding: bool) -> Slicer:
    """A new slicer. ``holding``: open windows hold their events, which ``history_mb`` then bounds too."""
    limit = int(settings.history_mb * 1e6)
    length, events = settings.length_us or 1, settings.events or 1
    passing = settings.without_exposure == "pass"
    if settings.by == "time":
        return by_time.Slicer(length, settings.hop_us or length, holding, limit)
    if settings.by == "count":
        return by_count.Slicer(events, holding, limit)
    if settings.by == "mixed":
        return by_mixed.Slicer(events, length, holding, limit)
    if settings.by == "mid_exposure":
        return by_mid_exposure.Slicer(holding, limit, passing, settings.length_us or by_mid_exposure.LENGTH_US)
    if settings.by == "between_frames":
        return between_frames.Slicer(holding, limit)
    if settings.by == "trigger":
        edge = settings.edge or "rising"
        return by_trigger.Slicer(holding, limit, settings.length_us, settings.offset_us or 0, settings.channel, edge)
    if settings.by == "frame":
        return by_frame.Slicer(holding, limit)
    return by_exposure.Slicer(holding, limit, passing)
