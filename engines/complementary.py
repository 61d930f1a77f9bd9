"""Complementary filter: video from events alone, or from events and slow frames, without a network.

Scheerlinck, Barnes, Mahony: "Continuous-time Intensity Estimation Using Event Cameras", ACCV 2018. Each pixel's log
intensity L obeys dL/dt = E(t) - a (L - R): events E step it by the contrast threshold, and with the cutoff a it falls
back to a reference R. From events alone R = 0: a high-pass that shows what changed lately. With frames R is the log of
the last frame: events give what is fast, frames what is slow, and where a frame is black or white R is trusted less.
Written anew from the paper; what goes beyond it (specks, smoothing, tones, balance of the thresholds, a level that also
fades with each event, a correction when a frame comes) is in :mod:`engines.tone` and the settings.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec
import numpy as np

from engines.decay import Levels, split, tally
from engines.reference import Reference
from engines.tone import Cleaner, Tones
from rtpipe.engine import passed_through
from rtpipe.errors import InputError
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Frame, PackedEvents, Resolution, Window

NAME = "complementary"

ALONE_HZ, WITH_FRAMES_HZ = 0.5, 1.0
"""Cutoffs that are right for most scenes."""

PRIOR = 0.25
"""Contrast threshold (log intensity per event) before anything is known of the camera."""

FADES = 0.05
"""Share of a level that each event of its pixel makes forget, where there are no frames to hold it."""

MOST = 4
"""Events of one pixel and picture that count when on and off are weighed: hot pixels do not tip the balance."""

WEIGHT = 0.25
"""Events per pixel, of each polarity, that the prior of the balance is worth."""

MEMORY = 8.0
"""Events per pixel after which older ones begin to fade from the balance."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user may choose."""

    frames: bool = False
    """Take the camera's frames for what is slow; needs windows ``between_frames``."""
    cutoff_hz: Annotated[float, msgspec.Meta(gt=0, le=1000)] | None = None
    """Changes slower than this fade, towards the last frame where frames are used; left out: 0.5, with frames 1."""
    correction: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.8
    """Share of the difference between picture and frame that goes at once when a frame comes; 0: as in the paper, it
    goes with the cutoff alone."""
    pictures_per_frame: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Pictures per window, evenly spread, the last at its end."""
    contrast_on: Annotated[float, msgspec.Meta(ge=0.01, le=1.5)] | None = None
    """Contrast threshold of on events, log intensity per event; left out: 0.25 for events alone, else estimated."""
    contrast_off: Annotated[float, msgspec.Meta(ge=0.01, le=1.5)] | None = None
    """The same of off events; left out: so that on and off cancel in the long run, or estimated from the frames."""
    fade: Annotated[float, msgspec.Meta(ge=0, lt=1)] | None = None
    """Share of a pixel's level that each of its events makes forget; left out: 0.05 for events alone, 0 with frames."""
    clean: Annotated[float, msgspec.Meta(ge=0, le=8)] = 2.0
    """Strength of the noise filter on the pictures, in contrast thresholds; 0: none."""
    offset: Annotated[float, msgspec.Meta(gt=0, le=0.5)] = 0.012
    """Added to a frame's intensity before its logarithm, as a part of white: the pixel's dark current."""

    @property
    def cutoff(self) -> float:
        """The cutoff in use, Hz."""
        return self.cutoff_hz or (WITH_FRAMES_HZ if self.frames else ALONE_HZ)

    @property
    def fading(self) -> float:
        """The fade per event in use."""
        return self.fade if self.fade is not None else 0.0 if self.frames else FADES


