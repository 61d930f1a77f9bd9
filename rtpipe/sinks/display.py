"""Sink ``display``: the panels in a window, with numbers and keys.

Takes the newest of each stream and never blocks what is upstream. Without a screen it says so in one line, counts
what it is given and shows nothing; the run goes on.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import cv2
import msgspec
import numpy as np
from msgspec import Meta, Struct

from rtpipe.clocks.relation import Clock
from rtpipe.ledger import Flow
from rtpipe.sinks import overlay
from rtpipe.sinks.layout import Layout, text_width, write
from rtpipe.sinks.panels import PANELS, Composite, Panel, PanelComposer, kinds
from rtpipe.sinks.screen import Window, why_no_screen
from rtpipe.types import Array, Frame, Packet, StreamInfo

DELIVERY = "latest"
POLL_NS = 5_000_000
"""Keys and mouse are looked at no more often than this."""
MESSAGE_NS = 4_000_000_000
LONGEST_NS = 60_000_000_000
"""A picture older than this is none of the clock that is known (a replay that was sought)."""
MOST_LATENCIES = 10_000
SLOWEST, FASTEST = 1 / 64, 64.0

log = logging.getLogger(__name__)

KEYS = {
    ord("q"): "stop",
    27: "stop",
    0xFF1B: "stop",
    ord(" "): "pause",
    ord("r"): "record",
    ord("s"): "snapshot",
    ord("+"): "faster",
    ord("="): "faster",
    0xFFAB: "faster",
    ord("-"): "slower",
    0xFFAD: "slower",
    0xFF51: "back",
    0xFF53: "forward",
    ord("l"): "live",
    ord("k"): "keep",
    ord("."): "step",
    ord("p"): "layout",
    ord("h"): "help",
    ord("o"): "numbers",
}
"""Key codes (characters, X11 key symbols for the others) to what they do."""


def action_of(key: int) -> str:
    """What a key code asks for; empty for a key without a meaning. Capitals are as good as small letters."""
    code = key & 0xFFFF  # above: whether Num Lock and the like are on
    return KEYS.get(code + 32 if ord("A") <= code <= ord("Z") else code, "")


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``snapshots``: the folder for pictures saved with the key ``s``."""

    panels: tuple[Panel, ...] = PANELS
    snapshots: str = "recordings"
    title: str = "rtpipe"
    numbers: bool = True
    """Whether rate, latency and loss are written over the pictures at the start (key ``o``)."""
    min_height: Annotated[int, Meta(ge=1, le=4320)] = 400
    """Small pictures are enlarged by a whole factor to at least this height."""
    max_rate: Annotated[float, Meta(gt=0, le=1000)] = 60.0
    """The screen is redrawn at most so many times a second."""


class _Part(Struct):
    kind: str = ""
    speed: float = 0.0


class _History(Struct):
    seconds: float


class _Pipeline(Struct):
    sources: dict[str, _Part] = {}
    sinks: dict[str, _Part] = {}
    history: _History | None = None


def wants(settings: Settings) -> tuple[str, ...]:
    """The kinds of streams that the panels need."""
    return kinds(settings.panels)


