"""TensorRT as a runtime: a plan from the cache, or built now and kept, opened as a session on the GPU.

One file over all flavours (:mod:`engines.runtime.tensorrt_library`). Building is real here as far as a machine without
a GPU goes: the tests parse, inspect and build every network with ``tensorrt_rtx``. Loading a built plan needs a GPU and
has so far been run on stand-ins alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engines.runtime import plan_build, plans
from engines.runtime.cuda import Context, Gpu, first_gpu
from engines.runtime.exported import onnx_of
from engines.runtime.graph import Graph, Session
from engines.runtime.plan_build import MIB, Inspected, Options, Plan, TooLittleMemory
from engines.runtime.plan_session import Executing
from engines.runtime.tensorrt_library import Installed, Loaded, installed, serving
from rtpipe.errors import WorldError

__all__ = ["Built", "Installed", "Tried", "available", "build", "installed", "open", "try_building"]

LOG = logging.getLogger(__name__)

NAME = "tensorrt"

LEAST_WORKSPACE = 32 * MIB
SMALLER = 4
"""By which a workspace is divided when the GPU's memory did not do."""


@dataclass(frozen=True, slots=True)
class Built:
    """A plan in the cache: its file (which is not there where the cache cannot be written: ``kept``), bytes, how long
    it took, what built it, and whether it was there already."""

    path: Path
    nbytes: int
    seconds: float
    library: str
    gpu: str
    already: bool
    kept: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """A plan that was built to see that it can be, and not kept."""

    library: str
    nbytes: int
    seconds: float
    inspected: Inspected


@dataclass(frozen=True, slots=True)
class _Place:
    """What a plan is built with, and where it will run."""

    loaded: Loaded
    gpu: Gpu

    @property
    def title(self) -> str:
        return self.loaded.title


def _place() -> _Place:
    """Raises ``ImportError`` that says what is missing and how to get it."""
    gpu = first_gpu()
    if gpu is None:
        raise ImportError("TensorRT needs an NVIDIA GPU and its driver, and none is seen here")
    try:
        return _Place(serving(gpu.compute_capability), gpu)
    except ImportError as error:
        major, minor = gpu.compute_capability
        raise ImportError(f"{error} (this GPU: {gpu.name}, compute capability {major}.{minor})") from error


def available() -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The version, and the precisions that are worth using by device. Raises ``ImportError`` in words."""
    place = _place()
    rtx = "" if place.loaded.row.module == NAME else f" ({place.loaded.row.title})"
    return f"{place.loaded.version}{rtx}", {"cuda": ("fp32", "fp16")}


def open(graph: Graph, device: str, precision: str, threads: int, progress: Callable[[str], None]) -> Session:
    """A session that has run once; its states are zero. Blocks: a second where the plan is kept, minutes where it is
    built. Raises ``ImportError``, ``WorldError``, or what the library raises."""
    if device != "cuda":
        raise ValueError("TensorRT computes on a GPU")
    place = _place()
    onnx = _drawn(place.loaded, graph, precision, progress)
    key = _key(place, graph, onnx, precision)
    with _gpu_in_use():
        kept = plans.read(key.path, key.digest)
        if kept is not None:
            engine = _deserialized(place, kept.data)
            if engine is not None:
                return _session(place, engine, graph, precision, key)
            progress(f"{place.title} does not take the plan that was kept for {graph.name}; building it anew")
        built, _ = _built(place, graph, onnx, precision, key, threads, progress, 0)
        engine = _deserialized(place, built.data)
        if engine is None:
            said = place.loaded.log.worst() or "it does not say why"
            raise WorldError(f"{place.title} cannot load the plan that it has just built for {graph.name}: {said}")
        return _session(place, engine, graph, precision, key)


def build(
    graph: Graph,
    precision: str,
    threads: int,
    progress: Callable[[str], None],
    *,
    workspace_mb: int = 0,
    anew: bool = False,
) -> Built:
    """Build a network's plan ahead of time and keep it; ``open`` starts from it. Blocks for minutes.

    ``workspace_mb`` is what a layer may use while it computes, in MiB (0: half of what is free, and less where that
    proves too much); where it is named, or ``anew``, a kept plan is built again. Raises ``ImportError``,
    ``WorldError``.
    """
    place = _place()
    started = time.monotonic()
    onnx = _drawn(place.loaded, graph, precision, progress)
    key = _key(place, graph, onnx, precision)
    facts = {"library": place.title, "gpu": place.gpu.name}
    kept = None if anew or workspace_mb else plans.read(key.path, key.digest)
    if kept is not None:
        return Built(key.path, len(kept.data), time.monotonic() - started, **facts, already=True, kept=True)
    with _gpu_in_use():
        made, written = _built(place, graph, onnx, precision, key, threads, progress, workspace_mb * MIB)
    return Built(key.path, len(made.data), time.monotonic() - started, **facts, already=False, kept=written)


def try_building(graph: Graph, precision: str, progress: Callable[[str], None]) -> Tried:
    """Parse, inspect and build without a GPU, and keep nothing: with TensorRT for RTX, for all GPUs that it serves.
    Raises ``ImportError`` where it is not installed and ``WorldError`` for a network that it cannot take."""
    loaded = serving(None)
    onnx = _drawn(loaded, graph, precision, progress)
    started = time.monotonic()
    made = plan_build.build(loaded, onnx, graph, precision, progress, Options())
    return Tried(loaded.title, len(made.data), time.monotonic() - started, made.inspected)


def _drawn(loaded: Loaded, graph: Graph, precision: str, progress: Callable[[str], None]) -> bytes:
    """The ONNX file, with the operators that only some libraries have where this one has them."""
    if graph.native is not None and plan_build.knows(loaded, graph.native.operators):
        onnx = onnx_of(graph, precision, progress, native=True)
        if plan_build.takes(loaded, onnx, graph):
            return onnx
    return onnx_of(graph, precision, progress)


def _key(place: _Place, graph: Graph, onnx: bytes, precision: str) -> plans.Key:
    module, version = place.loaded.row.module, place.loaded.version
    return plans.key_of(graph, onnx, precision, module, version, place.gpu.name, place.gpu.compute_capability)


@contextmanager
def _gpu_in_use() -> Iterator[Context]:
    """The GPU's context, current on this thread: TensorRT takes the one it finds."""
    with closing(Context()) as context, context:
        yield context


