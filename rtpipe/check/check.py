"""Every runtime of this machine beside the reference: the same scene, the errors, the speed, and why others are not
there.

The reference is single precision on the processor: PyTorch, or ONNX Runtime where PyTorch is not installed or cannot
run the network. Every run is a process of its own (:mod:`rtpipe.check.one`).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from rtpipe import registry, runtimes
from rtpipe.check.apart import Outcome, run_apart
from rtpipe.check.one import Taken, Task
from rtpipe.check.verdict import Verdict, judge
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Array, Resolution
from rtpipe.weights.made_up import is_made_up, weights_for

REFERENCES = (("torch", "cpu"), ("onnxruntime", "cpu"))
"""In order of preference."""

Runner = Callable[[Task, Path, Callable[[str], None]], Outcome]


class Checked(msgspec.Struct, frozen=True):
    """A runtime on a device in a precision, at a size. ``state``: ``"right"``, ``"wrong"``, ``"failed"`` (it is there
    but did not run) or ``"absent"``; ``says`` why, or what is odd. Times in ms over ``timed`` pictures: of the network
    alone, of the same with the next one's inputs travelling meanwhile, and of the whole step from a window to a
    picture; ``per_second`` pictures; memory in MiB."""

    runtime: str
    device: str
    precision: str
    size: Resolution
    state: str
    says: str = ""
    version: str = ""
    reference: bool = False
    max_error: float | None = None
    mean_error: float | None = None
    psnr_db: float | None = None
    same_picture: bool = False
    network_p50_ms: float | None = None
    network_p99_ms: float | None = None
    picture_p50_ms: float | None = None
    picture_p99_ms: float | None = None
    per_second: float | None = None
    overlapped_ms: float | None = None
    timed: int = 0
    ready_s: float | None = None
    host_mib: float | None = None
    gpu_mib: float | None = None
    facts: Mapping[str, str] = {}


class Report(msgspec.Struct, frozen=True):
    """What was checked: the ``network``, its ``weights`` (``random``: numbers that mean nothing), the GPU, every way.
    ``right``: no way that ran is wrong, and none that is there failed."""

    network: str
    weights: str
    random: bool
    gpu: Mapping[str, Any] | None
    right: bool
    ways: Sequence[Checked]


class _Way(msgspec.Struct, frozen=True):
    runtime: str
    device: str
    precision: str
    version: str


def check(
    network: str,
    sizes: Sequence[Resolution] = (),
    *,
    precision: str = "auto",
    weights: str = "",
    made_up: bool | None = None,
    seconds: float = 2.0,
    threads: int = 0,
    progress: Callable[[str], None] = lambda _: None,
    run: Runner = run_apart,
) -> Report:
    """Check a network at ``sizes`` (none: the usual); ``precision`` ``"auto"``: both on a GPU. ``weights`` and
    ``made_up`` as in :func:`rtpipe.weights.made_up.weights_for`; ``threads`` on the processor, 0: as the pipeline takes
    them. Blocks: a minute, more where networks must be exported or built.

    Raises ``InputError`` for what is no network or lacks weights, ``WorldError`` where not even the reference ran.
    """
    module = registry.load("engines", network)
    if not hasattr(module, "NETWORK"):
        raise InputError(f"{network} is no network: it is computed in one way alone")
    able = getattr(module.NETWORK, "runtimes", None)
    ways, absent = _ways(able, precision)
    gpu = runtimes.gpu()
    done: list[Checked] = []
    with (
        weights_for(network, module, weights, made_up) as stored,
        tempfile.TemporaryDirectory(prefix="rtpipe-check-") as folder,
    ):
        random = is_made_up(stored)
        for size in sizes or usual_sizes(any(way.device == "cuda" for way in ways)):
            tasks = [
                (way, Task(network, str(stored.path), size, way.runtime, way.device, way.precision, seconds, threads))
                for way in ways
            ]
            done += _compared(tasks, Path(folder), progress, run, trained=not random)
        name = "random numbers" if random else stored.path.stem
    about = None if gpu is None else {key: getattr(gpu, key) for key in gpu.__slots__}
    right = not any(each.state in ("wrong", "failed") for each in done)
    return Report(network, name, random, about, right, [*done, *absent])


def usual_sizes(gpu: bool) -> tuple[Resolution, ...]:
    """Odd sides, which every network pads; and with a GPU a DAVIS346's."""
    return ((173, 131), (346, 260)) if gpu else ((173, 131),)


