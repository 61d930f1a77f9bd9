"""How many events a second become a calibrated voxel on one core, beside the published way: a small network
(1-50-50-50-1) that PyTorch runs for every event and bin.

Weights are random, which costs the same. ``torch`` is given a window at once, as published (200,000 events of it, where
it has more: no caches hold what lies between the layers either way); ``torch, in parts`` so few events at a time that
they do, which nobody does. Contenders take turns; the clock is the CPU time of this process. The ratio is to the first.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle, pairwise
from typing import Any

import numpy as np

from rtpipe.bench.row import Row
from rtpipe.packing import pack
from rtpipe.types import Array, Events, PackedEvents, Resolution
from rtpipe.window.columns import t_first, t_last
from rtpipe.window.letc import BINS, CHANNELS, Filler, calibrated_voxel, empty

WHAT = "calibrated voxel (LETC), 5 bins"
ROWS = 32_769
WIDTHS = (1, 50, 50, 50, 1)
MOST_EVENTS, PART_EVENTS = 200_000, 8192
"""Events that the network is given at once, as published and in parts."""

PEER = "torch"

ROUNDS = 5

Call = Callable[[], Any]


def rows(label: str, resolution: Resolution, windows: Sequence[Events], seconds: float = 1.0) -> list[Row]:
    """Rows for ``windows`` of events on a sensor of ``resolution``. Blocks for about ``seconds`` a contender."""
    packed = [pack(window) for window in windows]
    table, out = np.random.default_rng(0).random((ROWS, BINS), np.float32), empty(resolution)
    filler = Filler(resolution, BINS, table)

    def fill(events: PackedEvents) -> Array:
        filler.open(out, t_first(events), t_last(events))
        filler.add(events)
        filler.close()
        return out

    def whole(events: Events) -> Array:
        return calibrated_voxel(events, table, resolution=resolution, out=out)

    contenders: dict[str, tuple[list[tuple[Call, int]], str]] = {
        "rtpipe": ([(partial(whole, each), len(each)) for each in windows], "checks included; × torch as published"),
        "rtpipe, packed": (
            [(partial(fill, each), len(each)) for each in packed],
            "8 B/event, checked before; × torch as published",
        ),
    }
    if importlib.util.find_spec("torch") is not None:
        for name, n, note in ((PEER, MOST_EVENTS, "as published"), (f"{PEER}, in parts", PART_EVENTS, "in the caches")):
            parts = [window[:n] for window in windows]
            contenders[name] = by_network(parts, resolution), f"the network for each event and bin, one thread; {note}"
    return _in_turns(label, contenders, seconds)


def by_network(parts: Sequence[Events], resolution: Resolution) -> list[tuple[Call, int]]:
    """The published way, without its zeroing of the voxel: calls that add ``parts`` of windows, and their events."""
    import torch

    torch.set_num_threads(1)
    width, height = resolution
    generator = torch.Generator().manual_seed(0)
    layers = [
        (torch.randn((b, a), generator=generator) / a**0.5, torch.randn(b, generator=generator))
        for a, b in pairwise(WIDTHS)
    ]
    voxel = torch.zeros(CHANNELS * height * width)

    def add(tau: Any, cells: Any) -> Any:
        with torch.inference_mode():
            for b in range(BINS):
                value = (tau - b)[:, None]
                for weight, bias in layers[:-1]:
                    value = torch.nn.functional.leaky_relu(torch.nn.functional.linear(value, weight, bias), 0.1)
                value = torch.nn.functional.linear(value, *layers[-1])[:, 0]
                voxel.index_add_(0, cells + b * width * height, tau * value)
        return voxel

    calls: list[tuple[Call, int]] = []
    for part in parts:
        since = (part.t - part.t[0]).astype(np.float64)
        tau = torch.from_numpy((since * (BINS - 1) / max(since[-1], 1)).astype(np.float32))
        first = (1 - part.p.astype(np.int64)) * BINS * width * height
        cells = torch.from_numpy(first + part.y.astype(np.int64) * width + part.x)
        calls.append((partial(add, tau, cells), len(part)))
    return calls


def _in_turns(label: str, contenders: dict[str, tuple[list[tuple[Call, int]], str]], seconds: float) -> list[Row]:
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    turns = {name: cycle(calls) for name, (calls, _) in contenders.items()}
    for calls in turns.values():
        next(calls)[0]()  # compiles
    for _ in range(ROUNDS):
        for name, calls in turns.items():
            done, begun, spent = 0, time.process_time(), 0.0
            while spent < seconds / ROUNDS:
                call, n = next(calls)
                call()
                done += n
                spent = time.process_time() - begun
            rates[name].append(done / spent / 1e6)
    made = []
    for name, (_, note) in contenders.items():
        ratio = None
        if not name.startswith(PEER) and PEER in rates:
            ratio = statistics.median(ours / peer for ours, peer in zip(rates[name], rates[PEER], strict=True))
        made.append(Row(WHAT, name, label, statistics.median(rates[name]), ratio, note=note))
    return made
