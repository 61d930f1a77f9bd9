"""From a cut to a window: tensors, masks and pictures, made in buffers that are used again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

import numpy as np

from rtpipe.types import Array, Frame, PackedEvents, Resolution, Window
from rtpipe.window import count, letc, scer, stack, time_surface, two_polarity, voxel
from rtpipe.window.columns import t_first, t_last
from rtpipe.window.cut import Cut
from rtpipe.window.mask import closed_mask
from rtpipe.window.own_events import Gatherer
from rtpipe.window.picture import Background, Painter


class Filler(Protocol):
    """One representation being filled; see ``voxel.py`` and its siblings."""

    shape: tuple[int, int, int]

    def open(self, out: Array, t0: int, t1: int) -> None:
        """Begin in ``out`` between the edges ``t0`` and ``t1``."""
        ...

    def add(self, events: PackedEvents) -> None:
        """Add the next events."""
        ...

    def close(self) -> None:
        """Finish."""
        ...


MAX_BINS = 256


class Kind(NamedTuple):
    """A representation that is a tensor: what fills it, its ``bins`` where nobody says how many, and how many it may
    have. ``edgeless``: the same whatever the edges, so always filled as packets arrive. ``holds``: events are held
    until the close even where edges are known. ``learned``: the filler also takes the table that comes with an engine's
    weights. ``empty``: what makes room for a tensor whose memory is not in C order."""

    filler: Callable[..., Filler]
    bins: int
    fewest: int
    most: int
    edgeless: bool = False
    holds: bool = False
    learned: bool = False
    empty: Callable[[Resolution], Array] | None = None


FILLERS: Mapping[str, Kind] = {
    "voxel": Kind(voxel.Filler, 5, 2, MAX_BINS),
    "two_polarity_voxel": Kind(two_polarity.Filler, 5, 2, MAX_BINS),
    "scer": Kind(scer.Filler, scer.CHANNELS, scer.CHANNELS, scer.CHANNELS),
    "count": Kind(count.Filler, count.CHANNELS, count.CHANNELS, count.CHANNELS, edgeless=True),
    "time_surface": Kind(time_surface.Filler, time_surface.CHANNELS, time_surface.CHANNELS, time_surface.CHANNELS),
    "stack": Kind(stack.Filler, stack.CHUNKS, 1, MAX_BINS, holds=True),
    "calibrated_voxel": Kind(letc.Filler, letc.BINS, letc.BINS, letc.BINS, learned=True, empty=letc.empty),
}
"""Representations that are tensors, by name."""

EVENTS, NONE = "events", "none"
"""The representations that are the window's events themselves, and nothing but its edges and its frame."""


def as_they_come(representation: str, edges: bool) -> bool:
    """Whether events go into the window as they arrive: its ``edges`` are known in advance, or do not matter."""
    return edges or representation not in FILLERS or FILLERS[representation].edgeless


def held(representation: str, edges: bool) -> bool:
    """Whether events, or copies of them, are held until the window closes."""
    if representation in FILLERS:
        return FILLERS[representation].holds or not as_they_come(representation, edges)
    return representation == EVENTS


class Making:
    """One window being made. Its buffers are its own until it is made anew."""

    def __init__(
        self, resolution: Resolution, representation: str, bins: int, filling: bool, picture: bool,
        table: Array | None = None, own: bool = False,
    ) -> None:  # fmt: skip
        width, height = resolution
        self._filling = filling
        self._filler: Filler | None = None
        self._tensor: Array | None = None
        if representation in FILLERS:
            kind = FILLERS[representation]
            self._filler = kind.filler(resolution, bins, *((table,) if kind.learned else ()))
            self._tensor = kind.empty(resolution) if kind.empty else np.empty(self._filler.shape, np.float32)
        self._mask = np.empty((height, width), np.uint8) if representation == "scer" else None
        self._own = Gatherer() if own or representation == EVENTS else None
        self._held: list[PackedEvents] = []
        self._counter = count.Filler(resolution) if picture else None
        self._counts = np.empty((2, height, width), np.float32) if picture else None

    def open(self, cut: Cut) -> None:
        """Begin with nothing."""
        if self._filler is not None and self._tensor is not None and self._filling:
            self._filler.open(self._tensor, cut.t_start, cut.t_end)
        if self._own is not None:
            self._own.open(cut.t_start)
        if self._counter is not None and self._counts is not None:
            self._counter.open(self._counts, cut.t_start, cut.t_end)

    def add(self, events: PackedEvents) -> None:
        """Take events: into the tensor where its edges are known, else held until the close."""
        if self._filler is not None:
            if self._filling:
                self._filler.add(events)
            else:
                self._held.append(events)
        if self._own is not None:
            self._own.add(events)
        if self._counter is not None:
            self._counter.add(events)

    def close(self, cut: Cut) -> Window:
        """The window. Its arrays are this object's buffers."""
        if self._filler is not None and self._tensor is not None:
            if not self._filling:
                first = t_first(self._held[0]) if self._held else cut.t_start
                last = t_last(self._held[-1]) if self._held else first
                self._filler.open(self._tensor, first, last)
                for events in self._held:
                    self._filler.add(events)
                self._held.clear()
            self._filler.close()
            if self._mask is not None:
                closed_mask(self._tensor, out=self._mask)
        own = None if self._own is None else self._own.events
        times = self._filler.times if isinstance(self._filler, stack.Filler) else None
        return Window(cut.t_start, cut.t_end, cut.n_events, self._tensor, self._mask, own, cut.frame, cut.flags, times)

    def abandon(self) -> None:
        """Let go of what was held."""
        self._held.clear()

    def picture(self, painter: Painter) -> Array | None:
        """A drawing of the closed window's events, a new array; None where none is wanted."""
        return None if self._counts is None else painter.draw(self._counts)


class Maker:
    """Makes windows of one kind; with ``own`` they hold their events too, whatever they are made into.

    What :meth:`close` returns is valid until :meth:`recycle`."""

    def __init__(
        self, resolution: Resolution, representation: str, bins: int, filling: bool,
        picture: bool = False, background: Background = "dark", table: Array | None = None, own: bool = False,
    ) -> None:  # fmt: skip
        self._kind = (resolution, representation, bins, filling, picture, table, own)
        self._painter = Painter(background) if picture else None
        self._under_way: dict[Cut, Making] = {}
        self._lent: list[Making] = []
        self._free = [Making(*self._kind)]

    def recycle(self) -> None:
        """The windows made so far have been used: their buffers may serve again."""
        self._free += self._lent
        self._lent.clear()

    def open(self, cut: Cut) -> None:
        """Begin a window."""
        making = self._free.pop() if self._free else Making(*self._kind)
        making.open(cut)
        self._under_way[cut] = making

    def add(self, cut: Cut, events: PackedEvents) -> None:
        """Give it events."""
        self._under_way[cut].add(events)

    def close(self, cut: Cut) -> tuple[Window, Frame | None]:
        """The window, and a drawing of its events at the instant of its frame (its end without one)."""
        making = self._under_way.pop(cut)
        self._lent.append(making)
        window = making.close(cut)
        image = None if self._painter is None else making.picture(self._painter)
        if image is None:
            return window, None
        t = cut.t_end if cut.frame is None else cut.frame.t
        return window, Frame(image, t, source="events", flags=cut.flags)

    def abandon(self, cut: Cut) -> None:
        """Drop it."""
        making = self._under_way.pop(cut)
        making.abandon()
        self._free.append(making)
