"""How many events a second get from one process to another over ipc, one publisher and one subscriber on two cores.

Events as columns (int64 µs) go in. At the far side the coordinates are summed (``received``), or added to 5-bin
voxel grids of 20 ms (``into voxel grids``), zeroing included. A 10 Mev/s camera at 346x260 is sent as fast as it goes;
distinct packets of more than the cache come round again and again. Peers, with the same far side, without checks,
acknowledgements or accounts: plain ZeroMQ PUSH and PULL, zero-copy, of the four columns as they are (13 bytes per
event), and of one float64 array (32 bytes). All take turns, several rounds, in the same processes.
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

import numpy as np
import zmq

from rtpipe.bench.row import Row
from rtpipe.errors import WorldError
from rtpipe.sockets import Publisher, Subscriber
from rtpipe.types import Events, PackedEvents, Packet, Resolution, StreamInfo
from rtpipe.window.voxel import Filler

RESOLUTION: Resolution = (346, 260)
RATE_MEV_S = 10
WINDOW_US, BINS = 20_000, 5
POOL_EVENTS = 1_600_000
SIZES = (10_000, 30_000, 100_000)
ROUNDS = 5
QUEUED = 16
"""Messages that a peer's sockets may queue: about what our credit holds."""
START_S, SILENCE_MS = 60.0, 60_000
OURS, COLUMNS, FLOATS = "rtpipe", "pyzmq, columns", "pyzmq, float64"
NOTES = {
    OURS: "8 B/event, checked",
    COLUMNS: "13 B/event, unchecked",
    FLOATS: "32 B/event, unchecked",
}
RECEIVED, GRIDS = "events received", "events into voxel grids"

Far = Callable[[Events | PackedEvents, int], None]
"""The far side: takes the events of a packet and its number."""


