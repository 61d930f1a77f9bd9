"""Leaky integration: the simplest picture from events alone, grey where nothing moves.

Each event lifts or lowers its pixel by one step, and every level leaks away with time and a little with each further
event. No thresholds are estimated and nothing is assumed of the scene: what flickers, moves or appears shows at once.
:mod:`engines.complementary` makes better pictures; this one is for a first look, and for cameras on a bench.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np

from engines.decay import Levels, split
from engines.tone import Cleaner, Tones
from rtpipe.stage import EngineSpec
from rtpipe.types import Frame, PackedEvents, Resolution, Window

NAME = "leaky"

STEP = 0.25
"""What one event adds or takes; tones are relative to it."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    decay_ms: Annotated[float, msgspec.Meta(gt=0, le=60_000)] = 150.0
    """Time in which a level falls to 37 % (1/e)."""
    fade: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.1
    """Share of a pixel's level that each of its events makes forget."""
    pictures: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Pictures per window, evenly spread, the last at its end."""
    clean: Annotated[float, msgspec.Meta(ge=0, le=8)] = 1.0
    """Strength of the noise filter on the pictures, in steps; 0: none."""


class Engine:
    """The method, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._tones = Tones(even=True)
        self._make((0, 0))

    def _make(self, resolution: Resolution) -> None:
        self._levels = Levels(NAME, resolution, 1e-3 / self.settings.decay_ms)
        self._cleaner = Cleaner(resolution)
        self.reset()

    @property
    def spec(self) -> EngineSpec:
        """Events alone."""
        return EngineSpec(NAME, "events", needs_frame=False, stateful=True)

    @property
    def facts(self) -> Mapping[str, str]:
        """Nothing is estimated."""
        return {}

    def warm(self, resolution: Resolution) -> None:
        """Compile and make the buffers; forgets every window seen. Blocks for seconds the first time on a machine."""
        self._make(resolution)
        events = PackedEvents(0, np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint16))
        self.infer(Window(0, 1000, 1, events=events))
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self._levels.reset()
        self._tones.reset()

    def infer(self, window: Window) -> Sequence[Frame]:
        """The pictures of this window, uint8 (H, W), in order of time, new arrays. Events that an earlier window had
        are skipped. Raises ``InputError`` for events that do not fit the size that was warmed for."""
        pictures = []
        events = self._levels.begin(window)
        for part, until in split(events, window.t_start, window.t_end, self.settings.pictures):
            elapsed = self._levels.advance(part, until, STEP, STEP, 1 - self.settings.fade)
            cleaned = self._cleaner.clean(self._levels.plane, STEP, self.settings.clean)
            pictures.append(Frame(self._tones.draw(cleaned, STEP, elapsed), until, source=NAME, flags=window.flags))
        return pictures
