"""What a pipeline file may say of windows."""

from __future__ import annotations

from typing import Literal

import msgspec

from rtpipe.packing import LONGEST_US
from rtpipe.window.making import EVENTS, FILLERS

MAX_HISTORY_MB = 65_536


class WindowSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How windows are cut, and what they become.

    ``of``: the source whose events and frames are taken. ``by``: ``"exposure"`` of each camera frame, ``"time"``
    (``length_us`` every ``hop_us``, which is the length where left out) or ``"count"`` (``events`` each).
    ``representation`` and ``bins`` follow the engine where left out. ``mode``: time inside a window is measured
    ``"trained"`` from its first to its last event, as the networks learned it (filled at the close), or between its
    ``"edges"`` (filled as packets arrive). ``without_exposure``: what becomes of a frame that has none.
    ``history_mb`` bounds the events that are kept; ``background`` is that of the drawing of events.
    """

    of: str = "camera"
    by: Literal["exposure", "time", "count"] = "exposure"
    length_us: int | None = None
    hop_us: int | None = None
    events: int | None = None
    representation: str | None = None
    bins: int | None = None
    mode: Literal["trained", "edges"] = "trained"
    without_exposure: Literal["pass", "drop"] = "pass"
    history_mb: float = 256.0
    background: Literal["dark", "white"] = "dark"

    def __post_init__(self) -> None:
        for name, wanted in (("length_us", "time"), ("hop_us", "time"), ("events", "count")):
            value = getattr(self, name)
            if value is not None and self.by != wanted:
                raise ValueError(f"{name} belongs to by: {wanted}, not to by: {self.by}")
            if value is not None and not 0 < value <= LONGEST_US:
                raise ValueError(f"{name}: a number from 1 to {LONGEST_US} wanted, got {value}")
        if self.by == "time" and self.length_us is None:
            raise ValueError("by: time needs length_us (µs), and hop_us where windows do not follow one another")
        if self.by == "count" and self.events is None:
            raise ValueError("by: count needs events, the number in each window")
        if self.by == "count" and self.mode == "edges":
            raise ValueError("by: count knows no edges in advance: use mode: trained")
        if self.representation is not None and self.representation not in (*FILLERS, EVENTS):
            raise ValueError(f"representation {self.representation!r}: one of {', '.join((*FILLERS, EVENTS))} wanted")
        if self.bins is not None and not 1 <= self.bins <= 256:
            raise ValueError(f"bins: a number from 1 to 256 wanted, got {self.bins}")
        if not 0 < self.history_mb <= MAX_HISTORY_MB:
            raise ValueError(f"history_mb: a number above 0 and up to {MAX_HISTORY_MB} wanted, got {self.history_mb}")