class Sink:
    """Shows panels and turns keys into commands. To be used from one thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._composer = PanelComposer(settings.panels, Layout(settings.min_height), limit_bytes=128 << 20)
        self._meter = overlay.Meter()
        self._window: Window | None = None
        self._absent = ""
        self._status = self._message = ""
        self._message_ns = self._polled_ns = self._drawn_ns = 0
        self._image: Array | None = None
        self._t = 0
        self._paused = self._recording = self._help = False
        self._history: _History | None = None
        self._rewound_s: float | None = None
        self._clock: Clock | None = None
        self._since_sensor: list[int] = []
        self._paused_live = False
        self._numbers, self._speed, self._choice = settings.numbers, 1.0, 0
        self._dirty = True

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``frames``: passed are those that were on the screen."""
        return {"frames": self._composer.flow}

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's report says of this sink: why nothing is shown, where that is so."""
        return {"window": f"none: {self._absent}"} if self._absent else {}

    def latencies(self) -> Sequence[int]:
        """How long (ns) it took from the instant that each picture shows, by its camera's clock, to the screen: of
        those shown since this was last asked for."""
        taken, self._since_sensor = self._since_sensor, []
        return taken

    def clock(self, clock: Clock | None) -> None:
        """The clock of the source that is shown, on this computer's; None: not steady, as of a replay at no pace."""
        self._clock = clock

    def note(self, name: str, text: str) -> None:
        """Before :meth:`open`: ``"pipeline"``, what it is made of, as JSON. It tells whether there is a recorder, which
        then records from the start, at which speed a replay begins, and whether the last seconds are kept. Anything
        else is ignored."""
        if name == "pipeline":
            made = msgspec.json.decode(text, type=_Pipeline)
            self._recording = any(sink.kind == "record" for sink in made.sinks.values())
            self._speed = next((source.speed for source in made.sources.values() if source.speed > 0), 1.0)
            self._history = made.history

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Open the window, or say why there is none. Blocks for about half a second."""
        self._composer.open(streams)
        self._absent = why_no_screen()
        if self._absent:
            log.warning("display: no window: %s; the run goes on without it", self._absent)
            return ()
        self._window = Window(self._settings.title)
        image = np.full((240, 640, 3), 30, np.uint8)
        text = "waiting for the first picture"
        write(image, text, ((640 - text_width(text)) // 2, 125), overlay.WHITE)
        self._window.show(image)
        self._window.poll()
        return ()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Take a packet; it is shown, or something newer is, when :meth:`idle` is called next."""
        if self._window is None:
            if isinstance(packet.body, Frame):
                self._composer.flow.taken += 1
                self._composer.flow.drop("no screen" if self._absent else "window closed")
            return ()
        self._meter.counted(packet.stream, packet.counters)
        self._composer.take(packet, time.monotonic_ns())
        return ()

    def status(self, line: str) -> None:
        """The pipeline's own line, shown over the pictures."""
        self._dirty |= line != self._status
        self._status = line

    def rewound(self, seconds: float | None) -> None:
        """How far what is shown is rewound; None: it is live."""
        if (seconds is None) != (self._rewound_s is None):  # each has a pause of its own, and a rewind begins playing
            if seconds is None:
                self._paused = self._paused_live
            else:
                self._paused_live, self._paused = self._paused, False
        self._dirty |= seconds != self._rewound_s
        self._rewound_s = seconds

    def idle(self) -> Sequence[str]:
        """Show what is new, look at the keys; returns commands. Takes a few ms at most, and often does nothing."""
        now = time.monotonic_ns()
        if self._window is None or now - self._polled_ns < POLL_NS:
            return ()
        self._polled_ns = now
        if now - self._drawn_ns >= 1e9 / self._settings.max_rate:
            self._redraw(self._window, now)
        key = self._window.poll()
        if self._window.closed:
            self._window = None
            self._composer.discard("window closed")
            return ("stop",)
        return self._press(action_of(key), now) if key != -1 else ()

    def close(self) -> Sequence[Packet]:
        """Close the window."""
        self._composer.discard("superseded")
        if self._window is not None:
            self._window.close()
            self._window = None
        return ()

    def _redraw(self, window: Window, now: int) -> None:
        composite = self._composer.newest(now)
        if self._message and now - self._message_ns > MESSAGE_NS:
            self._message, self._dirty = "", True
        if composite is not None:
            self._image, self._t = composite.image, composite.t
            self._composer.flow.passed += composite.fresh
        elif not self._dirty or self._image is None:
            return
        picture = self._image.copy()
        if self._numbers:
            lines = [self._status, self._meter.line(now, self._composer.flow.dropped)]
            overlay.draw_lines(picture, lines, self._message)
        elif self._message:
            overlay.draw_lines(picture, [], self._message)
        overlay.draw_state(picture, self._paused, self._recording, self._rewound_s)
        if self._help:
            overlay.draw_help(picture)
        window.show(picture)
        if composite is not None:
            self._count(composite)
        self._drawn_ns, self._dirty = now, False

    def _count(self, composite: Composite) -> None:
        """A picture is on the screen: how late."""
        now, sensed = time.monotonic_ns(), 0
        if self._clock is not None and self._rewound_s is None:
            at = self._clock.at(composite.t)
            if 0 < now - at < LONGEST_NS:
                sensed = at
                self._since_sensor.append(now - at)
                del self._since_sensor[:-MOST_LATENCIES]
        self._meter.shown(now, composite.received_ns, sensed)

    def _press(self, action: str, now: int) -> Sequence[str]:
        """Do what a key asks for here; what concerns the pipeline is returned as commands."""
        commands: tuple[str, ...] = ()
        said = ""
        if action == "stop":
            commands, said = ("stop",), "stopping"
        elif action == "pause":
            self._paused = not self._paused
            commands = ("pause" if self._paused else "resume",)
        elif action == "step":
            commands = ("step",) if self._paused else ("pause", "step")
            self._paused = True
        elif action == "record":
            self._recording = not self._recording
            commands = ("record on" if self._recording else "record off",)
        elif action in ("back", "forward"):
            back = "rewind 1" if self._history is not None else "seek -1"
            commands = (back if action == "back" else "seek +1",)
        elif action == "live":
            commands = ("live",)
        elif action == "keep" and self._history is not None:
            commands, said = (f"save {self._history.seconds:g}",), "saving what just happened"
        elif action == "keep":
            said = "nothing is kept: this pipeline has no history"
        elif action in ("faster", "slower"):
            factor = 2.0 if action == "faster" else 0.5
            self._speed = min(FASTEST, max(SLOWEST, self._speed * factor))
            commands, said = (f"speed {self._speed:g}",), f"speed {self._speed:g}"
        elif action == "snapshot":
            said = self._snapshot()
        elif action == "layout":
            self._next_layout()
        elif action == "help":
            self._help = not self._help
        elif action == "numbers":
            self._numbers = not self._numbers
        self._dirty |= bool(action)
        if said:
            self._message, self._message_ns = said, now
        return commands

    def _next_layout(self) -> None:
        """All in a row, all in a column, each alone, and around again."""
        panels = self._composer.panels
        choices: list[tuple[tuple[Panel, ...], bool]] = [(panels, False)]
        if len(panels) > 1:
            choices += [(panels, True), *(((panel,), False) for panel in panels)]
        self._choice = (self._choice + 1) % len(choices)
        self._composer.visible, vertical = choices[self._choice]
        min_height = self._settings.min_height // len(panels) if vertical else self._settings.min_height
        self._composer.layout = Layout(min_height, vertical)
        self._image = self._composer.again()

    def _snapshot(self) -> str:
        if self._image is None:
            return "nothing to save yet"
        path = Path(self._settings.snapshots) / time.strftime(f"snapshot-%Y%m%d-%H%M%S-{self._t}.png")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(cv2.imencode(".png", self._image)[1].tobytes())
        except OSError as error:
            return f"cannot save {path}: {error.strerror}"
        return f"saved {path}"
