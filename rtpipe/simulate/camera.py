"""The frame sensor: light summed over an exposure, linear, with noise, in eight bits."""

from __future__ import annotations

import msgspec
import numpy as np

from rtpipe.types import Array, Frame, Resolution


class CameraSettings(msgspec.Struct, frozen=True):
    """How the camera takes its pictures. Exposure is automatic: the mean light sets the brightness, not its length."""

    period_us: int = 40_000
    """From frame to frame."""
    exposure_us: int = 26_000
    """Mean length of an exposure."""
    exposure_spread: float = 0.15
    """Lengths are uniform within this share of the mean."""
    black: float = 5.0
    """What the frame's pixels read in the dark, of 255."""
    white: float = 235.0
    """What they read at light 1; lighter is clipped at 255."""
    full_well: float = 20_000.0
    """Electrons at 255: the photons' own noise. 0: none."""
    read_noise: float = 0.8
    """Standard deviation of the read-out, of 255."""
    gain_spread: float = 0.01
    """Standard deviation of the pixels' sensitivity (fixed pattern)."""


def exposures(settings: CameraSettings, duration: int, seed: int = 0) -> list[tuple[int, int]]:
    """Start and end (µs) of the exposures that fit into ``duration`` µs, one in the middle of each whole period."""
    random = np.random.default_rng(np.random.SeedSequence([seed, 3]))
    found = []
    for start in range(0, duration - settings.period_us + 1, settings.period_us):
        length = settings.exposure_us * (1 + settings.exposure_spread * random.uniform(-1, 1))
        half = max(1, min(round(length), settings.period_us) // 2)
        middle = start + settings.period_us // 2
        found.append((middle - half, middle + half))
    return found


class Camera:
    """Turns light into grey pictures, uint8 (H, W). Deterministic by ``seed`` and the order of calls."""

    def __init__(self, resolution: Resolution, settings: CameraSettings | None = None, seed: int = 0) -> None:
        self.settings = settings or CameraSettings()
        width, height = resolution
        self._random = np.random.default_rng(np.random.SeedSequence([seed, 4]))
        self._gain = 1 + self.settings.gain_spread * self._random.standard_normal((height, width))

    def expose(self, light: Array, start: int, end: int) -> Frame:
        """The frame of an exposure (µs) whose mean light was ``light`` float (H, W); its ``t`` is mid-exposure."""
        chosen = self.settings
        value: Array = (chosen.white - chosen.black) * light * self._gain
        if chosen.full_well > 0:
            per_electron = 255 / chosen.full_well
            value = self._random.poisson(np.maximum(value, 0) / per_electron) * per_electron
        value = value + chosen.black + chosen.read_noise * self._random.standard_normal(light.shape)
        return Frame(_eight_bits(value), (start + end) // 2, start, end)

    def ideal(self, light: Array, t: int) -> Frame:
        """What a perfect camera with the same brightness sees in an instant: the truth."""
        chosen = self.settings
        value = chosen.black + (chosen.white - chosen.black) * light
        return Frame(_eight_bits(value), t, source="truth")


def _eight_bits(value: Array) -> Array:
    return np.clip(np.rint(value), 0, 255).astype(np.uint8)
