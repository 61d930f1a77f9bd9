"""A window's events as a picture for people: ON and OFF in two colours, stronger where more events came."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.types import Array

Background: TypeAlias = Literal["dark", "white"]

LEVELS = 256
FULL = 0.97
"""Share of the pixels with events that are not brighter than full: hot pixels above it do not dim the rest."""

_COLOURS = {  # BGR: background, ON, OFF; apart in hue and in brightness, also for the colour-blind
    "dark": ((20, 16, 14), (60, 190, 255), (255, 120, 30)),
    "white": ((255, 255, 255), (20, 90, 225), (170, 70, 0)),
}


@kernel()
def _draw(counts: Array, colours: Array, histogram: Array, full: float, image: Array) -> None:
    """``counts`` float32 (2, H, W) off, on; ``colours`` float32 (3, 3); ``image`` uint8 (H, W, 3)."""
    off, on = counts[0].reshape(-1), counts[1].reshape(-1)
    pixels = image.reshape(-1, 3)
    histogram[:] = 0
    for i in range(off.size):
        histogram[np.uint64(min(off[i] + on[i], np.float32(255)))] += 1
    wanted = full * (off.size - histogram[0])
    seen, top = 0, 1
    for level in range(1, histogram.size):
        seen += histogram[level]
        top = level
        if seen >= wanted:
            break
    top = max(top, 2)
    ground, warm, cold = colours[0], colours[1], colours[2]
    for i in range(off.size):
        total = off[i] + on[i]
        if total == 0:
            for c in range(3):
                pixels[i, c] = np.uint8(ground[c])
        else:
            strength = np.float32(0.35) + np.float32(0.65) * np.sqrt(min(total / np.float32(top), np.float32(1)))
            share = on[i] / total
            for c in range(3):
                colour = share * warm[c] + (np.float32(1) - share) * cold[c]
                pixels[i, c] = np.uint8(ground[c] + strength * (colour - ground[c]))


class Painter:
    """Draws event counts on a ``"dark"`` or ``"white"`` background. Not thread-safe."""

    def __init__(self, background: Background = "dark") -> None:
        self._colours = np.array(_COLOURS[background], np.float32)
        self._histogram = np.zeros(LEVELS, np.int64)

    def draw(self, counts: Array) -> Array:
        """A new picture, uint8 (H, W, 3) BGR, of ``counts`` as :func:`~rtpipe.window.count.event_count` makes them."""
        image = np.empty((*counts.shape[1:], 3), np.uint8)
        _draw(counts, self._colours, self._histogram, FULL, image)
        return image
