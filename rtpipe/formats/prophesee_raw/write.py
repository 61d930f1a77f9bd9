"""Writing RAW files of EVT3, as short as the encoding allows, for our own and the vendor's tools."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import ClassVar, TypeVar

import numpy as np

from rtpipe.encodings.evt3 import Encoder
from rtpipe.errors import InputError
from rtpipe.formats.export import Export
from rtpipe.formats.packets import cut
from rtpipe.packing import fault, unpack
from rtpipe.types import Count, Events, PackedEvents, Packet, Resolution, StreamInfo, Trigger

SUFFIXES = (".raw",)

_R = TypeVar("_R", Events, Trigger)

WIDEST = 2048
"""EVT3 has 11 bits for columns and rows."""

TIME_BASE = "rtpipe_time_base_us"
"""The header's key for what must be added to the file's times: EVT3 begins below 2**24 µs. A multiple of that."""


class Writer(Export):
    """A RAW recording of EVT3, written as it comes (a context manager).

    ``resolution`` is the sensor's (width, height), ``camera`` words that are kept in the header. Where ``triggers``
    will come too, events wait until a later packet of events shows that no trigger can precede them any more (a cell of
    the grid of packets). Grows as ``PATH.part``, takes its name in :meth:`close`; after an error no ``PATH`` is left.
    """

    HOLDS: ClassVar[tuple[str, ...]] = ("events", "triggers")

    def __init__(
        self, path: str | os.PathLike[str], resolution: Resolution, camera: str = "", *, triggers: bool = False
    ) -> None:
        super().__init__(path)
        self.resolution = resolution
        if max(resolution) > WIDEST or min(resolution) < 1:
            raise InputError(f"{self.path}: EVT3 holds sensors up to {WIDEST}x{WIDEST}, not {resolution}")
        self._camera = "".join(sign if sign.isprintable() else " " for sign in camera)[:200]
        self._triggers = triggers
        self._encoder: Encoder | None = None
        self._events: list[Events] = []
        self._signals: list[Trigger] = []
        self._complete = -(1 << 62)
        self._written = {"events": 0, "triggers": 0}
        with self._world():
            self._file = self._part.open("wb")

    @classmethod
    def for_streams(cls, path: str | os.PathLike[str], streams: Sequence[StreamInfo]) -> Writer:
        """A writer for the one stream of events, and the triggers if there are any, among ``streams``."""
        events = [stream for stream in streams if stream.kind == "events"]
        triggers = [stream for stream in streams if stream.kind == "triggers"]
        if len(events) != 1 or events[0].resolution is None or len(triggers) > 1:
            held = f"{len(events)} of events and {len(triggers)} of triggers"
            raise InputError(f"{path}: a RAW file holds one stream of events and at most one of triggers, not {held}")
        return cls(path, events[0].resolution, events[0].camera, triggers=bool(triggers))

    def write(self, packet: Packet) -> None:
        """Append a packet of events or triggers (``InputError`` for what EVT3 cannot hold)."""
        body = packet.body
        if isinstance(body, PackedEvents):
            body = unpack(body)
        if isinstance(body, Trigger):
            if not self._triggers:
                raise InputError(f"{self.path}: triggers were not announced for this file")
            self._signals.append(Trigger(body.t.copy(), body.channel.copy(), body.edge.copy()))
        elif packet.stream.endswith("/events") and (body is None or isinstance(body, Events)):
            if not self._triggers:
                self._encode(body or Events.empty(), ())
                return
            self._flush(min(self._complete, packet.t_first))
            if body is not None and len(body):
                self._events.append(Events(body.t.copy(), body.x.copy(), body.y.copy(), body.p.copy()))
            if body is None or not len(body) or packet.t_last > int(body.t[-1]):
                self._complete = packet.t_last  # triggers that are earlier may still come, until the next of events
        elif body is not None:
            raise InputError(f"{self.path}: a RAW file cannot hold {type(body).__name__}")

    def close(self) -> Mapping[str, Count]:
        """Finish the file and give it its name; how much of each stream it holds. May be called twice."""
        if self._open:
            self._flush(1 << 62)
            if self._encoder is None:
                self._begin(0)
            self._name()
        counts = {"camera/events": Count(0, self._written["events"])}
        if self._triggers:
            counts["camera/triggers"] = Count(self._written["triggers"], 0)
        return counts

    def _flush(self, until: int) -> None:
        """Write what waits and is earlier than ``until`` (µs)."""
        events, signals = _taken(self._events, until), _taken(self._signals, until)
        if any(map(len, events)) or any(map(len, signals)):
            self._encode(Events.concatenate(events), signals)

    def _encode(self, events: Events, signals: Sequence[Trigger]) -> None:
        columns = ([getattr(run, name) for run in signals] for name in ("t", "channel", "edge"))
        triggers = Trigger(*(np.concatenate(column) for column in columns)) if signals else None
        n_triggers = 0 if triggers is None else len(triggers)
        if not len(events) and not n_triggers:
            return
        wrong = fault(events, self.resolution)
        if wrong:
            raise InputError(f"{self.path}: events with bad {wrong} cannot be written")
        if self._encoder is None:
            firsts = [int(run.t[0]) for run in (events, triggers) if run is not None and len(run)]
            self._begin(min(firsts))
        assert self._encoder is not None
        try:
            words = self._encoder.encode(events, triggers)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from error
        with self._world():
            self._file.write(words.data)
        self._written["events"] += len(events)
        self._written["triggers"] += n_triggers

    def _begin(self, first: int) -> None:
        """The header, and an encoder for times from ``first`` on."""
        if not 0 <= first < 1 << 60:
            raise InputError(f"{self.path}: time {first} µs: EVT3 holds times from 0")
        base = first >> 24 << 24
        width, height = self.resolution
        lines = [
            "% camera_integrator_name Prophesee",
            "% evt 3.0",
            f"% format EVT3;height={height};width={width}",
            f"% geometry {width}x{height}",
            "% integrator_name Prophesee",
            "% plugin_integrator_name Prophesee",
            "% plugin_name hal_plugin_prophesee",  # the vendor's own name for "any of them": its tools want one
        ]
        if self._camera:
            lines.append(f"% rtpipe_camera {self._camera}")
        if base:
            lines.append(f"% {TIME_BASE} {base}")
        with self._world():
            self._file.write("\n".join([*lines, "% end", ""]).encode())
        self._encoder = Encoder(base)


def _taken(waiting: list[_R], until: int) -> list[_R]:
    """What of ``waiting`` is earlier than ``until`` (µs); the rest stays in it."""
    ready, later = [], []
    for run in waiting:
        n = int(np.searchsorted(run.t, until))
        ready.append(cut(run, 0, n))
        later.append(cut(run, n, len(run)))
    waiting[:] = [run for run in later if len(run)]
    return ready
