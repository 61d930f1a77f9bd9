"""Frame, output and events of one instant, side by side in one picture.

The three arrive on different edges, in any order between them. A composer holds them until the pictures of one instant
are together: all of them in order for a video (:meth:`PanelComposer.ready`), the newest for a display
(:meth:`PanelComposer.newest`). Pictures of different instants are never mixed in silence: the title says by how much.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from rtpipe.errors import ConfigError
from rtpipe.ledger import Flow
from rtpipe.sinks.layout import Cell, Layout
from rtpipe.types import Array, Frame, FrameFlag, Packet, Resolution, StreamInfo

Panel: TypeAlias = Literal["frame", "output", "events"]
PANELS: tuple[Panel, ...] = ("frame", "output", "events")
KIND: dict[Panel, str] = {"frame": "frames", "output": "output", "events": "picture"}
"""The kind of stream that a panel shows."""
LEADS: tuple[Panel, ...] = ("output", "events", "frame")
"""The first of these that is among the panels says when there is a new picture; the others are matched to it."""

SAME_US = 2
"""Times this close are one instant: the middle of an exposure is rounded in more than one way."""
PATIENCE_NS = 100_000_000
"""How long a display waits for the missing panels of an instant before it shows what there is."""
SILENCE_NS = 1_000_000_000
"""After this long without a picture of the leading panel a display follows the others."""
KEPT = 8
"""Pictures per panel that a display keeps to match."""

Key: TypeAlias = tuple[int, int]
"""Epoch and time (µs): what puts pictures in order, also where time jumped back."""

FLAG_WORDS = {
    FrameFlag.PASSED_THROUGH: "passed through",
    FrameFlag.STATE_RESET: "state reset",
    FrameFlag.SKIPPED_BEFORE: "skipped before",
    FrameFlag.INCOMPLETE: "events missing",
}


def kinds(panels: Sequence[Panel]) -> tuple[str, ...]:
    """The kinds of streams that these panels need."""
    return tuple(KIND[panel] for panel in panels)


def flag_words(flags: FrameFlag) -> str:
    """What befell a frame, in words; empty for nothing."""
    return ", ".join(words for flag, words in FLAG_WORDS.items() if flag & flags)


@dataclass(frozen=True, slots=True, eq=False)
class Composite:
    """Panels side by side: ``image`` uint8 (H, W, 3) BGR, both sides even, overwritten by the composer's next one.

    ``t`` µs, ``epoch``, ``flags`` and ``received_ns`` (CLOCK_MONOTONIC, 0 unknown) are the leading panel's. ``whole``:
    every panel shows that instant. ``fresh``: frames that are shown for the first time, to be counted as passed.
    """

    image: Array
    t: int
    epoch: int
    received_ns: int
    flags: FrameFlag
    whole: bool
    fresh: int


@dataclass(slots=True, eq=False)
class _Held:
    key: Key
    frame: Frame
    received_ns: int
    taken_ns: int
    used: bool = False


class _Track:
    """One panel's pictures, in order, and how far its stream is known to have come."""

    def __init__(self, panel: Panel) -> None:
        self.panel: Panel = panel
        self.stream: str | None = None
        self.size: Resolution = (0, 0)
        self.held: deque[_Held] = deque()
        self.bound: Key = (-1, 0)  # every picture before it has arrived
        self.ended = False

    def settled(self, key: Key) -> bool:
        """Whether nothing can come any more that would fit ``key`` better than what is here."""
        return self.ended or self.bound > key or self.exact(key) is not None

    def exact(self, key: Key) -> _Held | None:
        """The picture of that very instant."""
        return next((held for held in reversed(self.held) if _same(held.key, key)), None)

    def best(self, key: Key) -> _Held | None:
        """The picture of that instant, else one whose exposure contains it, else the last before it."""
        epoch, t = key
        here = [held for held in self.held if held.key[0] == epoch]
        exposed = [held for held in here if _same(held.key, key) or _contains(held.frame, t)]
        earlier = [held for held in here if held.key[1] <= t]
        return min(exposed, key=lambda held: abs(held.key[1] - t), default=earlier[-1] if earlier else None)


def _same(one: Key, other: Key) -> bool:
    return one[0] == other[0] and abs(one[1] - other[1]) <= SAME_US


