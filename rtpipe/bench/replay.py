"""How many events a second of an HDF5 recording become windows: 5-bin voxel grids, from the file on.

``rtpipe`` is what a replay does without its sockets: the recording's events in packets, into the window stage, which
cuts by count; every event is checked for order and coordinates. The peers are the plain loop that people write (h5py's
slices, then the fastest form of each installed package), which checks nothing. Windows hold one event per pixel; what
is left over at the end is not counted. The file is in the system's cache; the clock is the wall's, for reading is done
on several threads: on a machine that is busy with other things only the ratios mean something.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rtpipe.bench.peers import Peer, installed
from rtpipe.bench.row import Row
from rtpipe.errors import InputError
from rtpipe.formats.packets import cut_packets
from rtpipe.packing import pack
from rtpipe.stage import EngineSpec
from rtpipe.types import Events, Packet, Resolution, Window
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WINDOWS, WindowStage

ROUNDS = 5
PACKET_EVENTS = 20_000
"""In a packet, about, as a lively camera sends them; a quiet recording in packets of 2 ms costs more per event."""
SYNTHETIC: Resolution = (346, 260)
SYNTHETIC_EVENTS = 3_000_000
OURS = "rtpipe"
_COLUMNS = {"t": ("ts", "t"), "x": ("xs", "x"), "y": ("ys", "y"), "p": ("ps", "p")}


@dataclass(frozen=True, slots=True)
class Replay:
    """One file to replay: its size in windows of ``n`` events, and what one of its units of time is in µs."""

    path: Path
    resolution: Resolution
    windows: int
    n: int
    scale: float
    storage: str


def measure(files: Sequence[Path] = (), seconds: float = 1.0) -> list[Row]:
    """Rows for every HDF5 recording of ``files``; without any, for a synthetic one, with gzip and with blosc.

    ``seconds``: roughly how long each contender is measured per file. Raises ``InputError`` for a file that cannot be
    opened, is no HDF5 or holds fewer events than one window. Blocks.
    """
    if files:
        return [row for path in files for row in _on(_known(path), seconds)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        compressions: tuple[Literal["gzip", "blosc"], ...] = ("gzip", "blosc")
        for compression in compressions:
            path = Path(folder) / f"synthetic-{compression}.h5"
            _write(path, compression)
            rows += _on(_known(path), seconds)
    return rows


def rtpipe_windows(replay: Replay) -> int:
    """Replay the file into windows; how many events are in them."""
    from rtpipe.formats import open_recording

    settings = WindowSettings(by="count", events=replay.n, representation="voxel", bins=5, mode="trained")
    stage = WindowStage(settings, EngineSpec("bench", "voxel", False, False, 5))
    filled = 0
    with open_recording(replay.path) as recording:
        stage.open([stream for stream in recording.streams if stream.kind == "events"])
        (events,) = [stream for stream in recording.streams if stream.kind == "events"]
        span = recording.t_end - recording.t_start
        packet_us = max(1, span * PACKET_EVENTS // recording.counts()[events.name])
        runs = {events.name: recording.event_chunks()}
        for packet in cut_packets(runs, recording.t_start, recording.t_end, packet_us):
            filled += _filled(stage.process(_packed(packet)))
        filled += _filled(stage.close())
    return filled


def peer_windows(replay: Replay, make: Peer) -> int:
    """The same windows by h5py's slices and ``make``; how many events are in them."""
    import h5py

    with h5py.File(replay.path) as file:
        group = file["events"]
        columns = {key: next(group[name] for name in names if name in group) for key, names in _COLUMNS.items()}
        for k in range(replay.windows):
            part = {key: column[k * replay.n : (k + 1) * replay.n] for key, column in columns.items()}
            t = (part["t"] * replay.scale).astype(np.int64)
            x, y = part["x"].astype(np.uint16), part["y"].astype(np.uint16)
            make([Events(t, x, y, (part["p"] > 0).astype(np.uint8))], replay.resolution)[0]()
    return replay.windows * replay.n


