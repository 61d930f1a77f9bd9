"""The contracts of the house: what a driver, a stage, an engine and a sink are.

A stage is a plain object with three verbs, open, process and close, run by one worker loop that owns sockets, clocks,
ledger and shutdown. A stage knows no ZeroMQ: it can be called in a plain loop, and live and offline give the same bits.

Parts are found by name through entry points (``rtpipe.drivers``, ``rtpipe.engines``, ``rtpipe.sinks``); each names a
module that holds ``Settings`` (a frozen msgspec struct) and ``Driver``, ``Engine`` or ``Sink``, made from settings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol

from rtpipe.ledger import Flow
from rtpipe.types import Array, Frame, Packet, Resolution, StreamInfo, Window


class Stage(Protocol):
    """Packets in, packets out.

    A stage may also have ``facts`` (a mapping of words for the run's report: files written, an estimate), ``note(name,
    text)`` (text to keep with a recording) and ``control(command) -> str`` (as a driver's); the worker uses them if so.
    ``each(packet)``: what :meth:`process` returns one by one, each valid until the next is asked for, where much may be
    made of one packet.
    """

    @property
    def flows(self) -> Mapping[str, Flow]:
        """The stage's own ledger by kind of thing (``"events"``, ``"frames"``, ``"windows"``)."""
        ...

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Make ready for these input streams (compile, warm up, open files); returns the streams it will emit.

        May take long; nothing is sent to a stage before it returns. Raises ``RtpipeError``.
        """
        ...

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Take one packet and return what is ready because of it. A sink returns nothing."""
        ...

    def close(self) -> Sequence[Packet]:
        """Finish: return what is still inside, close files. Called once, also after a failure."""
        ...


class Sink(Stage, Protocol):
    """A stage at the end of the line.

    Its module also holds ``DELIVERY`` (``"every"``: all packets in order; ``"latest"``: only the newest of each stream,
    what is skipped is counted) and ``wants(settings) -> tuple[str, ...]``, the kinds of streams it takes; and
    ``DIRECT = True`` where the camera's streams are to come from the driver also when there is a history: as the camera
    sent them, never rewound; ``TAKES_ANY = True`` where it lives with whichever of its kinds there are. A sink may also
    have ``rewound(seconds or None)``: told how far what it shows is rewound; ``clock(Clock or None)``: told the clock
    of the source that windows are cut from; and ``latencies() -> Sequence[int]``: ns from the sensor to the screen of
    what it has shown since that was last asked for.
    """

    def idle(self) -> Sequence[str]:
        """Do what is due (keys, redraws, a periodic flush) without blocking; called between packets and at least every
        20 ms. Returns commands for the pipeline as text (``"pause"``, ``"seek 1.5"``, ``"stop"``)."""
        ...

    def status(self, line: str) -> None:
        """The pipeline's state in one line (rate, latency, loss, speed), twice a second, for an overlay or a log."""
        ...


class Driver(Protocol):
    """A source of packets: a camera, or the replay of a recording.

    It may also have ``progress() -> (now_s, duration_s or None)``, ``facts`` as a stage's, and, where it sends the
    same packets under the same numbers each time, ``resume_after(seqs)``: skip what the consumers already have;
    ``flows``, a stage's own ledger; ``notes``, a mapping of JSON to keep with every recording, asked again and
    again; ``ready(s)``: wait so long for what :meth:`open` needs, False where it is not there yet; ``finish() ->
    Sequence[Packet]``: what is still inside at the end; and ``returning()``: told before all else that it takes the
    place of one that died, and which also asks for the process to be ended and started anew where it hangs
    (:mod:`rtpipe.pipeline.watchdog`). Its module has ``CARRIES_OUTPUT = True`` where what an engine made elsewhere
    may be among its streams.
    """

    live: ClassVar[bool]
    """True for a camera: it never waits, what overflows downstream is dropped and counted."""

    def open(self) -> Sequence[StreamInfo]:
        """Open the device or file and say what it will send. Raises ``RtpipeError``."""
        ...

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """The packets that are due, waiting at most ``timeout_s``; empty: nothing yet; None: at the end, for good."""
        ...

    def control(self, command: str) -> str:
        """Obey ``pause``, ``resume``, ``step``, ``seek SECONDS``, ``speed FACTOR`` …; returns what was done in words.
        Raises ``InputError`` for what this driver cannot do."""
        ...

    def close(self) -> None:
        """Let the device or file go."""
        ...


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """What an engine needs: ``representation`` of its window (``"events"``: the events themselves), ``bins``, whether a
    camera frame is needed, and whether state is carried from window to window. ``table``: what a learned representation
    (``"calibrated_voxel"``) is computed with, read-only; windows and engine live in one process."""

    name: str
    representation: str
    needs_frame: bool
    stateful: bool
    bins: int = 0
    table: Array | None = field(default=None, compare=False, repr=False)


class Engine(Protocol):
    """A network or method made ready to run.

    It may also have ``facts`` (a mapping of words for the run's report) and ``skipped(window)``: told of a window that
    came too late and that it will not be given, so that it may reset what it carries from window to window.
    """

    @property
    def spec(self) -> EngineSpec:
        """What it needs."""
        ...

    def warm(self, resolution: Resolution) -> None:
        """Compile and run once at this size, so that the first window is not late."""
        ...

    def reset(self) -> None:
        """Forget every window seen."""
        ...

    def infer(self, window: Window) -> Sequence[Frame]:
        """Frames made from this window: none yet, one, or several. Must not keep the window's buffers."""
        ...
