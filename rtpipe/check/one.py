"""One runtime on one device in one precision: the scene shown to an engine, what came out of its network, and how fast.

``python -m rtpipe.check.one TASK.json`` is this as a process of its own: a library that crashes or hangs is then a line
of the answer, and its memory is its own. It writes JSON lines to standard output (``{"progress": ...}``, at last the
:class:`Taken`) and the arrays beside the task.
"""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rtpipe import registry, runtimes
from rtpipe.check.scene import STEPS, Scene
from rtpipe.errors import RtpipeError, WorldError
from rtpipe.types import Array, Resolution

FEWEST, MOST = 10, 5000
"""Pictures that are timed, after :data:`WARM` that are not."""
SLOW, SLOW_S = 3, 10.0
"""Of a network that takes seconds a picture so few do, once so long has gone into them."""
WARM = 2
RESET = f"{STEPS}: after a reset"
"""The name of the outputs of the first window shown again, after a reset: they are those of the first time."""


class Task(msgspec.Struct, frozen=True):
    """What to run: ``network`` with the file ``weights``, at ``size``, and for how many ``seconds`` it is timed."""

    network: str
    weights: str
    size: Resolution
    runtime: str
    device: str
    precision: str
    seconds: float = 2.0
    threads: int = 0


class Taken(msgspec.Struct, frozen=True):
    """What was found: ``facts`` of the engine; ``ready_s`` to load, export or build; ms of each timed picture, of the
    whole step from a window to a picture and of the network alone; the process's memory in MiB, and how much of the
    GPU's went away for it (None: nobody knows). ``overlapped_ms``: of a step of the network where the next one's inputs
    travel meanwhile (None: this runtime does not)."""

    facts: Mapping[str, str]
    ready_s: float
    picture_ms: Sequence[float]
    network_ms: Sequence[float]
    host_mib: float
    gpu_mib: float | None = None
    overlapped_ms: float | None = None


class _Watched:
    """An engine's network whose steps are looked at: what came out, copied, and how long each took."""

    def __init__(self, network: Any) -> None:
        self._step, self.keep = network.step, True
        self.inputs: list[tuple[Array, ...]] = []
        self.outputs: list[tuple[Array, ...]] = []
        self.ms: list[float] = []
        network.step = self

    def __call__(self, *inputs: Array) -> Sequence[Array]:
        if self.keep:
            self.inputs.append(tuple(np.array(one) for one in inputs))
        begun = time.perf_counter()
        made: Sequence[Array] = self._step(*inputs)
        self.ms.append((time.perf_counter() - begun) * 1e3)
        if self.keep:
            self.outputs.append(tuple(np.array(one, np.float32) for one in made))
        return made


def take(task: Task, progress: Callable[[str], None]) -> tuple[Taken, dict[str, Array]]:
    """Run it. The arrays: ``STEP.OUTPUT`` of every step (:data:`RESET` the last), float32, and ``picture``, the last
    picture before the reset, as it is shown. Blocks: seconds, minutes where a network must be built. Raises what the
    runtime raises."""
    module = registry.load("engines", task.network)
    settings = module.Settings(
        weights=task.weights, runtime=task.runtime, device=task.device, precision=task.precision, threads=task.threads
    )
    engine = module.Engine(settings)
    engine.network.progress = progress
    before = runtimes.gpu_free_bytes() if task.device == "cuda" else None
    begun = time.perf_counter()
    engine.warm(task.size)
    ready = time.perf_counter() - begun
    progress("showing the scene")
    scene = Scene(engine.spec, task.size)
    watched = _Watched(engine.network)
    arrays: dict[str, Array] = {}
    for step in range(len(scene)):
        frames = engine.infer(scene.window(step))
        _keep(arrays, str(step), watched)
        if frames:
            arrays["picture"] = np.array(frames[-1].image)
    engine.reset()
    engine.infer(scene.window(0))
    _keep(arrays, RESET, watched)
    watched.keep = False
    progress("timing")
    picture_ms, network_ms = _timed(engine, scene, watched, task.seconds)
    overlapped_ms = None
    if engine.network.overlaps:
        engine.reset()
        _hold_overlapped(engine.network, watched.inputs[:-1], arrays)  # the last was the first again, after a reset
        overlapped_ms = _overlapped_ms(engine.network, watched.inputs[1], task.seconds)
    after = runtimes.gpu_free_bytes() if before is not None else None
    gone = None if before is None or after is None else (before - after) / 2**20
    host = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    facts = dict(engine.facts)
    engine.network.close()
    return Taken(facts, ready, picture_ms, network_ms, host, gone, overlapped_ms), arrays


def _keep(arrays: dict[str, Array], step: str, watched: _Watched) -> None:
    for number, made in enumerate(watched.outputs):  # one step of the network, or none, or more
        for index, one in enumerate(made):
            arrays[f"{step}.{number}.{index}"] = one
    watched.outputs.clear()


def _timed(engine: Any, scene: Scene, watched: _Watched, seconds: float) -> tuple[list[float], list[float]]:
    window = scene.window(1)
    for _ in range(WARM):
        engine.infer(window)
    watched.ms.clear()
    taken: list[float] = []
    started = time.perf_counter()
    while len(taken) < MOST:
        spent = time.perf_counter() - started
        if spent >= seconds and len(taken) >= (FEWEST if spent < SLOW_S else SLOW):
            break
        begun = time.perf_counter()
        engine.infer(window)
        taken.append((time.perf_counter() - begun) * 1e3)
    return taken, list(watched.ms)


def _hold_overlapped(network: Any, inputs: Sequence[Sequence[Array]], arrays: Mapping[str, Array]) -> None:
    """Steps that overlap give what single steps gave, to the bit. Raises ``WorldError``."""
    alone = iter([array for key, array in arrays.items() if key != "picture" and not key.startswith(RESET)])
    for number, made in enumerate(network.stream(inputs)):
        for one in made:
            if not np.array_equal(one, next(alone), equal_nan=True):
                raise WorldError(f"steps that overlap give other outputs than single ones, from step {number} on")


def _overlapped_ms(network: Any, inputs: Sequence[Array], seconds: float) -> float:
    """ms of a step in a row of steps that overlap."""
    steps = 2 * FEWEST
    while True:
        begun = time.perf_counter()
        for _ in network.stream([inputs] * steps):
            pass
        taken = time.perf_counter() - begun
        if taken >= seconds or steps >= MOST:
            return taken / steps * 1e3
        steps = min(MOST, 2 * steps)


def main() -> None:
    """Entry point of the process. Exit code 1: it failed, the last line says of what."""
    path = Path(sys.argv[1])
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes with their errors

    def say(what: object) -> None:
        lines.write(msgspec.json.encode(what).decode() + "\n")
        lines.flush()

    try:
        task = msgspec.json.decode(path.read_bytes(), type=Task)
        taken, arrays = take(task, lambda text: say({"progress": text}))
    except Exception as error:
        text = str(error) if isinstance(error, RtpipeError) else f"{type(error).__name__}: {error}"
        say({"failed": " ".join(text.split())[:500]})
        sys.exit(1)
    np.savez(path.with_suffix(".npz"), **arrays)  # type: ignore[arg-type]
    say({"taken": taken})
    lines.close()
    sys.stdout.flush()
    os._exit(0)  # a library that crashes while it is unloaded has done its work


if __name__ == "__main__":
    main()
