"""Undistortion: every event moves to where a pinhole camera of the same matrix would have seen it.

One table for the sensor, made once: each pixel's place without distortion, to the nearest pixel. Events that come to
lie outside are removed. Frames are resampled to the same geometry.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import cv2
import msgspec
import numpy as np

from rtpipe.errors import InputError
from rtpipe.kernels import kernel
from rtpipe.types import Array, Frame, PackedEvents, Resolution
from rtpipe.window.filters.base import Base
from rtpipe.window.filters.calibration import Calibration, fault, load

OUTSIDE = np.uint32(0xFFFFFFFF)
MOST_STEPS, EXACT_PX, SOLVED_PX = 20, 0.01, 0.25
"""How distortion is inverted: at most so many steps, done when this near, given up when not even that near."""


@kernel()
def _move(
    dt: Array, x: Array, yp: Array, dt_out: Array, x_out: Array, yp_out: Array, width: np.uint32, table: Array
) -> int:
    kept = 0
    for i in range(dt.size):
        row = np.uint32(yp[i] & np.uint16(0x7FFF))
        place = table[np.uint64(row * np.uint32(width) + np.uint32(x[i]))]
        dt_out[kept] = dt[i]
        x_out[kept] = np.uint16(place & np.uint32(0xFFFF))
        yp_out[kept] = np.uint16(place >> np.uint32(16)) | (yp[i] & np.uint16(0x8000))
        kept += int(place != OUTSIDE)
    return kept


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Either ``calibration``, a file: IJRR's calib.txt, or YAML as ROS, Kalibr or OpenCV write it; or the numbers:
    ``matrix`` [fx, fy, cx, cy] in pixels and ``distortion`` in OpenCV's order (k1, k2, p1, p2, k3 …; ``model:
    fisheye``: k1 to k4).
    """

    calibration: str | None = None
    matrix: tuple[float, float, float, float] | None = None
    distortion: tuple[float, ...] = ()
    model: Literal["pinhole", "fisheye"] = "pinhole"

    def __post_init__(self) -> None:
        if (self.calibration is None) == (self.matrix is None):
            raise ValueError("either calibration (a file) or matrix [fx, fy, cx, cy] and distortion wanted")
        if self.calibration is not None and (self.distortion or self.model != "pinhole"):
            raise ValueError("distortion and model belong to matrix: a calibration file holds its own")
        if self.matrix is not None:
            wrong = fault(Calibration(self.matrix, self.distortion, self.model))
            if wrong:
                raise ValueError(wrong)


class Filter(Base):
    """Moves events to undistorted places. Raises ``InputError`` for a calibration that cannot be read, and on ``open``
    for one of another sensor."""

    name = "undistort"
    geometric = True

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        if settings.matrix is not None:
            self._calibration = Calibration(settings.matrix, settings.distortion, settings.model)
        else:
            self._calibration = load(Path(settings.calibration or ""))

    def frame(self, frame: Frame) -> Frame:
        """The frame resampled (linear); what lies outside the camera's picture is black."""
        return replace(frame, image=cv2.remap(frame.image, *self._maps, cv2.INTER_LINEAR))

    def _prepare(self, resolution: Resolution) -> Resolution:
        settings, calibration = self.settings, self._calibration
        if calibration.resolution not in (None, resolution):
            raise InputError(
                f"filter undistort: {settings.calibration} is of a camera of {calibration.resolution}, "
                f"the events are of {resolution}"
            )
        self._table = table(calibration, resolution)
        self._maps = maps(calibration, resolution)
        return resolution

    def _keep(self, events: PackedEvents, room: PackedEvents) -> int:
        width = np.uint32(self.resolution[0])
        return _move(events.dt, events.x, events.yp, room.dt, room.x, room.yp, width, self._table)


def places(calibration: Calibration, resolution: Resolution) -> Array:
    """Where each pixel belongs without distortion, float64 (H, W, 2): column and row; NaN where there is no place that
    the distortion would bring to the pixel."""
    width, height = resolution
    seen = np.stack(np.meshgrid(np.arange(width, dtype=float), np.arange(height, dtype=float)), axis=-1)
    matrix, distortion = _matrix(calibration), np.array(calibration.distortion)
    pixels = seen.reshape(-1, 2)
    focal, centre = np.array(calibration.matrix[:2]), np.array(calibration.matrix[2:])
    if calibration.model == "fisheye":
        moved = cv2.fisheye.undistortPoints(pixels[:, None], matrix, distortion)[:, 0]
    else:
        moved = cv2.undistortPoints(pixels[:, None], matrix, distortion)[:, 0]  # a first try: few steps, unchecked
    for _ in range(MOST_STEPS):
        residual = pixels - _distorted(moved, calibration)
        wrong = ~(np.abs(residual).max(axis=1) <= EXACT_PX)
        if not wrong.any():
            break
        moved = np.where(wrong[:, None], moved + residual / focal, moved)
    residual = np.abs(pixels - _distorted(moved, calibration)).max(axis=1)
    moved[~(residual <= SOLVED_PX)] = np.nan
    return np.asarray(moved * focal + centre, np.float64).reshape(height, width, 2)


def _distorted(rays: Array, calibration: Calibration) -> Array:
    """The pixels at which rays (x / z, y / z) are seen, float64 [n, 2]; NaN where that overflows."""
    matrix, distortion = _matrix(calibration), np.array(calibration.distortion)
    rays = np.clip(np.nan_to_num(rays, nan=1e6), -1e6, 1e6)
    if calibration.model == "fisheye":
        seen = cv2.fisheye.distortPoints(rays[:, None], matrix, distortion)[:, 0]
    else:
        points = np.concatenate([rays, np.ones((len(rays), 1))], axis=1)
        seen = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, distortion)[0][:, 0]
    return np.where(np.isfinite(seen), seen, np.nan)


def table(calibration: Calibration, resolution: Resolution) -> Array:
    """The look-up: uint32 [H * W], row << 16 | column of each pixel's new place, ``OUTSIDE`` where it has none."""
    width, height = resolution
    moved = np.rint(places(calibration, resolution))
    inside = np.isfinite(moved).all(axis=-1) & (moved >= 0).all(axis=-1) & (moved < resolution).all(axis=-1)
    moved[~inside] = 0
    place = moved.astype(np.uint32)
    return np.where(inside, place[..., 1] << 16 | place[..., 0], OUTSIDE).astype(np.uint32).reshape(width * height)


def maps(calibration: Calibration, resolution: Resolution) -> tuple[Any, Any]:
    """What ``cv2.remap`` wants to make a frame without distortion."""
    matrix, distortion = _matrix(calibration), np.array(calibration.distortion)
    make = cv2.fisheye.initUndistortRectifyMap if calibration.model == "fisheye" else cv2.initUndistortRectifyMap
    first, second = make(matrix, distortion, np.eye(3), matrix, resolution, cv2.CV_16SC2)
    return first, second


def _matrix(calibration: Calibration) -> Array:
    fx, fy, cx, cy = calibration.matrix
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