def _packed(packet: Packet) -> Packet:
    if not isinstance(packet.body, Events):
        return packet
    fields = (packet.stream, packet.seq, packet.t_first, packet.t_last, packet.received_ns)
    return Packet(*fields, pack(packet.body), packet.epoch, packet.end)


def _filled(packets: Sequence[Packet]) -> int:
    windows = [packet.body for packet in packets if packet.stream == WINDOWS]
    return sum(window.n_events for window in windows if isinstance(window, Window) and window.tensor is not None)


def _known(path: Path) -> Replay:
    from rtpipe.formats import format_of, open_recording

    kind = format_of(path)
    if not kind.endswith("_h5") or path.is_dir():
        raise InputError(f"{path}: {kind}, no HDF5 file of events: this measures how those are replayed")
    with open_recording(path) as recording:
        width, height = recording.resolution
        total = recording.counts().get("camera/events", 0)
        first = next(recording.event_chunks(), Events.empty())
    n = width * height
    if total < n:
        raise InputError(f"{path}: {total} events; at least one window of {n} is wanted")
    import h5py

    with h5py.File(path) as file:
        times: Any = next(file["events"][name] for name in _COLUMNS["t"] if name in file["events"])
        made = times.id.get_create_plist()
        filters = "+".join(made.get_filter(k)[3].decode("ascii", "replace") for k in range(made.get_nfilters()))
        last = float(times[len(first) - 1]) - float(times[0])
    ratio = (int(first.t[-1]) - int(first.t[0])) / last if last else 1.0
    scale = min((1e6, 1e3, 1.0, 1e-3), key=lambda unit: abs(np.log(ratio / unit)))
    return Replay(path, (width, height), total // n, n, scale, filters or "not compressed")


def _on(replay: Replay, seconds: float) -> list[Row]:
    contenders: dict[str, tuple[Callable[[], int], str]] = {
        OURS: (
            partial(rtpipe_windows, replay),
            f"wall clock, {os.cpu_count()} cores; packets of about 20k events, each checked",
        )
    }
    for name, (make, note) in installed("voxel").items():
        contenders[f"h5py + {name}"] = partial(peer_windows, replay, make), note
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for work, _ in contenders.values():
        work()  # compiles, and brings the file into the cache
    for _ in range(ROUNDS):
        for name, (work, _) in contenders.items():
            rates[name].append(_rate(work, seconds / ROUNDS))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    best = max((name for name in contenders if name != OURS), key=medians.__getitem__, default=None)
    width, height = replay.resolution
    what = f"replay into windows, {replay.storage}"
    label = f"{replay.path.name} {width}x{height}, {replay.n / 1000:.0f}k events a window"
    rows = []
    for name, (_, note) in contenders.items():
        ratio = None
        if best is not None and name == OURS:
            ratio = statistics.median(a / b for a, b in zip(rates[name], rates[best], strict=True))
        rows.append(Row(what, name, label, medians[name], ratio, note=note))
    return rows


def _rate(work: Callable[[], int], seconds: float) -> float:
    """Mev/s over as many replays of the whole file as fit in ``seconds``, at least one."""
    events = 0
    begun = time.perf_counter()
    while True:
        events += work()
        spent = time.perf_counter() - begun
        if spent >= seconds:
            return events / spent / 1e6


def _write(path: Path, compression: Literal["gzip", "blosc"]) -> None:
    """Bursts along a moving edge: neither random nor empty, so that it compresses about as recordings do."""
    from rtpipe.formats.ecm_h5 import Writer

    width, height = SYNTHETIC
    random = np.random.default_rng(1)
    n = SYNTHETIC_EVENTS
    t = np.cumsum(random.geometric(0.7, n) - 1)
    x = (t // 2_000 + random.normal(0, 6, n).astype(np.int64)) % width
    y = random.integers(0, height, n)
    events = Events(t, x, y, random.random(n) < 0.5)
    with Writer(path, SYNTHETIC, compression=compression) as writer:
        for start in range(0, n, 1 << 18):
            writer.add_events(events[start : start + (1 << 18)])