def packets(size: int) -> list[Events]:
    """Distinct packets of ``size`` events, as a camera of 10 Mev/s would have sent them one after the other."""
    random = np.random.default_rng(7)
    span_us = size // RATE_MEV_S
    width, height = RESOLUTION
    return [
        Events(
            np.sort(random.integers(k * span_us, (k + 1) * span_us, size)) + (1 << 40),
            random.integers(0, width, size).astype(np.uint16),
            random.integers(0, height, size).astype(np.uint16),
            random.integers(0, 2, size).astype(np.uint8),
        )
        for k in range(max(POOL_EVENTS // size, 1))
    ]


def _send(endpoint: str, contender: str, size: int, orders: Connection) -> None:
    """The sending process: as many packets as each order says, until one says none."""
    pool = packets(size)
    if contender == OURS:
        first, last = int(pool[0].t[0]), int(pool[-1].t[-1])
        send_ours(endpoint, RESOLUTION, [Packet("camera/events", 0, first, last, 0, body) for body in pool], orders)
        return
    socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PUSH)
    socket.setsockopt(zmq.SNDHWM, QUEUED)
    socket.bind(endpoint)
    while count := orders.recv():
        for k in range(count):
            events = pool[k % len(pool)]
            columns = (events.t, events.x, events.y, events.p)
            parts = [np.stack(columns, axis=1, dtype=np.float64)] if contender == FLOATS else list(columns)
            socket.send_multipart([part.data for part in parts], copy=False)
    socket.close(1000)


def send_ours(endpoint: str, resolution: Resolution, pool: Sequence[Packet], orders: Connection) -> None:
    """Publish packets of ``pool`` over and over, numbered anew: as many as each order says, until one says none."""
    publisher = Publisher(endpoint, "camera", live=False, expected=["bench"])
    publisher.announce([StreamInfo("camera/events", resolution)])
    while not publisher.ready:
        publisher.socket.poll(10)
        publisher.serve()
    seq = 0
    while count := orders.recv():
        for k in range(count):
            publisher.serve()
            while not publisher.room:
                publisher.socket.poll(10)
                publisher.serve()
            publisher.publish(replace(pool[k % len(pool)], seq=seq, received_ns=time.monotonic_ns()))
            seq += 1
        while not publisher.drained:
            publisher.socket.poll(10)
            publisher.serve()
    publisher.close()


def take_ours(subscriber: Subscriber, count: int, far: Callable[[Packet, int], None]) -> None:
    """Receive ``count`` packets, each processed by ``far``, which is also told its number. Raises ``WorldError``."""
    for k in range(count):
        while (packet := subscriber.receive()) is None:
            if not subscriber.socket.poll(SILENCE_MS):
                raise WorldError("bench transport: the sending process says nothing any more")
        far(packet, k)
        subscriber.processed(packet)
    subscriber.serve()


def _unwrapped(far: Far) -> Callable[[Packet, int], None]:
    def take(packet: Packet, k: int) -> None:
        assert isinstance(packet.body, PackedEvents)
        far(packet.body, k)

    return take


def join(endpoint: str, process: BaseProcess) -> Subscriber:
    """Subscribe to what ``process`` publishes at ``endpoint``, ready for the first packet. Raises ``WorldError`` where
    it does not start."""
    subscriber = Subscriber(endpoint, consumer="bench", producer="camera", kinds=["events"])
    deadline = time.monotonic() + START_S
    while subscriber.streams is None:
        if time.monotonic() > deadline or not process.is_alive():
            raise WorldError("bench transport: the sending process did not start")
        subscriber.socket.poll(100)
        subscriber.serve()
    subscriber.say_ready()
    return subscriber


def _take_plain(socket: zmq.Socket[bytes], count: int, far: Far) -> None:
    dtypes = (np.int64, np.uint16, np.uint16, np.uint8)
    for k in range(count):
        if not socket.poll(SILENCE_MS):
            raise WorldError("bench transport: the sending process says nothing any more")
        parts = [frame.buffer for frame in socket.recv_multipart(copy=False)]
        if len(parts) == 1:
            array = np.frombuffer(parts[0]).reshape(-1, 4)
            columns = [array[:, i].astype(dtype) for i, dtype in enumerate(dtypes)]
        else:
            columns = [np.frombuffer(part, dtype) for part, dtype in zip(parts, dtypes, strict=True)]
        far(Events(*columns), k)


def _summing(_: int) -> Far:
    total = np.zeros(3, np.int64)

    def far(events: Events | PackedEvents, _: int) -> None:
        total[0] += int((events.t if isinstance(events, Events) else events.dt)[-1])
        total[1] += int(events.x.sum())
        total[2] += int((events.y if isinstance(events, Events) else events.yp).sum())

    return far


def _filling(size: int) -> Far:
    filler = Filler(RESOLUTION, BINS)
    span_us = size // RATE_MEV_S
    per_window = max(WINDOW_US // span_us, 1)
    in_pool = max(POOL_EVENTS // size, 1)
    grid = np.empty(filler.shape, np.float32)

    def far(events: Events | PackedEvents, k: int) -> None:
        k %= in_pool
        if k % per_window == 0:
            start = (1 << 40) + k * span_us
            filler.open(grid, start, start + per_window * span_us)
        filler.add(events)
        if k % per_window == per_window - 1 or k == in_pool - 1:
            filler.close()

    return far


class _Contender:
    """One way to send, in a process of its own, ready to be asked for packets again and again."""

    def __init__(self, name: str, size: int, directory: str) -> None:
        self.name, self._size = name, size
        endpoint = f"ipc://{directory}/{size}-{list(NOTES).index(name)}"
        spawning = multiprocessing.get_context("spawn")
        self._orders, orders = spawning.Pipe()
        self._process = spawning.Process(target=_send, args=(endpoint, name, size, orders), daemon=True)
        self._process.start()
        self._endpoint = endpoint
        self._subscriber: Subscriber | None = None
        if name != OURS:
            self._socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.PULL)
            self._socket.setsockopt(zmq.RCVHWM, QUEUED)
            self._socket.connect(endpoint)

    def wait(self) -> None:
        """Until the first packet could come."""
        if self.name == OURS:
            self._subscriber = join(self._endpoint, self._process)

    def seconds(self, count: int, far: Far) -> float:
        """How long ``count`` packets take from the order to the last one's being processed."""
        begun = time.perf_counter()
        self._orders.send(count)
        if self._subscriber is not None:
            take_ours(self._subscriber, count, _unwrapped(far))
        else:
            _take_plain(self._socket, count, far)
        return time.perf_counter() - begun

    def close(self) -> None:
        """End the sending process."""
        if self._process.is_alive():
            self._orders.send(0)
        if self._subscriber is not None:
            self._subscriber.close()
        elif self.name != OURS:
            self._socket.close(0)
        self._process.join(10)
        if self._process.is_alive():
            self._process.kill()


def measure(seconds: float = 1.0, sizes: Sequence[int] = SIZES) -> list[Row]:
    """Every contender with every packet size, about ``seconds`` each. Raises ``WorldError`` where a process dies."""
    with tempfile.TemporaryDirectory(prefix="rtpipe-bench-") as directory:
        return [row for size in sizes for row in _measure(size, seconds, directory)]


def _measure(size: int, seconds: float, directory: str) -> Iterator[Row]:
    contenders = [_Contender(name, size, directory) for name in (OURS, COLUMNS, FLOATS)]
    questions = ((RECEIVED, _summing(size)), (GRIDS, _filling(size)))
    in_pool = max(POOL_EVENTS // size, 1)
    try:
        rates: dict[tuple[str, str], list[float]] = {}
        counts: dict[tuple[str, str], int] = {}
        for contender in contenders:
            contender.wait()
            for what, far in questions:
                contender.seconds(in_pool, far)  # everything is compiled and paged in, and how fast it is known
                once = contender.seconds(in_pool, far)
                rounds = max(round(seconds / ROUNDS / once), 1)
                counts[what, contender.name] = rounds * in_pool
        for _ in range(ROUNDS):
            for what, far in questions:
                for contender in contenders:
                    count = counts[what, contender.name]
                    taken = contender.seconds(count, far)
                    rates.setdefault((what, contender.name), []).append(count * size / taken / 1e6)
    finally:
        for contender in contenders:
            contender.close()
    for what, _ in questions:
        peers = [max(pair) for pair in zip(rates[what, COLUMNS], rates[what, FLOATS], strict=True)]
        ratio = statistics.median(ours / peer for ours, peer in zip(rates[what, OURS], peers, strict=True))
        for name in (OURS, COLUMNS, FLOATS):
            yield Row(
                what,
                name,
                f"{size // 1000}k events {RESOLUTION[0]}x{RESOLUTION[1]}",
                statistics.median(rates[what, name]),
                ratio if name == OURS else None,
                note=NOTES[name],
            )
