"""An engine at a smaller size: windows and frames are averaged over blocks of pixels, its pictures enlarged again.

Sound for representations that add up what each event brings to its own pixel: a pixel ``factor`` times as large would
have seen the mean of its block's changes, so the mean over the block is what it would have held. Where a value is no
sum (a time surface) or is none of a pixel (events), the filter ``downsample`` in front of the windows is the way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from rtpipe.errors import InputError
from rtpipe.stage import Engine, EngineSpec
from rtpipe.types import Array, Frame, FrameFlag, Resolution, Window
from rtpipe.window.making import FILLERS, NONE
from rtpipe.window.mask import closed_mask

SUMS = ("voxel", "two_polarity_voxel", "scer", "count", "calibrated_voxel")
"""Representations whose blocks may be averaged."""

MOST = 8
"""The largest factor."""


class Shrunk:
    """An :class:`~rtpipe.stage.Engine` that runs another at 1/``factor`` of the width and height, rounded up.

    Raises ``InputError`` for one whose representation cannot be averaged.
    """

    def __init__(self, engine: Engine, factor: int) -> None:
        representation = engine.spec.representation
        if representation not in (*SUMS, NONE, ""):
            raise InputError(
                f"{engine.spec.name} takes {representation!r}, which cannot be shrunk afterwards: put the filter "
                "downsample in front of the windows instead"
            )
        self._engine, self._factor = engine, factor
        self._size = self._small = (0, 0)
        self._tensor: Array | None = None

    @property
    def spec(self) -> EngineSpec:
        """The engine's own."""
        return self._engine.spec

    @property
    def facts(self) -> Mapping[str, str]:
        """The engine's own, and the size it runs at."""
        own: Mapping[str, str] = getattr(self._engine, "facts", {})
        return {**own, "size": f"{self._small[0]}x{self._small[1]} enlarged"}

    def warm(self, resolution: Resolution) -> None:
        """Make buffers, and warm the engine at the small size."""
        width, height = (-(-side // self._factor) for side in resolution)
        self._size, self._small, self._tensor = resolution, (width, height), None
        self._engine.warm(self._small)

    def reset(self) -> None:
        """Forget every window seen."""
        self._engine.reset()

    def skipped(self, window: Window) -> None:
        """A window that the engine will not be given."""
        told = getattr(self._engine, "skipped", None)
        if told is not None:
            told(window)

    def infer(self, window: Window) -> Sequence[Frame]:
        """The engine's pictures of the window, enlarged; what it passed through comes out as it came."""
        frames = self._engine.infer(self.small(window))
        return [self._large(frame, window.frame) for frame in frames]

    def small(self, window: Window) -> Window:
        """The window as larger pixels would have seen it. Its tensor is a buffer, valid until the next one."""
        tensor, mask = window.tensor, window.mask
        if tensor is not None:
            tensor = self._pooled(tensor)
            mask = None if mask is None else closed_mask(tensor)
        frame = window.frame
        if frame is not None:
            frame = replace(frame, image=self._averaged(frame.image, cv2.BORDER_REPLICATE))
        return replace(window, tensor=tensor, mask=mask, frame=frame)

    def _pooled(self, tensor: Array) -> Array:
        width, height = self._small
        if self._tensor is None or len(self._tensor) != len(tensor):
            empty = FILLERS[self.spec.representation].empty
            shape = (len(tensor), height, width)
            self._tensor = np.empty(shape, np.float32) if empty is None else empty(self._small)
        for plane, out in zip(tensor, self._tensor, strict=True):
            out[:] = self._averaged(np.ascontiguousarray(plane), cv2.BORDER_CONSTANT)
        return self._tensor

    def _averaged(self, plane: Array, border: int) -> Array:
        missing = [small * self._factor - side for small, side in zip(self._small, self._size, strict=True)]
        if any(missing):
            plane = cv2.copyMakeBorder(plane, 0, missing[1], 0, missing[0], border)
        averaged: Array = cv2.resize(plane, self._small, interpolation=cv2.INTER_AREA)
        return averaged

    def _large(self, frame: Frame, camera: Frame | None) -> Frame:
        if frame.flags & FrameFlag.PASSED_THROUGH and camera is not None:
            return replace(frame, image=np.array(camera.image))
        width, height = self._size
        whole = (self._small[0] * self._factor, self._small[1] * self._factor)
        image = cv2.resize(frame.image, whole, interpolation=cv2.INTER_LINEAR)[:height, :width]
        return replace(frame, image=np.ascontiguousarray(image))
