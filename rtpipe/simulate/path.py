"""The path of a hand-held camera: smooth, band-limited rotation with a little roll and breathing in and out.

A camera that only turns sees a far scene through the homography K R K⁻¹; the path is that homography as a function of
time, in units of the sensor's pixels, with the optical axis at the origin.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from rtpipe.types import Array, Resolution

Interval = tuple[int, int]
"""Start and end in µs: an exposure."""

PAN, TILT, ROLL, ZOOM = range(4)
# bands in Hz, and the share each has in the speed: slow drift, the sway of the arms in loops, two bands of tremor
_BANDS_HZ = np.array([[0.4, 0.9], [1.8, 2.8], [3.5, 6.0], [7.0, 11.0]])
_SHARES = np.array([0.25, 1.0, 0.25, 0.15])
_ROLL_SHARE, _ZOOM_SHARE = 0.15, 0.06  # displacement at the picture's corner, relative to pan's at the centre


@dataclass(frozen=True, slots=True, eq=False)
class CameraPath:
    """Where the camera looks at every instant; made by :func:`handheld`.

    ``focal`` px. ``frequency`` Hz, ``amplitude`` and ``phase`` rad are (4, tones): pan and tilt (rad), roll (rad) and
    zoom (ratio) as sums of sines.
    """

    resolution: Resolution
    focal: float
    frequency: Array
    amplitude: Array
    phase: Array

    def pose(self, t: int) -> Array:
        """Pan, tilt, roll (rad) and zoom (ratio - 1) at ``t`` µs: float64 [4]."""
        angle = 2 * math.pi * self.frequency * (t * 1e-6) + self.phase
        pose: Array = (self.amplitude * np.sin(angle)).sum(axis=1)
        return pose

    def homography(self, t: int) -> Array:
        """From the sensor's pixels, counted from its centre, to the scene's, counted from the middle of the path:
        float64 [3,3]."""
        pan, tilt, roll, zoom = self.pose(t)
        to_rays = 1 / (self.focal * (1 + zoom))
        outer = np.array([[self.focal], [self.focal], [1.0]]) * np.array([[to_rays, to_rays, 1.0]])
        homography: Array = outer * _rotation(tilt, pan, roll)  # K R K'^-1, both K diagonal
        return homography

    def project(self, points: Array, t: int) -> Array:
        """Where the sensor's ``points`` (n, 2), px from the centre, look at ``t`` µs: scene px (n, 2)."""
        x, y, w = self.homography(t) @ np.column_stack([points, np.ones(len(points))]).T
        return np.column_stack([x / w, y / w])

    def blur(self, exposure: Interval) -> float:
        """How far the scene moves over the sensor during ``exposure``: px along the way, mean over the picture."""
        start, end = exposure
        steps = max(2, math.ceil((end - start) / 1000))
        grid = _grid(self.resolution)
        places = np.stack([self.project(grid, start + (end - start) * i // steps) for i in range(steps + 1)])
        return float(np.linalg.norm(np.diff(places, axis=0), axis=2).sum(axis=0).mean())

    def moved(self, t0: int, t1: int) -> float:
        """The longest way any part of the picture moves between two instants, px (straight)."""
        grid = _grid(self.resolution)
        return float(np.linalg.norm(self.project(grid, t1) - self.project(grid, t0), axis=1).max())

    def extent(self, t0: int, t1: int, step: int = 5000) -> tuple[float, float, float, float]:
        """The part of the scene seen between two instants: left, top, right, bottom (scene px)."""
        grid = _grid(self.resolution)
        seen = np.concatenate([self.project(grid, t) for t in range(t0, t1 + step, step)])
        (left, top), (right, bottom) = seen.min(axis=0), seen.max(axis=0)
        return float(left), float(top), float(right), float(bottom)


def handheld(resolution: Resolution, exposures: Sequence[Interval], blur_px: float, seed: int = 0) -> CameraPath:
    """A path that blurs four exposures in five by at least ``blur_px`` (0: the camera stands still).

    The same ``seed`` gives the same path. The field of view is that of a DAVIS346 with an 8 mm lens (about 43°).
    """
    random = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    width, height = resolution
    focal = 1.25 * width
    tones = len(_SHARES)
    lowest, highest = _BANDS_HZ.T
    frequency = random.uniform(lowest, highest, (4, tones))
    phase = random.uniform(0, 2 * math.pi, (4, tones))
    # a hand draws loops: tilt goes with pan, about a quarter turn apart, so that the picture is seldom still
    frequency[TILT] = frequency[PAN]
    phase[TILT] = phase[PAN] + random.choice([-0.5, 0.5]) * math.pi + random.uniform(-0.3, 0.3, tones)
    amplitude = _SHARES * random.uniform(0.8, 1.2, (4, tones)) / frequency
    amplitude /= np.linalg.norm(amplitude, axis=1, keepdims=True)
    corner = math.hypot(width, height) / 2
    share = np.array([1 / focal, 1 / focal, _ROLL_SHARE / corner, _ZOOM_SHARE / corner])
    path = CameraPath(
        resolution=resolution,
        focal=focal,
        frequency=frequency,
        amplitude=amplitude * share[:, None],
        phase=phase,
    )
    if blur_px <= 0 or not exposures:
        return replace(path, amplitude=np.zeros_like(amplitude))
    for _ in range(3):  # displacement is nearly, not quite, proportional to the angles
        reached = float(np.percentile([path.blur(exposure) for exposure in exposures], 20))
        path = replace(path, amplitude=path.amplitude * (blur_px / reached))
    return path


def _grid(resolution: Resolution) -> Array:
    """Nine points over the picture, corners included, px from the centre."""
    width, height = resolution
    x, y = np.meshgrid([-0.5, 0.0, 0.5], [-0.5, 0.0, 0.5])
    return np.column_stack([x.ravel() * (width - 1), y.ravel() * (height - 1)])


def _rotation(x: float, y: float, z: float) -> Array:
    """The rotation matrix of a rotation vector (rad), by Rodrigues' formula."""
    angle = math.sqrt(x * x + y * y + z * z)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    if angle < 1e-12:
        identity: Array = np.eye(3) + cross
        return identity
    matrix: Array = np.eye(3) + math.sin(angle) / angle * cross + (1 - math.cos(angle)) / angle**2 * (cross @ cross)
    return matrix
