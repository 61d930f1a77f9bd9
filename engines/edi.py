"""Event double integral: a sharp picture at any instant of a blurred one's exposure, from the events inside it.

Pan, Scheerlinck, Yu, Hartley, Liu, Dai: "Bringing a Blurry Frame Alive at High Frame-Rate With an Event Camera",
CVPR 2019. The blurred picture is the mean of the sharp ones over the exposure, B = mean of L(t), and the events say how
each pixel changed, L(t) = L(f) exp(E(f, t)); so L(f) = B / mean of exp(E(f, t)). Written anew from the paper, with the
levels between two events interpolated (:mod:`engines.integral`), hot pixels and noise taken out
(:mod:`engines.restore`), and the contrast thresholds estimated from the recording (:mod:`engines.contrast`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import cv2
import msgspec
import numpy as np

from engines.contrast import Contrast
from engines.integral import factors, integrate, intervals
from engines.restore import log_ratio, restore
from rtpipe.engine import passed_through
from rtpipe.errors import InputError
from rtpipe.packing import fault
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Frame, PackedEvents, Resolution, Window

PRIOR = 0.22
"""Contrast threshold before anything was seen."""


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a user may choose."""

    at: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.5
    """The instant of the sharp picture, as a part of the exposure."""
    frames: Annotated[int, msgspec.Meta(ge=1, le=64)] = 1
    """Sharp pictures per exposure; more than one are spread evenly over it and ``at`` is not used."""
    contrast: Annotated[float, msgspec.Meta(ge=0.01, le=1.5)] | None = None
    """Contrast threshold of both polarities (log intensity per event); left out: estimated from the recording."""
    between: Literal["ramp", "hold"] = "ramp"
    """The level between two events: interpolated, or held as in the paper."""
    offset: Annotated[float, msgspec.Meta(ge=0, le=0.5)] = 0.012
    """Added to intensity before its logarithm, as a part of white: the pixel's dark current."""
    clean: Annotated[float, msgspec.Meta(ge=0, le=4)] = 1.0
    """Strength of the noise filter, in contrast thresholds; 0: none."""


def _frozen(array: Array) -> Array:
    """``array`` as contiguous and read-only, however it came: one compiled kernel serves them all. Copies seldom."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


class Engine:
    """The method, ready to run. Not thread-safe; keeps its buffers from window to window."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self._size: Resolution = (0, 0)
        self._estimate = Contrast(PRIOR)
        self._tables: dict[np.dtype[np.generic], Array] = {}

    @property
    def spec(self) -> EngineSpec:
        """Events of the exposure and the camera's frame."""
        return EngineSpec("edi", "events", needs_frame=True, stateful=self.settings.contrast is None)

    @property
    def contrast(self) -> tuple[float, float]:
        """The contrast thresholds (on, off) in use, log intensity per event."""
        if self.settings.contrast is not None:
            return self.settings.contrast, self.settings.contrast
        return self._estimate.on, self._estimate.off

    @property
    def facts(self) -> Mapping[str, str]:
        """The thresholds in use, for the status line and the run's report."""
        on, off = self.contrast
        return {"contrast": f"{on:.2f}/{off:.2f}"}

    def warm(self, resolution: Resolution) -> None:
        """Compile for grey and colour pictures of 8 and 16 bits and make the buffers. Blocks for up to a minute the
        first time on a machine, then for a moment."""
        width, height = resolution
        events = PackedEvents(0, np.zeros(1, np.uint32), np.zeros(1, np.uint16), np.zeros(1, np.uint16))
        for dtype in (np.uint8, np.uint16):
            for shape in ((height, width), (height, width, 3)):
                frame = Frame(np.zeros(shape, dtype), 500, 0, 1000)
                self.infer(Window(0, 1000, 1, events=events, frame=frame))
        self._estimate.warm()
        self.reset()

    def reset(self) -> None:
        """Forget every window seen."""
        self._estimate.reset()

    def infer(self, window: Window) -> Sequence[Frame]:
        """The sharp pictures of this window's exposure, in order of time, in new arrays of the picture's own dtype and
        shape. Without events or a known exposure: the picture as it came, flagged ``PASSED_THROUGH``; without a frame:
        nothing. Raises ``InputError`` for events or a picture that cannot be used.
        """
        frame, events = window.frame, window.events
        if frame is None:
            return ()
        start, end = frame.exposure_start, frame.exposure_end
        if start is None or end is None or end <= start or events is None or len(events) == 0:
            return (passed_through(frame, window.flags),)
        blurred = _frozen(frame.image)
        columns = _frozen(events.dt), _frozen(events.x), _frozen(events.yp)
        self._check(blurred, PackedEvents(events.t0, *columns))
        height, width = blurred.shape[:2]
        self._prepare(width, height)
        length = end - start
        offset = events.t0 - start
        n = self.settings.frames
        parts = [self.settings.at] if n == 1 else [(k + 0.5) / n for k in range(n)]
        instants = np.array([part * length for part in parts])
        white = float(np.iinfo(blurred.dtype).max)
        grey = blurred if blurred.ndim == 2 else cv2.cvtColor(blurred, cv2.COLOR_BGR2GRAY)
        np.take(self._log_table(blurred.dtype), grey, out=self._logs, mode="clip")
        if self.settings.contrast is None:
            self._estimate.update(*columns, offset, length, self._logs)
        on, off = self.contrast
        table = intervals(on, off, self.settings.between)
        steps = factors(on, off, self.settings.between)
        filled = self._state, self._at, self._seen
        if integrate(*columns, offset, length, width, *steps, table, instants, *filled) == 0:
            return (passed_through(frame, window.flags),)
        frames = []
        reach = max(self.settings.clean * (on + off) / 2, 1e-6)
        for k, part in enumerate(parts):
            log_ratio(self._state, self._at[k], self._seen, float(length), width, self._ratio.ravel(), self._support)
            sharp = np.empty((height, width, blurred.size // (height * width)), blurred.dtype)
            flat = blurred.reshape(sharp.shape)
            restore(flat, self._logs, self._ratio, self._support, self.settings.offset * white, reach, white, sharp)
            t = start + int(part * length)
            frames.append(Frame(sharp.reshape(blurred.shape), t, start, end, "edi", frame.flags | window.flags))
        return frames

    def _check(self, image: Array, events: PackedEvents) -> None:
        shape = image.shape
        if image.dtype not in (np.uint8, np.uint16) or not (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3)):
            raise InputError(f"edi takes grey or BGR pictures of 8 or 16 bits, not {image.dtype} {shape}")
        wrong = fault(events, (shape[1], shape[0]))
        if wrong:
            raise InputError(f"edi was given events that do not fit a picture of {shape[1]}x{shape[0]}: bad {wrong}")

    def _prepare(self, width: int, height: int) -> None:
        if self._size == (width, height):
            return
        pixels = width * height
        self._size = (width, height)
        self._state = np.empty((pixels, 3))
        self._at = np.empty((self.settings.frames, pixels))
        self._seen = np.empty(pixels, np.uint16)
        self._logs = np.empty((height, width), np.float32)
        self._ratio = np.empty((height, width), np.float32)
        self._support = np.empty(pixels, np.uint16)

    def _log_table(self, dtype: np.dtype[np.generic]) -> Array:
        table = self._tables.get(dtype)
        if table is None:
            white = int(np.iinfo(dtype).max)  # type: ignore[type-var]
            offset = max(self.settings.offset * white, 0.25)
            table = self._tables[dtype] = np.log(np.arange(white + 1) + offset).astype(np.float32)
        return table
