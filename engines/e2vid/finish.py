"""From a network's image to a picture of 8 bits, as the published code does it: sharpened, brought to black and white,
and cropped last, since sharpening and tones are taken from the padded image.

An unsharp mask subtracts a part of the image's blur. Tones: ``"follow"`` takes as black and white the medians of the
darkest and brightest values of the last eleven images, within bounds ("auto HDR"); ``"fixed"`` takes given ones; both
cut fractions off. ``"percentiles"`` is how E2VID is scored elsewhere (EVREAL): the image as it came, cropped first, its
own 1st and 99th percentile black and white, fractions rounded.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import NormalDist, median
from typing import Literal, TypeAlias

import cv2
import numpy as np

from rtpipe.errors import WorldError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Resolution

Tones: TypeAlias = Literal["follow", "fixed", "percentiles"]

SIGMA, TAPS = 1.0, 5
"""Of the unsharp mask's blur: standard deviation and side of its kernel, pixels."""

DARKEST, BRIGHTEST = (0.0, 0.45), (0.55, 1.0)
"""Where black and white that follow the image may lie."""

REMEMBERED = 11
"""Images whose extremes are kept."""

LOW, HIGH = 1, 99
"""Percentiles that are black and white."""


def blur() -> Array:
    """The blur along one axis, float32 (5,), sum 1: square roots of the areas below a normal curve that five equal
    parts of the axis have, which is flatter than the curve itself."""
    half = SIGMA + (2 * SIGMA + 1) / (2 * TAPS)
    normal = NormalDist()
    edges = [normal.cdf(x) for x in np.linspace(-half, half, TAPS + 1)]
    weights = np.sqrt(np.diff(edges))
    return np.asarray(weights / weights.sum(), np.float32)


@kernel()
def _cut(image: Array, top: int, left: int, low: np.float32, scale: np.float32, more: np.float32, out: Array) -> None:
    """``(y - low) * scale`` within 0 and 255, ``more`` added and fractions cut off, of the part that ``out`` shows."""
    zero, full = np.float32(0), np.float32(255)
    for y in range(out.shape[0]):
        taken, row = image[top + y], out[y]
        for x in range(out.shape[1]):
            row[x] = np.uint8(min(max((taken[left + x] - low) * scale, zero), full) + more)


class Finisher:
    """Makes pictures of one network's images; remembers their extremes from one to the next. Not thread-safe.

    ``resolution`` of the sensor, whose pixels begin ``top`` and ``left`` pixels into the images. ``sharpen``: the share
    of the blur that is taken off (0: none). ``black`` and ``white`` for ``tones="fixed"``.
    """

    def __init__(
        self, resolution: Resolution, top: int = 0, left: int = 0, *,
        tones: Tones = "follow", sharpen: float = 0.3, black: float = 0.0, white: float = 1.0,
    ) -> None:  # fmt: skip
        self._shape = resolution[1], resolution[0]
        self._top, self._left = top, left
        self._tones, self._sharpen = tones, sharpen
        self._fixed = black, white
        self._blur = blur()
        self._blurred = np.empty((0, 0), np.float32)
        self._extremes: deque[tuple[float, float]] = deque(maxlen=REMEMBERED)
        self.bounds = self._fixed
        """What was black and white in the last picture."""

    def reset(self) -> None:
        """Forget the images seen."""
        self._extremes.clear()

    def finish(self, image: Array) -> Array:
        """The picture, a new uint8 (H, W), of an image (1, 1, padded H, padded W) or (padded H, padded W), float32.
        Raises ``WorldError`` where it holds values that are not numbers."""
        image = image.reshape(image.shape[-2:])
        if not math.isfinite(cv2.sumElems(image)[0]):
            raise WorldError("the network's image holds values that are not finite numbers")
        out = np.empty(self._shape, np.uint8)
        if self._tones == "percentiles":
            height, width = self._shape
            shown = image[self._top : self._top + height, self._left : self._left + width]
            low, high = (float(bound) for bound in np.percentile(shown, (LOW, HIGH)))
            more = np.float32(0.5)
        else:
            image = self._sharpened(image)
            low, high = self._followed(image) if self._tones == "follow" else self._fixed
            more = np.float32(0)
        self.bounds = low, high
        scale = np.float32(255 / (high - low) if high > low else 0.0)
        _cut(image, self._top, self._left, np.float32(low), scale, more, out)
        return out

    def _sharpened(self, image: Array) -> Array:
        if not self._sharpen:
            return image
        if self._blurred.shape != image.shape:
            self._blurred = np.empty(image.shape, np.float32)
        cv2.sepFilter2D(image, cv2.CV_32F, self._blur, self._blur, self._blurred, borderType=cv2.BORDER_CONSTANT)
        cv2.addWeighted(image, 1 + self._sharpen, self._blurred, -self._sharpen, 0, self._blurred)
        return self._blurred

    def _followed(self, image: Array) -> tuple[float, float]:
        darkest, brightest, _, _ = cv2.minMaxLoc(image)
        self._extremes.append(
            (min(max(darkest, DARKEST[0]), DARKEST[1]), min(max(brightest, BRIGHTEST[0]), BRIGHTEST[1]))
        )
        lows, highs = zip(*self._extremes, strict=True)
        return median(lows), median(highs)
