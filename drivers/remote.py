"""Another rtpipe as a camera: the streams that its ``serve`` sink offers, over tcp with CURVE.

Live: what does not come through in time is dropped there, counted, and its reason told here. A server that goes away is
waited for; one that was restarted begins a new epoch, in time behind what was sent before.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Literal

import msgspec
import zmq

from rtpipe.errors import InputError, WorldError
from rtpipe.formats.later import later
from rtpipe.ledger import Flow
from rtpipe.sinks.serve import PRODUCER
from rtpipe.sockets import Subscriber, keys
from rtpipe.sockets.watch import Watch
from rtpipe.types import Packet, StreamInfo

Kind = Literal["events", "frames", "imu", "triggers", "output", "picture"]
CARRIES_OUTPUT = True
MOST_PACKETS = 32
"""What one read returns at most."""
NOT_ANNOUNCED = "not_announced"
"""Why events of a stream are dropped that the server did not have when it was first met."""


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which server, and what of it."""

    connect: str
    """``tcp://HOST:5570``, where the other rtpipe's ``serve`` sink listens."""
    server: str = ""
    """The server's name in ``rtpipe keys``. Needed for all but an unencrypted server on loopback."""
    streams: tuple[Kind, ...] = ("events", "frames", "imu", "triggers", "output", "picture")
    latest: bool = False
    """Only the newest of each stream: for looking on over a slow line. What is skipped is counted."""
    name: str = ""
    """What to be called in the server's report; left out: this machine's name and the process's number."""
    wait_s: Annotated[float, msgspec.Meta(ge=0)] = 30.0
    """How long to wait for the server at the start; 0: for ever."""

    def __post_init__(self) -> None:
        if not self.connect.startswith("tcp://"):
            raise ValueError(f"connect: tcp://HOST:PORT is wanted, not {self.connect!r}")
        if not self.streams:
            raise ValueError("streams: nothing to take")