def _ways(able: Sequence[str] | None, precision: str) -> tuple[list[_Way], list[Checked]]:
    """What can run here, the processor's first; and what cannot, with the reason."""
    there: list[_Way] = []
    absent: list[Checked] = []
    for one in (each for name in registry.names("runtimes") for each in registry.load("runtimes", name).availability()):
        if able is not None and one.runtime not in able:
            absent.append(_absent(one, "", "it cannot run this network, which comes as an ONNX file"))
            continue
        if one.why:
            absent.append(_absent(one, "", one.why))
        absent += [_absent(one, device, f"needs {what}") for device, what in getattr(one, "needs", {}).items()]
        for device in one.devices:
            wanted = one.precisions[device] if precision == "auto" or device == "cpu" else (precision,)
            there += [_Way(one.runtime, device, each, one.version) for each in wanted]
    there.sort(key=lambda way: (way.device != "cpu", way.precision))
    return there, absent


def _absent(one: Any, device: str, why: str) -> Checked:
    return Checked(one.runtime, device, "", (0, 0), "absent", why, one.version)


def _compared(
    tasks: Sequence[tuple[_Way, Task]], folder: Path, progress: Callable[[str], None], run: Runner, *, trained: bool
) -> Iterator[Checked]:
    """The ways at one size, the reference first."""
    waiting = list(tasks)
    reference: Mapping[str, Array] | None = None
    for wanted in REFERENCES:
        for way, task in [pair for pair in waiting if (pair[0].runtime, pair[0].device) == wanted]:
            if reference is None:
                waiting.remove((way, task))
                outcome = _run(task, folder, progress, run)
                reference = outcome.arrays or None
                yield _checked(way, task, outcome, None)
    if reference is None:
        raise WorldError("no runtime on the processor computed it: there is nothing to compare with")
    for way, task in waiting:
        outcome = _run(task, folder, progress, run)
        verdict = judge(reference, outcome.arrays, way.precision, trained=trained) if outcome.taken else None
        yield _checked(way, task, outcome, verdict)


def _run(task: Task, folder: Path, progress: Callable[[str], None], run: Runner) -> Outcome:
    title = f"{task.runtime} on {task.device}, {task.precision}, {task.size[0]}x{task.size[1]}"
    progress(title)
    return run(task, folder, lambda text: progress(f"{title}: {text}"))


def _checked(way: _Way, task: Task, outcome: Outcome, verdict: Verdict | None) -> Checked:
    common = (way.runtime, way.device, way.precision, task.size)
    if outcome.taken is None:
        return Checked(*common, "failed", outcome.failure, way.version)
    found = Checked(
        *common, "right", version=way.version, facts=dict(outcome.taken.facts), **_speed(outcome.taken),
        ready_s=outcome.taken.ready_s, host_mib=outcome.taken.host_mib, gpu_mib=outcome.taken.gpu_mib,
    )  # fmt: skip
    if verdict is None:
        return msgspec.structs.replace(found, reference=True, says="the reference")
    return msgspec.structs.replace(
        found,
        state="right" if verdict.right else "wrong",
        says=verdict.words,
        max_error=verdict.max_error,
        mean_error=verdict.mean_error,
        psnr_db=verdict.psnr_db,
        same_picture=verdict.psnr_db is None,
    )


def _speed(taken: Taken) -> dict[str, Any]:
    network, picture = np.array(taken.network_ms), np.array(taken.picture_ms)
    found: dict[str, Any] = {
        "picture_p50_ms": float(np.percentile(picture, 50)),
        "picture_p99_ms": float(np.percentile(picture, 99)),
        "per_second": float(len(picture) / picture.sum() * 1e3),
        "timed": len(picture),
        "overlapped_ms": taken.overlapped_ms,
    }
    if len(network):
        found |= {
            "network_p50_ms": float(np.percentile(network, 50)),
            "network_p99_ms": float(np.percentile(network, 99)),
        }
    return found