def _contains(frame: Frame, t: int) -> bool:
    start, end = frame.exposure_start, frame.exposure_end
    return start is not None and end is not None and start <= t <= end


class PanelComposer:
    """Puts frames of the streams ``…/frames``, ``…/output`` and ``…/picture`` side by side by their time.

    Single-threaded, never blocks. Holds at most about ``limit_bytes`` of pictures; what does not fit is dropped,
    counted in ``flow`` and, where a panel lacks its picture for it, said in its title. ``flow`` counts frames: the
    composer what it takes and drops, the sink what it shows (``Composite.fresh``). Raises ``ConfigError`` on an empty
    or repeated choice of panels. ``layout`` and ``visible`` (which panels are drawn) may be changed at any time.
    """

    def __init__(
        self, panels: Sequence[Panel] = PANELS, layout: Layout | None = None, limit_bytes: int = 256 << 20
    ) -> None:
        if not panels or len(set(panels)) != len(panels) or not set(panels) <= set(PANELS):
            raise ConfigError(f"panels: {list(panels)} cannot be shown; choose one or more of {', '.join(PANELS)}")
        self.flow = Flow()
        self.layout = layout or Layout()
        self.visible = tuple(panels)
        self._tracks = {panel: _Track(panel) for panel in panels}
        self._limit, self._bytes = limit_bytes, 0
        self._first_ns: int | None = None
        self._last_lead_ns = self._last_whole_ns = 0
        self._shown: tuple[_Held, dict[Panel, _Held | None]] | None = None

    @property
    def panels(self) -> tuple[Panel, ...]:
        """What is composed, in order, left to right."""
        return tuple(self._tracks)

    def open(self, streams: Sequence[StreamInfo]) -> None:
        """Learn which streams there are; a panel whose kind of stream does not exist is left out if another exists."""
        for info in streams:
            for track in self._tracks.values():
                if KIND[track.panel] == info.kind and track.stream is None:
                    track.stream, track.size = info.name, info.resolution or (0, 0)
        bound = {panel: track for panel, track in self._tracks.items() if track.stream is not None}
        self._tracks = bound or self._tracks

    def take(self, packet: Packet, now_ns: int = 0) -> None:
        """Hold a packet's frame (no copy; it keeps the message alive) or note what a watermark or an end says.

        ``now_ns`` is the clock that :meth:`newest` is asked with.
        """
        track = self._track(packet)
        if isinstance(packet.body, Frame):
            self.flow.taken += 1
            if self._first_ns is None:
                self._first_ns = self._last_lead_ns = self._last_whole_ns = now_ns
            key = packet.epoch, packet.body.t
            if track is None:
                self.flow.drop("no panel")
            elif not _drawable(packet.body.image):
                self.flow.drop("bad picture")
            elif track.held and key < track.held[-1].key:
                self.flow.drop("out of order")
            else:
                track.held.append(_Held(key, packet.body, packet.received_ns, now_ns))
                track.bound, track.ended = max(track.bound, key), False
                self._bytes += packet.body.image.nbytes
                if track is self._lead:
                    self._last_lead_ns = now_ns
        elif track is not None:
            track.bound = max(track.bound, (packet.epoch, packet.t_last))
        if track is not None and packet.end:
            track.ended = True

    def ready(self) -> Iterator[Composite]:
        """All composites that can be made now, one for each picture of the leading panel, in order.

        A panel is waited for until its picture is there or can no longer come (a later one has, or its stream has
        ended); then its last one is repeated, marked.
        """
        lead = self._lead
        others = [track for track in self._tracks.values() if track is not lead]
        while lead.held:
            held = lead.held[0]
            if self._bytes <= self._limit and not all(track.settled(held.key) for track in others):
                break
            yield self._compose(held)
            self._let_go(lead, "unmatched")
            for track in others:
                self._forget(track, held.key, "unmatched")
        while self._bytes > self._limit and any(track.held for track in others):
            self._let_go(max(others, key=lambda track: len(track.held)), "overflow")

    def newest(self, now_ns: int) -> Composite | None:
        """The newest instant not yet shown, or None. One with all its panels is preferred for up to ``PATIENCE_NS``;
        older pictures are dropped, counted as superseded."""
        held = self._newest_held(now_ns)
        composite = None
        if held is not None:
            composite = self._compose(held)
            if composite.whole:
                self._last_whole_ns = now_ns
            for track in self._tracks.values():
                self._forget(track, held.key, "superseded")
        for track in self._tracks.values():
            while len(track.held) > KEPT:
                self._let_go(track, "superseded")
        return composite

    def again(self) -> Array | None:
        """The newest composite once more, after ``layout`` or ``visible`` was changed; None before the first."""
        return self._draw() if self._shown is not None else None

    def end(self, reason: str = "unmatched") -> Iterator[Composite]:
        """Nothing more will come: the composites that are left, in order; what was never shown is dropped, counted."""
        for track in self._tracks.values():
            track.ended = True
        yield from self.ready()
        self.discard(reason)

    def discard(self, reason: str) -> None:
        """Let everything go; what was never shown is counted as dropped for ``reason``."""
        for track in self._tracks.values():
            while track.held:
                self._let_go(track, reason)

    @property
    def _lead(self) -> _Track:
        return next(self._tracks[panel] for panel in LEADS if panel in self._tracks)

    def _track(self, packet: Packet) -> _Track | None:
        kind = packet.stream.rsplit("/", 1)[-1]
        for track in self._tracks.values():
            if KIND[track.panel] == kind and track.stream in (None, packet.stream):
                track.stream = packet.stream
                return track
        return None

    def _newest_held(self, now_ns: int) -> _Held | None:
        lead = self._lead
        others = [track for track in self._tracks.values() if track is not lead]
        for held in reversed(lead.held):
            if held.used:
                break
            if all(track.exact(held.key) is not None for track in others):
                return held
        if lead.held and not lead.held[-1].used:
            held = lead.held[-1]
            patience = PATIENCE_NS if now_ns - self._last_whole_ns < SILENCE_NS else 0
            if now_ns - held.taken_ns >= patience or all(track.settled(held.key) and track.ended for track in others):
                return held
        if self._first_ns is not None and now_ns - self._last_lead_ns >= SILENCE_NS:
            newest = max((track.held[-1] for track in others if track.held), key=lambda h: h.key, default=None)
            if newest is not None and not newest.used:
                return newest
        return None

    def _compose(self, lead: _Held) -> Composite:
        chosen = {panel: lead if lead in track.held else track.best(lead.key) for panel, track in self._tracks.items()}
        self._shown = lead, chosen
        image = self._draw()
        fresh = 0
        for held in chosen.values():
            if held is not None and not held.used:
                held.used, fresh = True, fresh + 1
        whole = all(held is not None and _same(held.key, lead.key) for held in chosen.values())
        return Composite(image, lead.key[1], lead.key[0], lead.received_ns, lead.frame.flags, whole, fresh)

    def _draw(self) -> Array:
        assert self._shown is not None
        lead, chosen = self._shown
        panels = [panel for panel in chosen if panel in self.visible]
        return self.layout.draw([_cell(self._tracks[panel], chosen[panel], lead) for panel in panels])

    def _forget(self, track: _Track, key: Key, reason: str) -> None:
        """Let go what no instant from ``key`` on can need: all but the last picture up to it."""
        while len(track.held) > 1 and track.held[1].key <= key:
            self._let_go(track, reason)

    def _let_go(self, track: _Track, reason: str) -> None:
        held = track.held.popleft()
        self._bytes -= held.frame.image.nbytes
        if not held.used:
            self.flow.drop(reason)


def _cell(track: _Track, held: _Held | None, lead: _Held) -> Cell:
    size = lead.frame.resolution if track.size == (0, 0) else track.size
    if held is None:
        return Cell(track.panel, "no frame", None, size)
    title = f"{track.panel}: {held.frame.source}" if track.panel == "output" else track.panel
    us = held.key[1] - lead.key[1]
    apart = "" if _same(held.key, lead.key) else f"{us / 1000:+.1f} ms"
    marks = ", ".join(words for words in (apart, flag_words(held.frame.flags)) if words)
    return Cell(title, marks, held.frame.image, size)


def _drawable(image: Array) -> bool:
    shape_fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)
    return shape_fits and image.size > 0 and image.dtype in (np.uint8, np.uint16)