class Driver:
    """See :class:`Settings`; implements :class:`rtpipe.stage.Driver`."""

    live = True

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None
        self._subscriber: Subscriber | None = None
        self._watch: Watch | None = None
        self._streams: dict[str, StreamInfo] = {}
        self._seq: dict[str, int] = {}
        self._flow = Flow()
        self._server = -1  # how many producer instances there were before this one
        self._their_epoch: int | None = None
        self._epoch = 0
        self._offset = 0
        self._newest: int | None = None
        self._first: int | None = None

    def open(self) -> Sequence[StreamInfo]:
        """Connect, and wait until the server says what it has. Blocks for up to ``wait_s``. Raises ``InputError`` for
        keys that are missing or a server that is none, ``WorldError`` where nobody answers."""
        s = self._settings
        curve = keys.client(s.server) if s.server else None
        self._context = zmq.Context()
        self._subscriber = Subscriber(
            s.connect,
            consumer=s.name or f"{platform.node() or 'somebody'}-{os.getpid()}",
            producer=PRODUCER,
            kinds=s.streams,
            delivery="latest" if s.latest else "every",
            context=self._context,
            curve=curve,
        )
        self._watch = Watch(self._subscriber.socket)
        deadline = time.monotonic() + s.wait_s if s.wait_s else float("inf")
        while self._subscriber.streams is None:
            self._subscriber.socket.poll(50)
            self._subscriber.serve()
            self._watch.look()
            if time.monotonic() > deadline:
                raise WorldError(self._why_silent())
        self._streams = {stream.name: stream for stream in self._subscriber.streams}
        self._subscriber.say_ready()
        if not self._streams:
            raise InputError(f"{s.connect}: the server has nothing of {', '.join(s.streams)}")
        ours: dict[str, StreamInfo] = {}
        for stream in self._streams.values():
            if stream.kind in ours:
                raise InputError(
                    f"{s.connect}: the server has two streams of {stream.kind} ({ours[stream.kind].name}, "
                    f"{stream.name}): serve one source, or take other streams"
                )
            ours[stream.kind] = stream
        return tuple(replace(stream, name=f"camera/{kind}") for kind, stream in ours.items())

    def _why_silent(self) -> str:
        s = self._settings
        if self._trouble:
            return f"{s.connect}: {self._trouble}"
        if self._watch is not None and self._watch.connected:
            how = f"with the key of {s.server}" if s.server else "without keys (no server: is named)"
            return (
                f"{s.connect}: somebody is there but does not answer {how}: is it an rtpipe, and does it expect that?"
            )
        return f"{s.connect}: nobody answered within {s.wait_s:g} s: is a pipeline with a serve sink running there?"

    @property
    def _trouble(self) -> str:
        """Why the line does not come about, as far as ZeroMQ tells."""
        if self._watch is None or not self._watch.refused:
            return ""
        if not self._settings.server:
            return "it encrypts: name it (server: NAME, as rtpipe keys knows it)"
        return f"keys do not fit: ours is not known there, or {self._settings.server} has another (rtpipe keys)"

    def read(self, timeout_s: float) -> Sequence[Packet] | None:
        """What has come; None when the server's pipeline has ended properly. Raises ``InputError`` for a server that
        turns out to speak another version."""
        assert self._subscriber is not None
        assert self._watch is not None
        subscriber = self._subscriber
        self._watch.look()
        made: list[Packet] = []
        while len(made) < MOST_PACKETS:
            packet = subscriber.receive()
            if packet is None:
                if made or not subscriber.socket.poll(int(timeout_s * 1000)):
                    break
                timeout_s = 0.0
                subscriber.serve()
                continue
            taken = self._take(packet)
            if taken is not None:
                made.append(taken)
            subscriber.processed(packet)
        subscriber.serve()
        if not made and subscriber.ended:
            return None
        return made

    def _take(self, packet: Packet) -> Packet | None:
        """A packet of the server's as one of ours: our numbers, our epochs, time that never goes back."""
        assert self._subscriber is not None
        self._flow.taken += packet.n_events
        if packet.stream not in self._streams:  # a restarted server has other streams
            self._flow.drop(NOT_ANNOUNCED, packet.n_events)
            return None
        self._flow.passed += packet.n_events
        sessions = len(self._subscriber.ledger().sessions)
        if sessions != self._server or packet.epoch != self._their_epoch:
            again = self._their_epoch is not None
            if sessions != self._server and again:
                self._offset = max(0, (self._newest or 0) - packet.t_first)
            self._epoch += again
            self._server, self._their_epoch = sessions, packet.epoch
        seq = self._seq.get(packet.stream, 0)
        self._seq[packet.stream] = seq + 1
        at = self._offset
        newest = packet.t_last + at
        self._newest = newest if self._newest is None else max(self._newest, newest)
        self._first = packet.t_first + at if self._first is None else self._first
        kind = self._streams[packet.stream].kind
        return replace(
            packet,
            stream=f"camera/{kind}",
            seq=seq,
            t_first=packet.t_first + at,
            t_last=newest,
            received_ns=time.monotonic_ns(),
            body=later(packet.body, at) if at else packet.body,
            epoch=self._epoch,
        )

    def control(self, command: str) -> str:
        """A camera elsewhere is steered there. Raises ``InputError``."""
        raise InputError(
            f"{command.split()[0] if command.split() else 'that'}: steer it where it runs (rtpipe control)"
        )

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``events``: what the server sent us and what we know to be missing, by the reason that it gave."""
        if self._subscriber is None:
            return {"events": self._flow}
        flow = Flow(self._flow.taken, self._flow.passed, dict(self._flow.dropped))
        ledger = self._subscriber.ledger()
        for reason, tally in ledger.missed.items():
            flow.taken += tally.events
            flow.drop(reason, tally.events)
        return {"events": flow}

    @property
    def facts(self) -> Mapping[str, str]:
        """The server, and how the line is."""
        s = self._settings
        said = {"server": f"{s.server or 'unencrypted'} at {s.connect}"}
        if self._watch is not None and self._watch.breaks:
            said["line"] = f"broke {self._watch.breaks} times"
        if self._trouble:
            said["trouble"] = self._trouble
        if self._subscriber is not None:
            ledger = self._subscriber.ledger()
            missed = ", ".join(f"{tally.packets:,} {reason}" for reason, tally in ledger.missed.items())
            if ledger.unexplained.packets:
                missed += f", {ledger.unexplained.packets:,} unexplained"
            if missed:
                said["missed"] = f"packets: {missed}"
        return said

    def progress(self) -> tuple[float, None]:
        """Seconds of the server's time that have come; nobody knows how many there will be."""
        return ((self._newest or 0) - (self._first or 0)) / 1e6, None

    def close(self) -> None:
        """Say goodbye. May be called twice."""
        if self._subscriber is not None:
            if self._watch is not None:
                self._watch.close()
            self._subscriber.close()
            self._subscriber = None
        if self._context is not None:
            self._context.destroy(linger=200)
            self._context = None
