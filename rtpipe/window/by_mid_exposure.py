"""One window for each camera frame, about the middle of its exposure (NER-Net's RLED)."""

from __future__ import annotations

from rtpipe.types import Frame
from rtpipe.window import by_exposure

LENGTH_US = 20_000
"""NER-Net's windows: from 10 ms before mid-exposure to 10 ms after it."""


class Slicer(by_exposure.Slicer):
    """The window that the recording itself names for a frame (RLED's ``event_indices``); where it names none
    ``length_us`` about mid-exposure, ``[middle - length_us // 2, … + length_us)``. Windows of neighbours may overlap.

    Everything else is as by exposure: frames come in order of their windows' starts, and one that has neither a window
    nor an exposure gets an empty window flagged ``PASSED_THROUGH``, or is dropped and counted.
    """

    def __init__(
        self, holding: bool, limit_bytes: int, pass_without_exposure: bool = True, length_us: int = LENGTH_US
    ) -> None:
        super().__init__(holding, limit_bytes, pass_without_exposure)
        self._length = length_us

    def span(self, frame: Frame) -> tuple[int | None, int | None]:
        """The frame's own window, else the one about its mid-exposure (µs); None where neither is known."""
        if frame.window_start is not None and frame.window_end is not None:
            return frame.window_start, frame.window_end
        start, end = frame.exposure_start, frame.exposure_end
        if start is None or end is None or end < start:
            return None, None
        first = start + (end - start) // 2 - self._length // 2
        return first, first + self._length
