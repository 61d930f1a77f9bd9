"""Each camera frame is a window, with no events at all: for what improves pictures alone (SDSD)."""

from __future__ import annotations

from collections.abc import Sequence

from rtpipe.packing import LONGEST_US
from rtpipe.types import Frame, PackedEvents
from rtpipe.window.cut import NOT_USED, Base, Cut, Do, Step


class Slicer(Base):
    """``[exposure_start, exposure_end)``, or ``[t, t)`` where the exposure is not known, as soon as the frame is there.

    Events are counted and left.
    """

    def events(self, events: PackedEvents) -> Sequence[Step]:
        """Events are counted and left."""
        self._events.taken += len(events)
        self._events.drop(NOT_USED, len(events))
        return ()

    def reach(self, t: int) -> Sequence[Step]:
        """Time closes no window here."""
        del t
        return ()

    def frame(self, frame: Frame) -> Sequence[Step]:
        """Open and close the frame's window."""
        steps: list[Step] = []
        self._frames.taken += 1
        self._frames.passed += 1
        start, end = frame.exposure_start, frame.exposure_end
        if start is None or end is None or not 0 < end - start <= LONGEST_US:
            start = end = frame.t
        cut = Cut(start, end, frame)
        steps.append(Step(Do.OPEN, cut))
        self._close(cut, steps)
        return steps

    def jump(self) -> Sequence[Step]:
        """Nothing is kept."""
        return ()

    def end(self) -> Sequence[Step]:
        """Nothing is kept."""
        return ()
