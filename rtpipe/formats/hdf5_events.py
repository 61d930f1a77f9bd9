"""Events that lie in an HDF5 file as four columns: cut into runs, checked, and found by their time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from rtpipe.errors import FormatError
from rtpipe.formats import hdf5
from rtpipe.formats.hdf5_columns import Column
from rtpipe.formats.hdf5_runs import Runs
from rtpipe.packing import fault
from rtpipe.types import Array, Events, Resolution

RUN = 1 << 18
"""Events per run, about; a multiple of the file's chunk."""

FAR = 1 << 62

Microseconds: TypeAlias = Callable[[Array], tuple[Array, int]]
"""The column of times as int64 µs, and the index of the first that is no time (-1: all are)."""
Polarity: TypeAlias = Callable[[Array], Array]
"""The column of polarities as uint8 0/1. Raises ``FormatError``."""


class EventColumns:
    """Columns t, x, y and p, from as many datasets of one length (``FormatError`` otherwise; checked before by
    :func:`rtpipe.formats.hdf5.dataset`).

    ``resolution`` (width, height) is set before events are asked for.
    """

    resolution: Resolution = (0, 0)

    def __init__(self, path: Path, nodes: Sequence[Any], microseconds: Microseconds, polarity: Polarity) -> None:
        if len({len(node) for node in nodes}) > 1:
            lengths = ", ".join(f"{node.name} {len(node)}" for node in nodes)
            raise FormatError(f"{path}: columns of different lengths: {lengths}")
        self._path = path
        self._to_us, self._polarity = microseconds, polarity
        self._columns: list[Column] = []
        try:
            for node in nodes:
                self._columns.append(Column(path, node))
        except BaseException:
            self._let_go()
            raise
        self.t, self.x, self.y, self.p = self._columns
        self._n = len(self.t)
        self.chunk = min(RUN, self.t.chunk)
        self.run = self.chunk * max(1, RUN // self.chunk)
        self._runs = Runs((self.microseconds, self._xs, self._ys, self.p.read))

    def __len__(self) -> int:
        return self._n

    def microseconds(self, start: int, stop: int) -> Array:
        """The times of events ``start`` to ``stop`` as int64 µs. Raises ``FormatError`` for what is no time."""
        values = self.t.read(start, stop)
        t, bad = self._to_us(values)
        if bad >= 0:
            raise FormatError(f"{self._path}: {self.t.name}[{start + bad}]: {values[bad]} is no time")
        return t

    def first_at(self, instant: int, low: int = 0, high: int | None = None) -> int:
        """The index of the first event that is not before ``instant`` (µs), which is between ``low`` and ``high``."""
        high = self._n if high is None else high
        while high - low > self.chunk:  # by chunk: each look decompresses one
            middle = (low + high) // 2 // self.chunk * self.chunk
            middle = middle if middle > low else low + self.chunk
            if int(self.microseconds(middle, middle + 1)[0]) < instant:
                low = middle
            else:
                high = middle
        return low + int(np.searchsorted(self.microseconds(low, high), instant))

    def between(self, first: int, end: int, t0: int | None = None, t1: int | None = None) -> Iterator[Events]:
        """Events number ``first`` to ``end`` that have ``t0 <= t < t1`` (µs), in runs. Raises ``FormatError`` naming
        the place of events that are off the sensor, run backwards or have no polarity."""
        cuts = [first, *range((first // self.run + 1) * self.run, end, self.run), end]
        bounds = list(pairwise(cuts)) if first < end else []
        newest = -FAR
        for (at, stop), (t, x, y, p) in zip(bounds, self._runs.read(bounds), strict=True):
            try:
                polarity = self._polarity(p)
            except FormatError as error:
                raise FormatError(f"{self._path}: events {at} to {stop}: {error}") from error
            events = Events(t, x, y, polarity)
            wrong = fault(events, self.resolution)
            if wrong or events.t[0] < newest:
                raise FormatError(f"{self._path}: {self._words(wrong, events)} among events {at} to {stop}")
            newest = int(events.t[-1])
            yield (
                events
                if t0 is None and t1 is None
                else events.between(-FAR if t0 is None else t0, FAR if t1 is None else t1)
            )

    def close(self) -> None:
        """Let the file go, when what is being read ahead has been read. May be called twice."""
        self._runs.close()
        self._let_go()

    def _let_go(self) -> None:
        for column in self._columns:
            column.close()

    def _xs(self, start: int, stop: int) -> Array:
        return hdf5.coordinates(self._path, f"{self.x.name}[{start}:{stop}]", self.x.read(start, stop))

    def _ys(self, start: int, stop: int) -> Array:
        return hdf5.coordinates(self._path, f"{self.y.name}[{start}:{stop}]", self.y.read(start, stop))

    def _words(self, wrong: str, events: Events) -> str:
        if wrong == "coordinates":
            reach = (int(events.x.max()), int(events.y.max()))
            return f"coordinates up to {reach} are off the {self.resolution[0]}x{self.resolution[1]} sensor"
        return f"polarity {events.p.max()}" if wrong == "polarity" else "time runs backwards"