def _built(
    place: _Place,
    graph: Graph,
    onnx: bytes,
    precision: str,
    key: plans.Key,
    threads: int,
    progress: Callable[[str], None],
    workspace: int,
) -> tuple[Plan, bool]:
    """A plan built now, and whether it was kept. Where the GPU's memory does not do, a smaller workspace is tried, but
    none in place of one that was named."""
    started = time.monotonic()
    with plans.one_builder(lambda: progress(f"{place.title}: waiting for another build on this machine")):
        timing = plans.read(key.timing, plans.timing_key(key)) if place.loaded.row.timing_cache else None
        named, workspace = workspace, workspace or _free(place) // 2
        progress(f"{place.title}: building {graph.name} for {place.gpu.name}, once for this size")
        while True:
            options = Options(
                workspace=workspace,
                capability=place.gpu.compute_capability,
                timing=timing.data if timing else b"",
                threads=threads,
            )
            try:
                made = plan_build.build(place.loaded, onnx, graph, precision, progress, options)
                break
            except TooLittleMemory as error:
                if named or workspace // SMALLER < LEAST_WORKSPACE:
                    raise WorldError(
                        f"{error}: close what else uses it, or build ahead with a smaller one: "
                        f"rtpipe engines build NETWORK --size WxH --workspace {max(16, workspace // SMALLER // MIB)}"
                    ) from error
                workspace //= SMALLER
                progress(f"{error}; trying again with {workspace // MIB} MiB")
        if made.timing and (timing is None or made.timing != timing.data):
            plans.keep(key.timing, plans.timing_key(key), made.timing)
    seconds = time.monotonic() - started
    facts = {
        "network": graph.name,
        "precision": precision,
        "library": place.title,
        "gpu": place.gpu.name,
        "workspace": f"{workspace // MIB} MiB",
        "seconds": f"{seconds:.1f}",
    }
    written = plans.keep(key.path, key.digest, made.data, facts)
    progress(f"{place.title}: {graph.name} built in {seconds:.0f} s")
    return made, written


def _free(place: _Place) -> int:
    """Bytes of the GPU's memory that nobody uses; all of it where that cannot be told."""
    with _gpu_in_use() as context:
        try:
            return context.free_bytes()
        except WorldError:
            return place.gpu.memory_bytes


def _deserialized(place: _Place, plan: bytes) -> Any:
    """The engine; None where the library does not take the plan."""
    place.loaded.log.clear()
    place.loaded.module.init_libnvinfer_plugins(place.loaded.log, "")
    engine = place.loaded.runtime.deserialize_cuda_engine(plan)
    if engine is None:
        LOG.warning("%s: %s", place.title, place.loaded.log.worst() or "the plan cannot be loaded")
    return engine


def _session(place: _Place, engine: Any, graph: Graph, precision: str, key: plans.Key) -> Session:
    """The session; where kernels are compiled when they are first run, they are taken from the cache and kept in it."""
    if not place.loaded.row.compiles_later:
        return Executing(place.loaded.module, engine, graph, precision)
    config = engine.create_runtime_config()
    config.cuda_graph_strategy = place.loaded.module.CudaGraphStrategy.DISABLED  # the session captures its own
    compiled = config.create_runtime_cache()
    kept = plans.read(key.kernels, key.digest)
    if kept is not None and not compiled.deserialize(kept.data):
        kept = None
    config.set_runtime_cache(compiled)
    session = Executing(
        place.loaded.module, engine, graph, precision, context=engine.create_execution_context(runtime_config=config)
    )
    if kept is None:
        plans.keep(key.kernels, key.digest, bytes(memoryview(compiled.serialize())))
    return session
