"""How many events a second become tensors on one core, beside the peers that are installed.

int64 µs, uint16, uint16, uint8 columns in; a whole tensor out, zeroing included; distinct windows that go round through
more memory than the caches hold. Contenders take turns in rounds; rates are medians, ratios the median of each round's
ratio. The clock is the CPU time of this process, all threads together: what one core does, whoever else uses the
machine. Everything is called once before the clock starts: compilation is not measured.

``rtpipe`` is the public function with a buffer to fill, checks of order and coordinates included; ``rtpipe, packed``
the filler as the window stage runs it, on events as they travel, which were checked when they came in from the wire.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from rich.console import Console

from rtpipe import wire
from rtpipe.bench import calibrated
from rtpipe.bench.peers import Work, installed
from rtpipe.bench.row import Row, table
from rtpipe.errors import InputError
from rtpipe.packing import pack
from rtpipe.types import Array, Events, PackedEvents, Packet, Resolution
from rtpipe.window import count, scer, stack, time_surface, two_polarity, voxel
from rtpipe.window.columns import t_first, t_last
from rtpipe.window.making import Filler

CACHES_BYTES = 96 << 20
"""What the windows of one input fill together at least."""

SIZES: tuple[Resolution, ...] = ((346, 260), (640, 480), (1280, 720))
ROUNDS = 5
PACKET_EVENTS = 20_000
MOST_EVENTS = 20_000_000
QUESTIONS = {
    "voxel": "voxel grid, 5 bins",
    "two_polarity": "two-polarity voxel grid, 5 bins",
    "scer": "SCER",
    "count": "polarity count",
    "stack": "equal-count stack, 5 chunks",
    "surface": "time surface",
}
FILLERS: dict[str, Callable[[Resolution], Filler]] = {
    "voxel": lambda resolution: voxel.Filler(resolution, 5),
    "two_polarity": lambda resolution: two_polarity.Filler(resolution, 5),
    "scer": scer.Filler,
    "count": count.Filler,
    "stack": lambda resolution: stack.Filler(resolution, 5),
    "surface": time_surface.Filler,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "voxel": voxel.voxel_grid,
    "two_polarity": two_polarity.two_polarity_voxel_grid,
    "scer": scer.scer,
    "count": count.event_count,
    "stack": partial(stack.equal_count_stack, chunks=5),
    "surface": time_surface.time_surface,
}
OURS = "rtpipe"


def measure(
    files: Sequence[Path] | None = None, seconds: float = 1.0, sizes: Sequence[Resolution] = SIZES
) -> list[Row]:
    """Rows for every question on every file and on synthetic streams of ``sizes``.

    ``seconds``: roughly how long each contender is measured per input. Raises ``InputError`` for a file that cannot be
    opened or holds no events. Blocks.
    """
    rows: list[Row] = []
    for path in files or ():
        resolution, events = first_events(path)
        rows += on(path.name, resolution, events, seconds)
    for resolution in sizes:
        rows += on("synthetic", resolution, synthetic(resolution), seconds)
    return rows


def main(files: Sequence[Path] | None = None, seconds: float = 1.0, json: bool = False) -> None:
    """Measure and print a table, or JSON."""
    rows = measure(files, seconds)
    if json:
        sys.stdout.write(msgspec.json.format(msgspec.json.encode(rows)).decode() + "\n")
    else:
        Console().print(table(rows))


def first_events(path: Path) -> tuple[Resolution, Events]:
    """The recording's resolution and its first :data:`MOST_EVENTS` events. Raises ``InputError`` if it has none."""
    import rtpipe

    recording = rtpipe.open(path)
    try:
        parts: list[Events] = []
        for part in recording.event_chunks():
            parts.append(part)
            if sum(map(len, parts)) >= MOST_EVENTS:
                break
        resolution = recording.resolution
    finally:
        recording.close()
    events = Events.concatenate(parts)
    if not len(events):
        raise InputError(f"{path}: holds no events, nothing to measure")
    return resolution, events