class Engine:
    """The method, ready to run; call :meth:`warm` first. Not thread-safe; keeps its state from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._rate = 2 * math.pi * self.settings.cutoff * 1e-6
        self._reference = Reference(self.settings.offset, PRIOR)
        self._tones = Tones()
        self._make((0, 0))

    def _make(self, resolution: Resolution) -> None:
        self._size = resolution
        self._levels = Levels(NAME, resolution, self._rate)
        self._cleaner = Cleaner(resolution)
        self.reset()

    @property
    def spec(self) -> EngineSpec:
        """Events, and frames where they are used."""
        return EngineSpec(NAME, "events", needs_frame=self.settings.frames, stateful=True)

    @property
    def contrast(self) -> tuple[float, float]:
        """The contrast thresholds (on, off) in use, log intensity per event."""
        set_on, set_off = self.settings.contrast_on, self.settings.contrast_off
        if self.settings.frames:
            return set_on or self._reference.on, set_off or self._reference.off
        on = set_on or PRIOR
        off_seen, on_seen = self._seen + WEIGHT * max(self._levels.values.size, 1)
        return on, set_off or on * float(np.clip(on_seen / off_seen, 0.5, 2))

    @property
    def facts(self) -> Mapping[str, str]:
        """The thresholds in use, for the status line and the run's report."""
        on, off = self.contrast
        return {"contrast": f"{on:.2f}/{off:.2f}"}

    def warm(self, resolution: Resolution) -> None:
        """Compile, for frames of every kind where they are used, and make the buffers; forgets every window seen.
        Blocks for up to a minute the first time on a machine, then for a moment."""
        width, height = resolution
        self._make(resolution)
        events = PackedEvents(0, np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint16))
        kinds = [(dtype, shape) for dtype in (np.uint8, np.uint16) for shape in ((height, width), (height, width, 3))]
        for dtype, shape in kinds if self.settings.frames else kinds[:1]:
            for end in (1000, 2000, 3000):
                self.infer(Window(end - 1000, end, 1, events=events, frame=Frame(np.zeros(shape, dtype), end)))
            self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self._levels.reset()
        self._reference.reset()
        self._tones.reset()
        self._seen = np.zeros(2)

    def infer(self, window: Window) -> Sequence[Frame]:
        """The pictures of this window, in order of time, new arrays: uint8 (H, W) from events alone, else of the
        frames' own kind. A picture at a frame's time is made before that frame is taken in; the first frame of all
        comes out as it came, flagged ``PASSED_THROUGH``. Events that an earlier window had are skipped.

        Raises ``InputError`` for events or a frame that do not fit the size that was warmed for.
        """
        frame = self._checked(window.frame) if self.settings.frames else None
        events = self._levels.begin(window)
        if self.settings.frames and not self._reference.shown:
            if frame is None:
                return ()
            self._levels.advance(events, window.t_end, 0.0, 0.0, 1.0)
            self._take(frame)
            return (passed_through(frame, window.flags),)
        pictures = []
        for part, until in split(events, window.t_start, window.t_end, self.settings.pictures_per_frame):
            elapsed = self._levels.advance(part, until, *self.contrast, 1 - self.settings.fading)
            pictures.append(Frame(self._picture(elapsed), until, source=NAME, flags=window.flags))
        if frame is not None:
            self._take(frame)
        return pictures

    def _checked(self, frame: Frame | None) -> Frame | None:
        width, height = self._size
        if frame is not None:
            kind, shape = frame.image.dtype, frame.image.shape
            if kind not in (np.uint8, np.uint16) or shape not in ((height, width), (height, width, 3)):
                wanted = f"grey or BGR frames of {width}x{height}, 8 or 16 bits"
                raise InputError(f"{NAME} takes {wanted}, not {kind} {shape}")
        return frame

    def _take(self, frame: Frame) -> None:
        levels = self._levels
        self._reference.take(frame, self._rate, self.settings.correction, levels.values, levels.rates, levels.counts)
        levels.even = False

    def _picture(self, elapsed: int) -> Array:
        plane, threshold = self._levels.plane, sum(self.contrast) / 2
        if self.settings.frames:
            cleaned = self._cleaner.clean(self._reference.logs + plane, threshold, self.settings.clean)
            return self._reference.picture(plane, cleaned, threshold)
        self._seen += tally(self._levels.counts, MOST)
        self._seen *= min(1.0, MEMORY * plane.size / max(float(self._seen.sum()), 1.0))
        return self._tones.draw(self._cleaner.clean(plane, threshold, self.settings.clean), threshold, elapsed)
