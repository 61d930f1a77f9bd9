"""A camera's own bytes from one process to another over ipc, decoded at the far side, beside the same as columns.

The packets of a recording that holds such bytes (Prophesee RAW), sent as fast as they go, over and over. The two take
turns, several rounds. What it costs to decode is paid once either way: at the far side, or before (not measured here).
"""

from __future__ import annotations

import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from rtpipe import encodings
from rtpipe.bench.row import Row
from rtpipe.bench.transport import join, send_ours, take_ours
from rtpipe.errors import InputError
from rtpipe.formats import open_recording
from rtpipe.packing import pack
from rtpipe.raw import opened, warm
from rtpipe.sockets import Subscriber
from rtpipe.types import PackedEvents, Packet, RawEvents, Resolution

ROUNDS = 5
RAW, COLUMNS = "rtpipe, the camera's bytes", "rtpipe, columns"


def packets(path: Path) -> tuple[Resolution, list[Packet]]:
    """The recording's raw packets that hold events. Raises ``InputError`` where there are none."""
    with open_recording(path) as reader:
        found = [p for p in reader.packets(raw=True) if isinstance(p.body, RawEvents) and p.n_events]
        return reader.resolution, found


def _columns(packet: Packet, resolution: Resolution) -> Packet:
    assert isinstance(packet.body, RawEvents)
    return replace(packet, body=pack(encodings.decode(packet.body, resolution).events))


def _send(endpoint: str, path: Path, contender: str, orders: Connection) -> None:
    resolution, pool = packets(path)
    if contender == COLUMNS:
        pool = [_columns(packet, resolution) for packet in pool]
    send_ours(endpoint, resolution, pool, orders)


def _reading(resolution: Resolution) -> Callable[[Packet, int], None]:
    """The far side: every event's column and row is looked at."""
    total = np.zeros(2, np.int64)

    def far(packet: Packet, _: int) -> None:
        body = packet.body
        if isinstance(body, RawEvents):
            events, refused = opened(body, resolution, packet.t_first, packet.t_last)
            assert not refused
            total[0] += int(events.x.sum())
            total[1] += int(events.y.sum())
        elif isinstance(body, PackedEvents):
            total[0] += int(body.x.sum())
            total[1] += int((body.yp & 0x7FFF).sum())

    return far


def measure(path: Path, seconds: float = 1.0) -> Sequence[Row]:
    """Both ways, about ``seconds`` each. Raises ``InputError`` for a recording without a camera's bytes, ``WorldError``
    where a process dies."""
    resolution, pool = packets(path)
    if not pool:
        raise InputError(f"{path}: no events in it")
    bodies = [packet.body for packet in pool if isinstance(packet.body, RawEvents)]
    events, size = sum(body.n for body in bodies), sum(len(body.data) for body in bodies)
    warm(bodies[0].encoding)
    far = _reading(resolution)
    rates: dict[str, list[float]] = {RAW: [], COLUMNS: []}
    with tempfile.TemporaryDirectory(prefix="rtpipe-bench-") as directory:
        spawning = multiprocessing.get_context("spawn")
        senders = {}
        for number, name in enumerate(rates):
            orders, theirs = spawning.Pipe()
            endpoint = f"ipc://{directory}/{number}"
            process = spawning.Process(target=_send, args=(endpoint, path, name, theirs), daemon=True)
            process.start()
            senders[name] = (process, orders, join(endpoint, process))
        try:
            once = {
                name: _seconds(orders, subscriber, len(pool), far) for name, (_, orders, subscriber) in senders.items()
            }
            laps = {name: max(round(seconds / ROUNDS / each), 1) for name, each in once.items()}
            for _ in range(ROUNDS):
                for name, (_, orders, subscriber) in senders.items():
                    taken = _seconds(orders, subscriber, laps[name] * len(pool), far)
                    rates[name].append(laps[name] * events / taken / 1e6)
        finally:
            for process, orders, subscriber in senders.values():
                if process.is_alive():
                    orders.send(0)
                subscriber.close()
                process.join(10)
                if process.is_alive():
                    process.kill()
    what, given = "events received and read", f"{path.stem} {resolution[0]}x{resolution[1]}"
    rate = {name: statistics.median(found) for name, found in rates.items()}
    each = size / events
    told = f"{bodies[0].encoding}, {each:.2f} B/event: {rate[RAW] * each:.0f} MB/s on the wire, decoded at the far side"
    return [
        Row(what, RAW, given, rate[RAW], note=told),
        Row(what, COLUMNS, given, rate[COLUMNS], note="8 B/event, decoded before, not measured"),
    ]


def _seconds(orders: Connection, subscriber: Subscriber, count: int, far: Callable[[Packet, int], None]) -> float:
    begun = time.perf_counter()
    orders.send(count)
    take_ours(subscriber, count, far)
    return time.perf_counter() - begun
