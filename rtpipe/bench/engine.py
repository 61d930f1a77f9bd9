"""How long a learned engine takes for one picture, beside the plain network in PyTorch, eager, in single precision.

A round gives every contender the same window once, in turn; the first round is not counted. Ours is the whole step of
the engine, from a window to a picture, preparation and finishing included; the peer is the network alone, as it was
published, with as many threads. Weights that are not installed are replaced by random ones: the time is the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np

from rtpipe import registry
from rtpipe.bench.row import Row
from rtpipe.errors import InputError, WorldError
from rtpipe.packing import pack
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Events, Frame, Resolution, Window
from rtpipe.weights.made_up import is_made_up, weights_for
from rtpipe.window.cut import Cut
from rtpipe.window.making import FILLERS, Maker, as_they_come

SIZES = ((173, 130),)
"""Half a DAVIS346 each way: a second or two a network, on a laptop without a GPU."""

FEWEST_ROUNDS = 5
EVENTS_PER_PIXEL = 0.5
LENGTH_US = 20_000


class Way(NamedTuple):
    """What computes, and where."""

    runtime: str
    device: str


def measure(
    names: Sequence[str] = (),
    *,
    sizes: Sequence[Resolution] = SIZES,
    runtime: str = "auto",
    device: str = "auto",
    precision: str = "auto",
    seconds: float = 2.0,
    progress: Callable[[str], None] = lambda _: None,
) -> list[Row]:
    """A row for every network, size, runtime and device, and one for PyTorch's eager float32; ms a picture, the median
    in ``rate``. ``auto``: every runtime on the GPU if there is one, else on the CPU. ``progress`` is told in words what
    is measured, and what is exported or built for it.

    Raises ``InputError`` for what is no network and where nothing named can run.
    """
    ways = list(_ways(runtime, device))
    if not ways:
        raise InputError(f"no runtime {runtime} on {device} on this machine: rtpipe engines list says what is missing")
    rows: list[Row] = []
    refused: list[str] = []
    for name in names or networks():
        module = _module(name)
        with weights_for(name, module) as stored:
            said = "random weights" if is_made_up(stored) else f"weights {stored.path.stem}"
            for size in sizes:
                progress(f"{name} at {size[0]}x{size[1]}")
                rows += _compare(
                    name, module, str(stored.path), said, size, ways, precision, seconds, refused, progress
                )
    if not rows:
        raise InputError(refused[0] if refused else "there is no network to measure")
    return rows


def networks() -> tuple[str, ...]:
    """The engines that are networks."""
    return tuple(name for name in registry.names("engines") if hasattr(registry.load("engines", name), "NETWORK"))


def _module(name: str) -> ModuleType:
    module = registry.load("engines", name)
    if not hasattr(module, "NETWORK"):
        raise InputError(f"{name} is no network; networks: {', '.join(networks())}")
    return module


def _ways(runtime: str, device: str) -> Iterator[Way]:
    there = [one for group in registry.names("runtimes") for one in registry.load("runtimes", group).availability()]
    devices = {name for one in there for name in one.devices}
    wanted = ("cuda" if "cuda" in devices else "cpu") if device == "auto" else device
    for one in there:
        if runtime in ("auto", one.runtime) and wanted in one.devices:
            yield Way(one.runtime, wanted)


def _compare(
    name: str, module: ModuleType, weights: str, said: str, size: Resolution, ways: Sequence[Way], precision: str,
    seconds: float, refused: list[str], progress: Callable[[str], None],
) -> list[Row]:  # fmt: skip
    contenders: dict[str, Callable[[], object]] = {}
    network = None
    for way in ways:
        settings = module.Settings(weights=weights, runtime=way.runtime, device=way.device, precision=precision)
        engine = module.Engine(settings)
        engine.network.progress = progress
        try:
            engine.warm(size)
        except (InputError, WorldError) as error:  # what failed was said in the log; the others are measured
            refused.append(str(error))
            continue
        shown = window(engine.spec, size)
        network = engine.network
        # "runtime": title and version, device, precision, details
        words = [word.strip() for word in engine.facts["runtime"].split(",")]
        contenders[f"rtpipe: {words[0].partition(' (')[0]}, {words[1]}, {words[2]}"] = _step(engine, shown)
    if network is None:
        return []
    eager = _eager(network.graph(size), ways[0].device, network.threads)
    peer = f"PyTorch, eager, {ways[0].device}, fp32"
    if eager is not None:
        contenders[peer] = eager
    times = _times(contenders, seconds)
    stem = Path(weights).stem
    gflop = module.NETWORK.gflop(size, stem.partition("-")[2].removesuffix("random"))
    rows = []
    for contender, taken in times.items():
        middle = float(np.median(taken))
        ratio = float(np.median(times[peer] / taken)) if peer in times and contender != peer else None
        note = f"p99 {np.percentile(taken, 99) * 1e3:.1f} ms of {len(taken)}; {gflop / middle:,.0f} GFLOP/s"
        note += f"; {said}" if contender != peer else "; the network alone"
        rows.append(
            Row(f"{name}, {gflop:.1f} GFLOP", contender, f"{size[0]}x{size[1]}", middle * 1e3, ratio, "ms", note)
        )
    return rows


def _step(engine: Any, shown: Window) -> Callable[[], object]:
    return lambda: engine.infer(shown)


def _times(contenders: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, Array]:
    """Seconds of every call, by contender and round; all have the same number of rounds."""
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    begun = time.perf_counter()
    rounds = -1
    while rounds < FEWEST_ROUNDS or time.perf_counter() - begun < seconds * len(contenders):
        for name, call in contenders.items():
            start = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: np.array(values[1:]) for name, values in taken.items()}


def window(spec: EngineSpec, size: Resolution) -> Window:
    """A window of random events, half as many as there are pixels, and a grey frame exposed all along."""
    random = np.random.default_rng(1)
    width, height = size
    n = max(100, int(EVENTS_PER_PIXEL * width * height))
    t = np.sort(random.integers(0, LENGTH_US, n))
    events = Events(t, random.integers(0, width, n), random.integers(0, height, n), random.integers(0, 2, n))
    image = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    cut = Cut(0, LENGTH_US, Frame(image, LENGTH_US // 2, 0, LENGTH_US), n_events=n)
    bins = spec.bins or (FILLERS[spec.representation].bins if spec.representation in FILLERS else 0)
    filling = as_they_come(spec.representation, edges=False)
    maker = Maker(size, spec.representation, bins, filling, table=spec.table)
    maker.open(cut)
    maker.add(cut, pack(events))
    return maker.close(cut)[0]


def _eager(graph: Any, device: str, threads: int) -> Callable[[], object] | None:
    """One step of the network as PyTorch runs it without being asked for anything; None without PyTorch, and for a
    network that is none of PyTorch's."""
    make = graph.plain or graph.module
    try:
        import torch
    except ImportError:
        return None
    if make is None or (device == "cuda" and not torch.cuda.is_available()):
        return None
    if device == "cpu":
        torch.set_num_threads(threads)
    network = make().float().eval().to(device)
    random = np.random.default_rng(2)
    given = [torch.from_numpy(random.random(port.shape, np.float32)) for port in graph.inputs]
    states = [torch.zeros(port.shape).to(device) for port in graph.states]

    def step() -> object:
        with torch.no_grad():
            made = network(*(one.to(device) for one in given), *states)
            return made[0].cpu()

    return step
