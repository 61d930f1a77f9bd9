"""Networks built for TensorRT before they are needed, and what the command line says of GPU and TensorRT: the side of
:class:`rtpipe.runtimes.Builder` that knows them.

Nothing heavy is imported before it is asked for: :mod:`engines.runtime.choose`, through which the command line comes
here, is imported by every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

from engines.runtime.cores import threads
from engines.runtime.graph import Graph
from rtpipe.errors import InputError
from rtpipe.runtimes import Built, Gpu, Library

if TYPE_CHECKING:
    from engines.runtime.plan_build import Inspected


def gpu() -> Gpu | None:
    """The first GPU; None without a driver or a GPU. Never raises."""
    from engines.runtime.cuda import first_gpu

    found = first_gpu()
    if found is None:
        return None
    major, minor = found.compute_capability
    cuda = f"{found.driver // 1000}.{found.driver % 1000 // 10}"
    return Gpu(found.name, f"{major}.{minor}", found.memory_bytes, cuda)


def gpu_free_bytes() -> int | None:
    """Memory of it that nobody uses; None where nobody knows. Never raises."""
    from engines.runtime.cuda import Context

    try:
        with closing(Context()) as context, context:
            return context.free_bytes()
    except Exception:  # no driver, no GPU, no memory for a context
        return None


def tensorrt() -> Library:
    """The TensorRT of this machine. Imports it: blocks for a second. Never raises."""
    from engines.runtime.cuda import first_gpu
    from engines.runtime.tensorrt_library import installed, serving

    found = next((each for each in installed() if each.version), None)
    title, version, why = (found.title, found.version, "") if found else ("", "", "")
    try:
        builds = serving(None) is not None
    except Exception:  # none that builds without a GPU
        builds = False
    try:
        here = first_gpu()
        if here is None:
            why = "TensorRT needs an NVIDIA GPU and its driver, and none is seen here"
        else:
            loaded = serving(here.compute_capability)
            title, version = loaded.row.title, loaded.version
    except Exception as error:  # the reason of each library, in words
        why = str(error)
    return Library(title, version, why, builds)


def parse(graph: Graph, precision: str, *, progress: Callable[[str], None]) -> str:
    """See :class:`rtpipe.runtimes.Builder`."""
    from engines.runtime.cuda import first_gpu
    from engines.runtime.exported import onnx_of
    from engines.runtime.plan_build import looked_at
    from engines.runtime.tensorrt_library import serving

    try:
        here = first_gpu()
        loaded = serving(None if here is None else here.compute_capability)
        return _words(looked_at(loaded, onnx_of(graph, precision, progress), graph, precision))
    except ImportError as error:
        raise InputError(f"{graph.name} cannot be looked at here: {error}") from error


def build(graph: Graph, precision: str, *, keep: bool, workspace_mb: int, progress: Callable[[str], None]) -> Built:
    """See :class:`rtpipe.runtimes.Builder`."""
    from engines.runtime import tensorrt as runtime

    try:
        if keep:
            done = runtime.build(graph, precision, threads(0), progress, workspace_mb=workspace_mb)
            path = str(done.path) if done.kept else ""
            return Built(path, done.nbytes, done.seconds, done.already, done.library, f"for {done.gpu}")
        tried = runtime.try_building(graph, precision, progress)
    except ImportError as error:
        raise InputError(f"{graph.name} cannot be built here: {error}") from error
    return Built("", tried.nbytes, tried.seconds, False, tried.library, _words(tried.inspected))


def _words(inspected: Inspected) -> str:
    heavy = inspected.half + inspected.single
    said = f"{inspected.layers} layers, {inspected.half} of {heavy} convolutions and products in half precision"
    return said + (f", {len(inspected.kept_single)} kept in single" if inspected.kept_single else "")
