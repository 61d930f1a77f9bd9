"""From the network's image to a picture of 8 bits; a dim one is lifted, which follows the scene slowly."""

from __future__ import annotations

import math

import cv2
import numpy as np

from rtpipe.errors import WorldError
from rtpipe.types import Array

SETTLING_US = 400_000
"""Time constant (µs of the camera) with which the brightness follows the scene."""

BRIGHT = 0.99
"""Share of the pixels that are not brighter than what is lifted: a few glaring ones do not count."""

MOST = 4.0
"""Dim pictures become at most so many times as bright."""

LEVELS = 256


class Finisher:
    """Makes pictures; remembers how bright they were. Not thread-safe.

    ``brightness`` in 0..1: where the brightest parts of the images are darker than this they are lifted to it; 0:
    images stay as they are.
    """

    def __init__(self, brightness: float) -> None:
        self._brightness = brightness
        self.reset()

    def reset(self) -> None:
        """Forget the images seen."""
        self._seen = 0
        self._bright = 0.0
        self.gain = 1.0
        """What the last image was multiplied by."""

    def finish(self, image: Array, elapsed_us: int) -> Array:
        """The picture, a new uint8 (H, W), of an image (1, 1, H, W), float32 in 0..1. ``elapsed_us`` since the one
        before. Raises ``WorldError`` where it holds values that are not numbers."""
        image = image.reshape(image.shape[-2:])
        if not math.isfinite(cv2.sumElems(image)[0]):
            raise WorldError("the network's image holds values that are not finite numbers")
        if self._brightness:
            self._follow(image, elapsed_us)
        picture: Array = cv2.convertScaleAbs(image, None, 255 * self.gain)
        return picture

    def _follow(self, image: Array, elapsed_us: int) -> None:
        counts = cv2.calcHist([image], [0], None, [LEVELS], [0.0, 1.0 + 1 / LEVELS])
        below = np.cumsum(counts)
        bright = float(np.searchsorted(below, BRIGHT * below[-1]) + 1) / LEVELS
        self._seen += 1
        share = max(1 / self._seen, 1 - math.exp(-max(elapsed_us, 0) / SETTLING_US))
        self._bright += share * (bright - self._bright)
        self.gain = min(max(self._brightness / self._bright, 1.0), MOST)
