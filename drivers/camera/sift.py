"""Events from a camera, one by one: what lies off the sensor, is out of order or came too late is refused by name."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from rtpipe.kernels import kernel
from rtpipe.packing import COORDINATES, ORDER, POLARITY, fault
from rtpipe.types import Array, Events, Resolution

LATE = "late"
"""Why an event is refused that came after a watermark had promised that nothing earlier would."""
REASONS = (ORDER, LATE, COORDINATES, POLARITY)


@kernel()
def _sift(
    t: Array, x: Array, y: Array, p: Array, width: int, height: int, newest: int, mark: int, keep: Array, refused: Array
) -> None:
    for i in range(t.size):
        why = -1
        if t[i] < newest:
            why = 0
        elif t[i] < mark:
            why = 1
        elif x[i] >= width or y[i] >= height:
            why = 2
        elif p[i] > 1:
            why = 3
        keep[i] = why < 0
        if why < 0:
            newest = t[i]
        else:
            refused[why] += 1


def warm() -> None:
    """Compile, or load, the kernel."""
    ones = np.ones(2, np.uint16)
    sifted(Events(np.array([2, 1]), ones, ones, np.ones(2, np.uint8)), (1, 1), 0, 0)


def sifted(events: Events, resolution: Resolution, newest: int, mark: int) -> tuple[Events, Mapping[str, int]]:
    """The events that are in order, not before ``newest`` (the last event's time) nor ``mark`` (a watermark's), and on
    the sensor; and how many were refused by reason. Where nothing is wrong, the events themselves (no copy)."""
    if not len(events) or (int(events.t[0]) >= max(newest, mark) and not fault(events, resolution)):
        return events, {}
    keep, refused = np.empty(len(events), np.bool_), np.zeros(len(REASONS), np.int64)
    t, x, y, p = (np.ascontiguousarray(column) for column in (events.t, events.x, events.y, events.p))
    _sift(t, x, y, p, *resolution, newest, mark, keep, refused)
    kept = Events(events.t[keep], events.x[keep], events.y[keep], events.p[keep])
    return kept, {reason: int(n) for reason, n in zip(REASONS, refused, strict=True) if n}


def segments(t: Array, back: int, ahead: int) -> list[slice]:
    """Where times (µs) step back by more than ``back`` or ahead by more than ``ahead``, a run is cut: the parts."""
    steps = np.diff(t)
    cuts = (np.flatnonzero((steps < -back) | (steps > ahead)) + 1).tolist()
    return [slice(start, stop) for start, stop in zip([0, *cuts], [*cuts, len(t)], strict=True)]