def synthetic(resolution: Resolution) -> Events:
    """Uniform in time and space, which no camera is: each event touches another cache line."""
    width, height = resolution
    n = 4 * width * height
    random = np.random.default_rng(1)
    return Events(
        np.sort(random.integers(0, n // 10, n)) + 1_700_000_000_000_000,
        random.integers(0, width, n).astype(np.uint16),
        random.integers(0, height, n).astype(np.uint16),
        random.integers(0, 2, n).astype(np.uint8),
    )


def windows_of(events: Events, n: int, total_bytes: int = CACHES_BYTES) -> list[Events]:
    """Windows of ``n`` events (all of them, if there are fewer) that lie apart in memory, copies of them where the
    recording is too short to fill ``total_bytes``."""
    n = min(n, len(events))
    wanted = -(-total_bytes // (13 * n))
    starts = cycle(range(0, len(events) - n + 1, n))
    copied = []
    for _ in range(wanted):
        start = next(starts)
        part = events[start : start + n]
        copied.append(Events(part.t.copy(), part.x.copy(), part.y.copy(), part.p.copy()))
    return copied


def on(name: str, resolution: Resolution, events: Events, seconds: float = 1.0) -> list[Row]:
    """Rows for every question on these events, in windows of one event per pixel."""
    width, height = resolution
    windows = windows_of(events, width * height)
    packed = [pack(window) for window in windows]
    n = len(windows[0])
    label = f"{name} {width}x{height}, {n / 1000:.0f}k events a window"
    rows: list[Row] = []
    for question, what in QUESTIONS.items():
        contenders: dict[str, tuple[Work, str]] = {
            OURS: (_function(question, windows, resolution), "checks included"),
            f"{OURS}, packed": (_filler(question, packed, resolution), "8 B/event, checked before"),
        }
        for peer, (make, note) in installed(question).items():
            contenders[peer] = make(windows, resolution), note
        rows += in_turns(what, label, contenders, n, seconds)
    rows += calibrated.rows(label, resolution, windows, seconds)
    contenders = {OURS: (_from_wire(packed, resolution), "decoded, checked, filled")}
    return rows + in_turns(f"{QUESTIONS['voxel']}, from the wire", label, contenders, n, seconds)


def _function(question: str, windows: Sequence[Events], resolution: Resolution) -> Work:
    out = np.empty(FILLERS[question](resolution).shape, np.float32)
    function = FUNCTIONS[question]
    return [partial(function, window, resolution=resolution, out=out) for window in windows]


def _filler(question: str, windows: Sequence[PackedEvents], resolution: Resolution) -> Work:
    filler = FILLERS[question](resolution)
    out = np.empty(filler.shape, np.float32)

    def fill(events: PackedEvents) -> Array:
        filler.open(out, t_first(events), t_last(events))
        filler.add(events)
        filler.close()
        return out

    return [partial(fill, window) for window in windows]


def _from_wire(windows: Sequence[PackedEvents], resolution: Resolution) -> Work:
    filler = FILLERS["voxel"](resolution)
    out = np.empty(filler.shape, np.float32)

    def fill(messages: Sequence[Sequence[Any]], start: int, end: int) -> Array:
        filler.open(out, start, end)
        for message in messages:
            body = wire.decode(message, resolution).body
            assert isinstance(body, PackedEvents)
            filler.add(body)
        filler.close()
        return out

    def messages(events: PackedEvents) -> list[list[Any]]:
        made = []
        for seq, first in enumerate(range(0, len(events), PACKET_EVENTS)):
            part = events[first : first + PACKET_EVENTS]
            packet = Packet("camera/events", seq, t_first(part), t_last(part), 0, part)
            made.append([bytearray(each) for each in wire.encode(packet)])  # writable, as ZeroMQ's large messages are
        return made

    return [partial(fill, messages(window), t_first(window), t_last(window)) for window in windows]


def in_turns(what: str, label: str, contenders: dict[str, tuple[Work, str]], n: int, seconds: float) -> list[Row]:
    """Rows for contenders that take turns; each call of theirs deals with ``n`` events. Blocks for about ``seconds``
    each."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    turns = {name: cycle(work) for name, (work, _) in contenders.items()}
    for work in turns.values():
        next(work)()  # compiles
    for _ in range(ROUNDS):
        for name, work in turns.items():
            rates[name].append(_rate(work, n, seconds / ROUNDS))
    medians = {name: statistics.median(each) for name, each in rates.items()}
    peers = [name for name in contenders if not name.startswith(OURS)]
    best = max(peers, key=medians.__getitem__, default=None)
    rows = []
    for name, (_, note) in contenders.items():
        ratio = None
        if best is not None and name.startswith(OURS):
            ratio = statistics.median(ours / peer for ours, peer in zip(rates[name], rates[best], strict=True))
        rows.append(Row(what, name, label, medians[name], ratio, note=note))
    return rows


def _rate(work: Iterable[Callable[[], Any]], n: int, seconds: float) -> float:
    """Mev/s over as many windows as fit in ``seconds``, at least one."""
    done = 0
    begun = time.process_time()
    for call in work:
        call()
        done += 1
        spent = time.process_time() - begun
        if spent >= seconds:
            break
    return done * n / spent / 1e6
