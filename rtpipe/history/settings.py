"""What a pipeline file may say under ``history``."""

from __future__ import annotations

import math

import msgspec

MAX_SECONDS, MAX_MEGABYTES = 3600.0, 65_536.0


class HistorySettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep the last seconds of a source, to play them again and to save them."""

    of: str = "camera"
    """The source."""
    seconds: float = 10.0
    """So much of the camera's time is kept, where there is room."""
    megabytes: float = 512.0
    """Memory for it (10^6 bytes), never exceeded; at 8 bytes an event, 512 MB hold 64 million."""
    speed: float = 1.0
    """How fast what is kept is played again, until told otherwise: 1 as it was, 0 as fast as possible."""
    dir: str = "recordings"
    """Where ``save`` puts its recordings."""

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= MAX_SECONDS:
            raise ValueError(f"seconds: a number above 0 and up to {MAX_SECONDS:g} wanted, got {self.seconds}")
        if not 1 <= self.megabytes <= MAX_MEGABYTES:
            raise ValueError(f"megabytes: a number from 1 to {MAX_MEGABYTES:g} wanted, got {self.megabytes}")
        if not (math.isfinite(self.speed) and self.speed >= 0):
            raise ValueError(f"speed: a number from 0 (as fast as possible) wanted, got {self.speed}")
