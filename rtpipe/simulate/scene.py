"""What stands before the camera: a photograph seen along a path, or a video seen by a camera that stands still."""

from __future__ import annotations

import math
from typing import Protocol

import cv2
import numpy as np

from rtpipe.kernels import kernel
from rtpipe.simulate.path import CameraPath
from rtpipe.types import Array, Resolution

_APERTURE_PX = 0.45  # lens and pixel area together, as the sigma of a Gaussian in sensor pixels
_LARGEST = 0.7  # picture pixels per sensor pixel: a picture is not blown up further
_FINEST = 2.0  # samples of the picture per sensor pixel, so that bilinear interpolation adds no blur that flickers


class Scene(Protocol):
    """Light on the sensor at any instant."""

    @property
    def duration(self) -> int | None:
        """µs after which it ends; None: never."""
        ...

    def render(self, t: int, out: Array) -> None:
        """Write the light at ``t`` µs into ``out`` float32 (H, W); 1 is white. ``t`` must not go back."""
        ...

    def steps(self, t0: int, t1: int) -> int:
        """In how many steps the time between two instants must be cut to be followed."""
        ...

    def blur(self, t0: int, t1: int) -> float | None:
        """How far the picture moves between two instants, px, mean over the picture; None where nobody knows."""
        ...


class StillScene:
    """A photograph, ``light`` float32 (H, W), seen along ``path``.

    It is shown as small as lets the path stay inside it, at least 0.7 of its pixels a sensor pixel; where the path
    leaves it all the same, it goes on mirrored. ``scale`` is picture pixels per sensor pixel, ``mirrored`` whether the
    path leaves it between 0 and ``duration`` µs. ``step_px`` bounds the motion of a step.
    """

    duration: int | None = None

    def __init__(self, light: Array, path: CameraPath, duration: int, step_px: float = 0.5) -> None:
        self.path = path
        self._step_px = step_px
        left, top, right, bottom = path.extent(0, duration)
        height, width = light.shape
        fit = min((width - 1) / (right - left), (height - 1) / (bottom - top))
        self.scale = max(_LARGEST, fit)
        self.mirrored = fit < _LARGEST
        finer = max(1, math.ceil(_FINEST / self.scale))
        sharp = cv2.GaussianBlur(light, (0, 0), _APERTURE_PX * self.scale)
        size = (width * finer, height * finer)
        self._source = np.maximum(cv2.resize(sharp, size, interpolation=cv2.INTER_CUBIC), 0)
        scale = self.scale * finer
        middle = (size[0] - 1) / 2, (size[1] - 1) / 2
        self._placed = np.array(
            [
                [scale, 0, middle[0] - scale * (left + right) / 2],
                [0, scale, middle[1] - scale * (top + bottom) / 2],
                [0, 0, 1],
            ]
        )

    def render(self, t: int, out: Array) -> None:
        """See :class:`Scene`; ``t`` may also go back."""
        height, width = out.shape
        centre = np.array([[1, 0, -(width - 1) / 2], [0, 1, -(height - 1) / 2], [0, 0, 1]])
        _warp(self._source, self._placed @ self.path.homography(t) @ centre, out)

    def steps(self, t0: int, t1: int) -> int:
        """So many that nothing moves further than ``step_px`` in one."""
        way = self.path.moved(t0, t1)
        coarse = math.ceil((t1 - t0) / 5000)  # a path that turns may come back to where it was
        return max(1, coarse, math.ceil(way / self._step_px))

    def blur(self, t0: int, t1: int) -> float | None:
        """See :class:`Scene`."""
        return self.path.blur((t0, t1))


@kernel()
def _mirror(i: int, n: int) -> int:
    """``i`` folded into 0 .. n-1 as between two mirrors; the edge pixel is not doubled."""
    period = 2 * (n - 1)
    i = i % period
    return period - i if i >= n else i


@kernel()
def _warp(source: Array, m: Array, out: Array) -> None:
    """Bilinear samples of ``source`` at ``m`` times each pixel of ``out``, mirrored outside. Exact in the fraction:
    OpenCV's warp rounds it to 1/32 px, which in log light is a threshold's worth at a strong edge."""
    rows, columns = source.shape
    inside = True
    for y in (0, out.shape[0] - 1):
        for x in (0, out.shape[1] - 1):
            w = m[2, 0] * x + m[2, 1] * y + m[2, 2]
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / w
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / w
            inside &= u >= 0 and v >= 0 and u < columns - 1 and v < rows - 1
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            w = m[2, 0] * x + m[2, 1] * y + m[2, 2]
            u = (m[0, 0] * x + m[0, 1] * y + m[0, 2]) / w
            v = (m[1, 0] * x + m[1, 1] * y + m[1, 2]) / w
            left = int(np.floor(u))
            top = int(np.floor(v))
            a = np.float32(u - left)
            b = np.float32(v - top)
            right = left + 1
            bottom = top + 1
            if not inside:
                left = _mirror(left, columns)
                right = _mirror(right, columns)
                top = _mirror(top, rows)
                bottom = _mirror(bottom, rows)
            upper = source[top, left] + a * (source[top, right] - source[top, left])
            lower = source[bottom, left] + a * (source[bottom, right] - source[bottom, left])
            out[y, x] = upper + b * (lower - upper)


def fitted(picture: Array, resolution: Resolution) -> Array:
    """``picture`` scaled and cut in the middle to fill ``resolution``."""
    width, height = resolution
    ratio = max(width / picture.shape[1], height / picture.shape[0])
    size = max(width, round(picture.shape[1] * ratio)), max(height, round(picture.shape[0] * ratio))
    scaled = cv2.resize(picture, size, interpolation=cv2.INTER_AREA if ratio < 1 else cv2.INTER_CUBIC)
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    cut: Array = scaled[top : top + height, left : left + width]
    return cut
