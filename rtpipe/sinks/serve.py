"""Sink ``serve``: the pipeline's streams for other machines, over tcp with CURVE; there ``driver: remote`` takes them.

Who connects gets what comes from then on. A slow or dead line never slows the pipeline: each peer has a queue bounded
in bytes, what overflows is dropped and counted on its edge, and the peer is told by reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Literal

from msgspec import Meta, Struct

from rtpipe.errors import InputError
from rtpipe.ledger import Flow, SentLedger
from rtpipe.sockets import Publisher, keys
from rtpipe.sockets.endpoints import check_endpoint
from rtpipe.types import Packet, StreamInfo

DELIVERY = "every"
DIRECT = True
"""The camera's streams come from the driver, not from behind the history: nobody else's rewinding is seen."""
TAKES_ANY = True
"""A camera without an engine is worth serving."""
PRODUCER = "rtpipe"
"""What every server calls itself: a peer tells servers apart by address and key."""
DRAIN_S = 5.0
"""At the end: how long a peer may make no progress before what it has not taken is given up, and counted."""
ANNOUNCED = ("events", "frames", "imu", "triggers", "output", "picture")
Kind = Literal["events", "frames", "imu", "triggers", "output", "picture"]


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where to listen, for whom, what to send."""

    bind: str = "tcp://127.0.0.1:5570"
    """``tcp://0.0.0.0:5570``: every interface, encrypted, for machines that ``rtpipe keys`` knows. On loopback (as for
    an ssh tunnel) it is in the clear unless ``clients`` are named."""
    clients: tuple[str, ...] = ()
    """The machines to admit, by their names in ``rtpipe keys``; left out: all that are known."""
    streams: tuple[Kind, ...] = ("events", "frames", "imu", "triggers", "output", "picture")
    queue_mb: Annotated[int, Meta(ge=1, le=4096)] = 64
    """What may wait for one peer."""
    wait_s: Annotated[float, Meta(ge=0, le=3600)] = 0.0
    """How long to wait for the first peer before the first packet, and for a slow one before something is dropped: for
    replays, of which a peer is to get everything. 0: nothing waits."""

    def __post_init__(self) -> None:
        if not self.bind.startswith("tcp://"):
            raise ValueError(f"bind: tcp://HOST:PORT is wanted, not {self.bind!r}")
        if not self.streams:
            raise ValueError("streams: nothing to serve; name some of " + ", ".join(ANNOUNCED))


def wants(settings: Settings) -> tuple[str, ...]:
    """The kinds of streams to serve."""
    return settings.streams


class Sink:
    """Publishes what arrives (see :class:`rtpipe.stage.Sink`). ``process`` blocks only with ``wait_s``."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._flows = {"packets": Flow()}
        self._publisher: Publisher | None = None
        self._encrypted = False
        self._ledgers: Sequence[SentLedger] = ()

    @property
    def flows(self) -> Mapping[str, Flow]:
        """``packets``: taken from the pipeline and passed to the peers' queues (those say what became of them)."""
        return self._flows

    @property
    def facts(self) -> Mapping[str, str]:
        """Where it listens, and who took how much."""
        said = {"serving": f"{self._settings.bind}, {'CURVE' if self._encrypted else 'in the clear (loopback)'}"}
        for ledger in self._ledgers if self._publisher is None else self._publisher.ledgers():
            peer = ledger.edge.partition("->")[2]
            lost = ", ".join(f"{tally.packets:,} {reason}" for reason, tally in ledger.dropped.items())
            said[f"peer {peer}"] = f"{ledger.acknowledged.packets:,} of {ledger.offered.packets:,} packets taken" + (
                f"; not delivered: {lost}" if lost else ""
            )
        return said

    def open(self, streams: Sequence[StreamInfo]) -> Sequence[StreamInfo]:
        """Listen. Raises ``InputError`` for keys that are missing, ``WorldError`` where the port is taken."""
        s = self._settings
        curve = keys.server(s.clients) if s.clients or not _loopback(s.bind) else None
        self._encrypted = curve is not None
        self._publisher = Publisher(
            s.bind, PRODUCER, live=True, queue_bytes=s.queue_mb << 20, curve=curve, continues=False
        )
        self._publisher.announce([stream for stream in streams if stream.kind in s.streams])
        self._wait(lambda publisher: publisher.attended)
        return ()

    def process(self, packet: Packet) -> Sequence[Packet]:
        """Hand a packet to every peer's queue."""
        assert self._publisher is not None
        flow = self._flows["packets"]
        flow.taken += 1
        self._wait(lambda publisher: publisher.room)
        self._publisher.publish(packet)
        flow.passed += 1
        self._publisher.serve()
        return ()

    def _wait(self, condition: Callable[[Publisher], bool]) -> None:
        """Serve peers until it holds, for ``wait_s`` at most."""
        assert self._publisher is not None
        deadline = time.monotonic() + self._settings.wait_s
        while self._settings.wait_s and not condition(self._publisher) and time.monotonic() < deadline:
            self._publisher.serve()
            time.sleep(0.001)

    def idle(self) -> Sequence[str]:
        """Let peers in, take their acknowledgements, send what they have credit for."""
        if self._publisher is not None:
            self._publisher.serve()
        return ()

    def status(self, line: str) -> None:
        """Ignored."""

    def close(self) -> Sequence[Packet]:
        """Give peers a moment to take what waits for them, and stop listening."""
        if self._publisher is None:
            return ()
        publisher, self._publisher = self._publisher, None
        done, deadline = -1, 0.0
        while not publisher.drained:
            now = sum(ledger.acknowledged.packets for ledger in publisher.ledgers())
            if now != done:
                done, deadline = now, time.monotonic() + DRAIN_S
            elif time.monotonic() > deadline:
                break
            publisher.serve()
            time.sleep(0.005)
        publisher.close()
        self._ledgers = publisher.ledgers()
        return ()


def _loopback(endpoint: str) -> bool:
    try:
        check_endpoint(endpoint, encrypted=False)
    except InputError:
        check_endpoint(endpoint, encrypted=True)  # says what else may be wrong with it
        return False
    return True
