"""The history stage: what a source sends goes through at once and into a ring, from which it can be played again."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rtpipe.errors import InputError
from rtpipe.history.outlet import Outlet
from rtpipe.history.play import Play
from rtpipe.history.ring import Ring, size_of
from rtpipe.history.save import Save
from rtpipe.history.settings import HistorySettings
from rtpipe.ledger import Flow
from rtpipe.types import Frame, Imu, Packet, StreamInfo, Trigger

LOG = logging.getLogger(__name__)

REWOUND = "rewound"
"""Why something of a live camera was not passed on: it came while the stream was rewound."""
MOST = 16
"""Packets that one call of :meth:`HistoryStage.due` returns at most."""
KEEP_ALIVE_S = 3.0
"""A rewound replay waits; one packet in so long is taken all the same, so that its driver sees that we live."""
PENDING_BYTES = 64 << 20
LIFE_EPOCHS = 1 << 20
"""A stage that was restarted begins at an epoch that none before it had."""


class NotRewoundError(InputError):
    """The command is for a rewound stream, and this one is not: the driver may know what to do."""


class HistoryStage:
    """Passes a source's streams on under their own names, ``seq`` and ``epoch`` its own, and keeps the last seconds.

    Rewound, it sends packets from the ring again, with their own times and a new epoch (``received_ns`` is when they
    are sent again), up to the moment of asking; then it is live. What a ``live`` camera sends meanwhile goes into the
    ring and is dropped as ``"rewound"``; a replay is not taken from (:attr:`taking`), and goes on where it was. Where
    packets follow one another that did not before, a new epoch begins, and frames whose exposure began before the
    first events there are left out. ``life`` counts restarts. To be used from one thread.
    """

    def __init__(self, settings: HistorySettings, *, live: bool, life: int = 0) -> None:
        self._settings, self._live = settings, live
        self._ring = Ring(round(settings.megabytes * 1e6), round(settings.seconds * 1e6))
        self._streams: tuple[StreamInfo, ...] = ()
        self._flows: dict[str, Flow] = {}
        self._again: dict[str, Flow] = {}
        self._notes: dict[str, str] = {}
        self._outlet = Outlet(life * LIFE_EPOCHS)
        self._count = 0
        self._came: tuple[int, int] | None = None  # the driver's epoch and time of the newest packet
        self._at = 0
        self._play: Play | None = None
        self._speed = settings.speed
        self._pending: deque[Packet] = deque()
        self._pending_bytes = 0
        self._ends: list[Packet] = []
        self._taken_at = 0.0
        self._rewinds = self._not_kept = 0
        self._save: Save | None = None
        self._saved: list[str] = []

    @property
    def flows(self) -> Mapping[str, Flow]:
        """By kind of stream, in events, frames and samples: what came, what was passed on as it came, what was dropped;
        and, with ``" again"``, what was taken from the ring and sent once more."""
        return {**self._flows, **{f"{kind} again": flow for kind, flow in self._again.items() if flow.taken}}

    @property
    def facts(self) -> Mapping[str, str]:
        """What the run's report says: what is kept and what could not be, how often it was rewound, what was saved."""
        oldest, newest = self._ring.oldest, self._ring.newest
        span = (newest.at - oldest.at) / 1e6 if oldest is not None and newest is not None else 0.0
        said = {"kept": f"{span:.1f} s in {self._ring.bytes / 1e6:.0f} MB"}
        if self._rewinds:
            said["rewound"] = f"{self._rewinds} times"
        if self._not_kept:
            said["not kept"] = f"{self._not_kept:,} packets, for want of room beside what was being played or saved"
        for number, outcome in enumerate(self._saved):
            said["save" if number == 0 else f"save {number + 1}"] = outcome
        return said

    @property
    def rewound_s(self) -> float | None:
        """How far behind the newest data the stream is, in seconds; None while it is live."""
        return None if self._play is None else (self._at - self._play.at) / 1e6

    @property
    def taking(self) -> bool:
        """Whether a packet may be given to :meth:`process` now. A live camera's always may."""
        if self._live or (self._play is None and not self._pending):
            return True
        return (
            self._play is not None
            and time.monotonic() - self._taken_at > KEEP_ALIVE_S
            and self._pending_bytes < PENDING_BYTES
        )

    @property
    def busy(self) -> bool:
        """Whether :meth:`due` has or will have something to return."""
        return self._play is not None or bool(self._pending) or bool(self._ends)

    @property
    def bytes(self) -> int:
        """Memory that the ring takes; at most what the settings say."""
        return self._ring.bytes

    def note(self, name: str, text: str) -> None:
        """Text that goes into every file that is saved: the pipeline."""
        if name == "pipeline":
            self._notes[name] = text

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """The streams go on as they come."""
        self._streams = tuple(streams)
        self._flows = {stream.kind: Flow() for stream in streams}
        self._again = {stream.kind: Flow() for stream in streams}
        self._outlet.open(streams)
        return self._streams

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Keep a packet; returns it while the stream is live."""
        self._taken_at = time.monotonic()
        if self._play is not None and self._live:
            self._miss(packet)
            return ()
        if self._play is not None or self._pending:
            self._pending.append(packet)
            self._pending_bytes += size_of(packet)
            return ()
        return self._pass(packet)

    def due(self) -> Sequence[Packet]:
        """What is due without anything having come: a few packets of a rewound stream, or what waited behind one.
        Their arrays are the ring's: valid until the next call of :meth:`process`."""
        self._collect()
        made: list[Packet] = []
        while self._play is not None and len(made) < MOST:
            kept = self._ring.from_number(self._play.cursor)
            if kept is None or kept.number >= self._play.end:
                self.go_live()
            elif not self._play.due(kept):
                return made
            else:
                self._play.sent(kept)
                self._ring.hold = self._play.cursor
                packet = self._again_from(kept.packet, kept.number)
                if packet is not None:
                    made.append(packet)
                    if self._is_step(packet) and self._play.stepped():
                        return made
        while self._play is None and self._pending and len(made) < MOST:
            packet = self._pending.popleft()
            self._pending_bytes -= size_of(packet)
            made += self._pass(packet)
        if self._play is None and self._ends:
            made += (self._outlet.numbered(end, end.received_ns) for end in self._ends)
            self._ends.clear()
        return made

    def go_live(self) -> None:
        """End a rewind at once; without one, nothing happens."""
        self._play = self._ring.hold = None

    def close(self) -> Sequence[Packet]:
        """Wait for a file that is being saved; returns what still waited behind a rewind."""
        self.go_live()
        made: list[Packet] = []
        while self._pending or self._ends:
            made += self.due()
        if self._save is not None:
            self._save.join()
            self._collect()
        return made

    # commands

    def control(self, command: str) -> str:
        """Obey ``rewind SECONDS`` (from here) and ``live``; while rewound also ``pause``, ``resume``, ``step``,
        ``speed FACTOR``, ``seek +S`` and ``seek -S``. Returns what was done. Raises ``InputError``, or
        :class:`NotRewoundError` for what is not for this stage just now."""
        verb, _, argument = command.partition(" ")
        if verb == "rewind":
            return self._go_back(float(argument))
        if verb == "live":
            was = self._play is not None
            self.go_live()
            return "live" if was else "live already"
        if self._play is None:
            if verb == "speed" and not self._live:
                self._speed = float(argument)  # a replay is played again as fast as it is played
            raise NotRewoundError("the stream is not rewound")
        if verb == "seek":
            if argument[:1] in ("+", "-"):
                return self._go_back(-float(argument))
            if self._live:
                raise InputError("seek SECONDS: a rewound camera knows seek +S and seek -S, from where it is")
            self.go_live()
            raise NotRewoundError("the stream is live again")
        if verb == "pause":
            self._play.pause()
        elif verb == "resume":
            self._play.resume()
        elif verb == "step":
            self._play.step()
        elif verb == "speed":
            self._speed = self._play.speed = float(argument)
        else:
            raise InputError(f"{command!r}: a rewound stream knows pause, resume, step, speed FACTOR, seek +S, seek -S")
        return f"{command}, at -{self.rewound_s:.2f} s"

    def save(self, seconds: float) -> Save:
        """Begin to write the last seconds to a file in the settings' folder. Raises ``InputError`` while another is
        being written or nothing is kept, ``WorldError`` where the disk is full."""
        self._collect()
        if self._save is not None:
            raise InputError(f"still saving to {self._save.path}")
        first = self._ring.after(self._at - round(seconds * 1e6)) or self._ring.newest
        if first is None:
            raise InputError("nothing is kept yet")
        pinned = self._ring.pin(first.number)
        try:
            save = Save(Path(self._settings.dir), self._streams, pinned, self._notes)
        except BaseException:
            for segment, _ in pinned:
                self._ring.release(segment)
            raise
        self._save = save
        save.start()
        return save

    def _collect(self) -> None:
        """Take back what a file that is being saved does not need any more, and say how it ended."""
        if self._save is None:
            return
        over = not self._save.is_alive()
        while self._save.written:
            self._ring.release(self._save.written.popleft())
        if over:
            self._saved.append(self._save.outcome)
            if self._save.problem:
                LOG.warning("history: %s", self._save.outcome)
            self._save = None

    def _go_back(self, seconds: float) -> str:
        """From where the stream is, live or rewound; forward where ``seconds`` is negative."""
        here = self._at if self._play is None else self._play.at
        oldest = self._ring.oldest
        if oldest is None:
            raise InputError("nothing is kept yet")
        to = max(here - round(seconds * 1e6), oldest.at - 1)
        kept = self._ring.after(to)
        if kept is None or (self._play is not None and kept.number >= self._play.end):
            self.go_live()
            return "live"
        if self._play is None:
            self._play = Play(self._count, self._speed)
            self._rewinds += 1
        self._play.go(kept, to)
        self._outlet.break_off()
        self._ring.hold = kept.number
        short = ", which is all there is" if to == oldest.at - 1 else ""
        return f"at -{self.rewound_s:.2f} s{short}"

    # packets

    def _pass(self, packet: Packet) -> list[Packet]:
        """A packet goes through as it came."""
        number = self._keep(packet)
        sent = self._outlet.send(packet, number, packet.received_ns)
        flow, n = self._flows[_kind(packet)], _elements(packet)
        flow.taken += n
        if sent is None:
            flow.drop(REWOUND, n)
            return []
        flow.passed += n
        return [sent]

    def _miss(self, packet: Packet) -> None:
        """A live packet comes while the stream is rewound."""
        self._keep(packet)
        flow, n = self._flows[_kind(packet)], _elements(packet)
        flow.taken += n
        flow.drop(REWOUND, n)
        if packet.end:
            self._ends.append(replace(packet, body=None))

    def _keep(self, packet: Packet) -> int:
        if self._came is not None and self._came[0] == packet.epoch:
            newest = max(self._came[1], packet.t_last)
            self._at += newest - self._came[1]
        else:
            newest = packet.t_last
        self._came = packet.epoch, newest
        number, self._count = self._count, self._count + 1
        kept = replace(packet, end=False) if packet.end else packet
        if not self._ring.add(number, self._at, kept):
            if not self._not_kept:
                LOG.warning("history: a packet of %s finds no room and is not kept", packet.stream)
            self._not_kept += 1
        return number

    def _again_from(self, packet: Packet, number: int) -> Packet | None:
        sent = self._outlet.send(packet, number, time.monotonic_ns())
        if sent is not None:
            flow, n = self._again[_kind(packet)], _elements(packet)
            flow.taken, flow.passed = flow.taken + n, flow.passed + n
        return sent

    def _is_step(self, packet: Packet) -> bool:
        return isinstance(packet.body, Frame) if "frames" in self._flows else True


def _kind(packet: Packet) -> str:
    return packet.stream.rsplit("/", 1)[-1]


def _elements(packet: Packet) -> int:
    if isinstance(packet.body, Imu | Trigger):
        return len(packet.body)
    return 1 if isinstance(packet.body, Frame) else packet.n_events
