"""``event_indices`` of RLED files: which events belong to which picture, as times.

Row k holds the first event of picture k's window and the one after its last; the data set means 10 ms either side of
mid-exposure. :attr:`rtpipe.types.Frame.window_start` and ``window_end`` are times, half open: where no event outside a
window shares its first or last event's time, slicing by them gives exactly the events that the row names.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.ecm_h5.images import Stamp
from rtpipe.formats.hdf5_columns import whole
from rtpipe.formats.hdf5_events import EventColumns

HALF_US = 10_000
"""What RLED takes either side of mid-exposure."""
FURTHEST_US = 10_000_000
"""A window that reaches further from its picture belongs to another one."""
MOST_TOO_MANY = 1 << 16
"""Rows without a picture that are passed over."""
LOOKED_AT = 200
"""Windows that are looked at when the file is opened."""


class EventIndices:
    """The windows of a file's ``n_images`` pictures; none where it has no ``event_indices``. Raises ``FormatError`` for
    a table that is none."""

    def __init__(self, path: Path, file: Any, events: EventColumns, n_images: int) -> None:
        self._path, self._events, self._n = path, events, len(events)
        self._piece = (0, np.empty(0, np.int64))
        self._rows = np.empty((0, 2), np.int64)
        self._odd = np.empty(0, bool)
        self._missing = 0
        node = hdf5.child(path, file, "event_indices")
        if node is None or not n_images:
            return
        node = hdf5.dataset(path, node, "iu", (2,))
        if node.shape[1] != 2:
            raise FormatError(f"{path}: event_indices holds {node.shape}; two numbers per picture wanted")
        if len(node) > n_images + MOST_TOO_MANY:
            raise FormatError(f"{path}: event_indices has {len(node)} rows for {n_images} pictures")
        rows = whole(path, node)[:n_images]
        self._odd = (rows[:, 0] < 0) | (rows[:, 0] > rows[:, 1]) | (rows[:, 1] > self._n)
        self._odd[1:] |= (rows[1:] < np.maximum.accumulate(np.where(self._odd[:, None], 0, rows))[:-1]).any(axis=1)
        self._rows = np.where(self._odd[:, None], 0, rows).astype(np.int64)
        self._missing = n_images - len(rows)

    def __len__(self) -> int:
        return len(self._rows)

    def notes(self, stamp: Callable[[int], Stamp]) -> list[str]:
        """What has to be said of them; looks at the first ``LOOKED_AT``."""
        if not len(self):
            return []
        said = []
        odd = int(np.count_nonzero(self._odd))
        if odd:
            k = int(np.argmax(self._odd))
            said.append(
                f"event_indices: {odd} of {len(self)} rows are impossible (the first: {k}), their windows unknown"
            )
        if self._missing:
            said.append(f"event_indices has no rows for the last {self._missing} pictures, their windows are unknown")
        some = [k for k in range(min(len(self), LOOKED_AT)) if not self._odd[k]]
        shared = sum(self._shares_a_time(k) for k in some)
        if shared:
            said.append(
                f"event_indices: {shared} of the first {len(some)} windows begin or end among events of one time; "
                "cut by time, they hold all of those"
            )
        for k in some[:1]:
            self.window(k, stamp(k))
        return said

    def window(self, k: int, stamp: Stamp) -> tuple[int, int] | None:
        """When picture ``k``'s window begins and ends (µs, half open), None where the file does not say.

        10 ms either side of a known mid-exposure where that holds the same events; else from its first event to just
        after its last. Raises ``FormatError`` for a window far from its picture.
        """
        if k >= len(self) or self._odd[k]:
            return None
        first, end = (int(i) for i in self._rows[k])
        before_first, at_first = self._around(first)
        before_end, at_end = self._around(end)
        if stamp.exposure_start is not None:
            start, stop = stamp.t - HALF_US, stamp.t + HALF_US
            if before_first < start <= at_first and before_end < stop <= at_end:
                return start, stop
        if first == end:
            start = stop = min(max(stamp.t - HALF_US, before_first + 1), at_first)
        else:
            start, stop = at_first, before_end + 1
        if start > stop or stamp.t - start > FURTHEST_US or stop - stamp.t > FURTHEST_US:
            raise FormatError(
                f"{self._path}: event_indices[{k}] names events {first} to {end}, {start} to {stop} µs, but its "
                f"picture is at {stamp.t} µs; the option event_indices false leaves them aside"
            )
        return start, stop

    def _shares_a_time(self, k: int) -> bool:
        first, end = (self._around(int(i)) for i in self._rows[k])
        return bool(self._rows[k, 0] < self._rows[k, 1]) and (first[0] == first[1] or end[0] == end[1])

    def _around(self, index: int) -> tuple[int, int]:
        """The times of the events before ``index`` and at it, far away where there is none."""
        before = self._time(index - 1) if index > 0 else -(1 << 62)
        return before, self._time(index) if index < self._n else 1 << 62

    def _time(self, index: int) -> int:
        at, piece = self._piece
        if not at <= index < at + len(piece):
            at = index // self._events.chunk * self._events.chunk
            piece = self._events.microseconds(at, min(self._n, at + self._events.chunk))
            self._piece = at, piece
        return int(piece[index - at])
