"""How late a tensor is: from a packet's arrival at the host to the tensor that holds it, over real processes.

A synthetic live camera in a process of its own sends packets of 2 ms; this process takes them through the window stage
into 5-bin voxel grids. Beside it the same camera over plain ZeroMQ PUSH and PULL, the columns as they are, added by
NumPy. Both run in turn, several rounds; the first half second of each is not counted.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import zmq

from rtpipe import registry
from rtpipe.bench.row import Row
from rtpipe.errors import WorldError
from rtpipe.sockets import Publisher, Subscriber
from rtpipe.stage import Driver, EngineSpec
from rtpipe.types import Array, Events, Resolution
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage

BINS, WINDOW_US, WARM_S = 5, 20_000, 0.5
RATES_MEV_S = (1.0, 10.0)
SENSORS: tuple[Resolution, ...] = ((346, 260), (1280, 720))
ROUNDS = 3
START_S = 60.0


def _camera(rate: float, resolution: Resolution, seconds: float) -> Driver:
    module = registry.load("drivers", "synthetic")
    width, height = resolution
    driver: Driver = module.Driver(
        module.Settings(rate_mev_s=rate, width=width, height=height, seconds=seconds + WARM_S)
    )
    return driver


def _send_rtpipe(endpoint: str, rate: float, resolution: Resolution, seconds: float) -> None:
    driver = _camera(rate, resolution, seconds)
    publisher = Publisher(endpoint, "camera", live=True, expected=["bench"])
    publisher.announce(driver.open())
    while not publisher.ready:
        publisher.socket.poll(10)
        publisher.serve()
    while (packets := driver.read(0.0005)) is not None:
        for packet in packets:
            publisher.publish(packet)
        publisher.serve()
    deadline = time.monotonic() + 5
    while not publisher.drained and time.monotonic() < deadline:
        publisher.socket.poll(10)
        publisher.serve()
    publisher.close()


def _take_rtpipe(endpoint: str, _resolution: Resolution) -> list[tuple[int, int]]:
    stage = WindowStage(
        WindowSettings(by="time", length_us=WINDOW_US, mode="edges"),
        EngineSpec("bench", "voxel", needs_frame=False, stateful=False, bins=BINS),
    )
    subscriber = Subscriber(endpoint, consumer="bench", producer="camera", kinds=["events"])
    deadline = time.monotonic() + START_S
    while subscriber.streams is None:
        subscriber.socket.poll(10)
        subscriber.serve()
        if time.monotonic() > deadline:
            raise WorldError("bench latency: the camera's process did not start")
    stage.open(subscriber.streams)
    subscriber.say_ready()
    taken: list[tuple[int, int]] = []
    while not subscriber.ended:
        packet = subscriber.receive()
        if packet is None:
            subscriber.socket.poll(20)
            subscriber.serve()
            continue
        stage.process(packet)
        if packet.n_events:
            taken.append((packet.received_ns, time.monotonic_ns()))
        subscriber.processed(packet)
    stage.close()
    subscriber.close()
    return taken


def _send_plain(endpoint: str, rate: float, resolution: Resolution, seconds: float) -> None:
    driver = _camera(rate, resolution, seconds)
    driver.open()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PUSH)
    socket.bind(endpoint)
    while (packets := driver.read(0.0005)) is not None:
        for packet in packets:
            if isinstance(packet.body, Events):
                events = packet.body
                stamp = packet.received_ns.to_bytes(8, "little")
                socket.send_multipart([stamp, events.t.data, events.x.data, events.y.data, events.p.data])
    socket.send(b"")
    context.destroy(linger=5000)


def _take_plain(endpoint: str, resolution: Resolution) -> list[tuple[int, int]]:
    width, height = resolution
    grid = np.zeros(BINS * height * width, np.float32)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.PULL)
    socket.connect(endpoint)
    taken: list[tuple[int, int]] = []
    window = -1
    while True:
        if not socket.poll(int(START_S * 1000)):
            raise WorldError("bench latency: the camera's process did not start")
        parts = socket.recv_multipart()
        if len(parts) == 1:
            break
        t, x, y, p = (np.frombuffer(part, kind) for part, kind in zip(parts[1:], ("i8", "u2", "u2", "u1"), strict=True))
        if t[0] // WINDOW_US != window:
            window = int(t[0]) // WINDOW_US
            grid[:] = 0
        _add(grid, t - window * WINDOW_US, x, y, p, width, height)
        taken.append((int.from_bytes(parts[0], "little"), time.monotonic_ns()))
    context.destroy(linger=0)
    return taken


def _add(grid: Array, t: Array, x: Array, y: Array, p: Array, width: int, height: int) -> None:
    """The textbook voxel grid in NumPy."""
    at = (t * ((BINS - 1) / WINDOW_US)).astype(np.float32)
    low = at.astype(np.int64)
    share = at - low
    sign = p.astype(np.float32) * 2 - 1
    cell = low * (width * height) + y.astype(np.int64) * width + x
    inside = low < BINS
    np.add.at(grid, cell[inside], (sign * (1 - share))[inside])
    inside = low + 1 < BINS
    np.add.at(grid, cell[inside] + width * height, (sign * share)[inside])


_Send = Callable[[str, float, Resolution, float], None]
_Take = Callable[[str, Resolution], list[tuple[int, int]]]
CONTENDERS: dict[str, tuple[_Send, _Take]] = {
    "rtpipe": (_send_rtpipe, _take_rtpipe),
    "ZeroMQ PUSH/PULL + NumPy": (_send_plain, _take_plain),
}


def _round(contender: str, rate: float, resolution: Resolution, seconds: float) -> Array:
    """Delays (ms) of all packets after the warm-up, in one pair of processes."""
    send, take = CONTENDERS[contender]
    with tempfile.TemporaryDirectory(prefix="rtpipe-") as directory:
        endpoint = f"ipc://{Path(directory) / 's'}"
        process = multiprocessing.get_context("spawn").Process(target=send, args=(endpoint, rate, resolution, seconds))
        process.start()
        try:
            taken = np.array(take(endpoint, resolution), np.int64)
        finally:
            process.join(10)
            process.kill()
    if len(taken) == 0:
        raise WorldError(f"bench latency: {contender} delivered nothing")
    counted = taken[taken[:, 0] >= taken[0, 0] + int(WARM_S * 1e9)]
    delays: Array = (counted[:, 1] - counted[:, 0]) / 1e6
    return delays


def measure(seconds: float = 5.0) -> list[Row]:
    """p50 and p99 (ms) at each rate and size; ``seconds`` is what each contender is measured in all, per row.

    Blocks for about four times the number of rates and sizes times ``seconds``. Raises ``WorldError`` where a process
    does not start.
    """
    rows: list[Row] = []
    for resolution in SENSORS:
        for rate in RATES_MEV_S:
            delays: dict[str, list[Array]] = {name: [] for name in CONTENDERS}
            for _ in range(ROUNDS):
                for name in CONTENDERS:
                    delays[name].append(_round(name, rate, resolution, seconds / ROUNDS))
            for quantile in (50, 99):
                value = {name: [float(np.percentile(d, quantile)) for d in runs] for name, runs in delays.items()}
                ours, theirs = (np.array(value[name]) for name in CONTENDERS)
                for name in CONTENDERS:
                    ratio = float(np.median(theirs / ours)) if name == "rtpipe" else None
                    rows.append(
                        Row(
                            f"arrival to tensor, p{quantile}",
                            name,
                            f"{rate:g} Mev/s {resolution[0]}x{resolution[1]}",
                            float(np.median(value[name])),
                            ratio,
                            unit="ms",
                            note="" if name == "rtpipe" or value[name][0] < 100 else "does not keep up",
                        )
                    )
    return rows
