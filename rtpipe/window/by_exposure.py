"""One window for each camera frame: the events of its exposure."""

from __future__ import annotations

from collections.abc import Sequence

from rtpipe.packing import LONGEST_US
from rtpipe.types import Frame, FrameFlag
from rtpipe.window.cut import NO_EXPOSURE, Cut, Step
from rtpipe.window.spans import Spanned


class Slicer(Spanned):
    """Windows ``[exposure_start, exposure_end)``, in the order in which the frames come.

    Frames may come before or after their events: these are kept, up to ``limit_bytes``, until a frame has come that
    begins later (frames come in order of their exposures' starts). A frame without an exposure gets an empty window
    flagged ``PASSED_THROUGH``, or is dropped and counted where ``pass_without_exposure`` is false.
    """

    def __init__(self, holding: bool, limit_bytes: int, pass_without_exposure: bool = True) -> None:
        super().__init__(holding, limit_bytes)
        self._pass = pass_without_exposure

    def span(self, frame: Frame) -> tuple[int | None, int | None]:
        """The edges of the frame's window (µs), None where they are not known."""
        return frame.exposure_start, frame.exposure_end

    def frame(self, frame: Frame) -> Sequence[Step]:
        """Queue the frame; its window opens when those before it are closed."""
        steps: list[Step] = []
        self._frames.taken += 1
        start, end = self.span(frame)
        if start is not None and end is not None and 0 < end - start <= LONGEST_US:
            self._ask(Cut(start, end, frame), steps)
        elif self._pass:
            self._ask(Cut(frame.t, frame.t, frame, FrameFlag.PASSED_THROUGH), steps)
        else:
            self._frames.drop(NO_EXPOSURE)
        return steps
