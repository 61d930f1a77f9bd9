"""An ONNX file built into a plan by TensorRT: parsed, inspected, then built; the same over all flavours.

Networks are strongly typed: precision lies in the ONNX file, and what the parser makes of it is inspected before hours
or minutes go into a build. A network that was asked for in half precision and computes in single would be right, and
slow, and nobody would know: that is an error here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from engines.runtime.exported import next_name
from engines.runtime.graph import Graph
from engines.runtime.plan_progress import monitor
from engines.runtime.tensorrt_library import Capability, Loaded
from rtpipe.errors import WorldError

MIB = 1 << 20

HEAVY = ("CONVOLUTION", "DECONVOLUTION", "MATRIX_MULTIPLY", "EINSUM")
"""Layers that cost time, and so must be in the precision that was asked for."""

OUT_OF_MEMORY = re.compile(r"out ?of ?memory|could not be allocated|insufficient memory|FAILED_ALLOCATION", re.I)
UNKNOWN_OPERATOR = re.compile(r"plugin not found|no importer registered", re.I)
SMALL_WORKSPACE = re.compile(r"insufficient workspace|increas\w* the workspace|Could not find any implementation", re.I)


Typed: TypeAlias = tuple[tuple[int, ...], Any]
"""A tensor's shape and type."""


class TooLittleMemory(WorldError):
    """The GPU's memory did not do for a build: a smaller workspace may."""


@dataclass(frozen=True, slots=True)
class Inspected:
    """What a parsed network is made of: ``layers`` in all; of the heavy ones ``half`` and ``single``, and the names of
    those in single precision that were to stay so."""

    layers: int
    half: int
    single: int
    kept_single: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """A built plan: its bytes, what it was built from, and the measured kernels where the library keeps such."""

    data: bytes
    inspected: Inspected
    timing: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to build. ``workspace``: bytes that a layer may use while it computes, 0: as the library pleases;
    ``capability``: the GPU's, 0 for all that the library serves (only where it needs no GPU to build); ``timing``:
    measured kernels of earlier builds."""

    workspace: int = 0
    capability: Capability | None = None
    timing: bytes = b""
    threads: int = 1


@dataclass
class _Parsed:
    """What must live until the plan is built, and then go in this order."""

    parser: Any
    network: Any
    builder: Any


def build(
    loaded: Loaded, onnx: bytes, graph: Graph, precision: str, progress: Callable[[str], None], options: Options
) -> Plan:
    """The plan of a network. Blocks: seconds to many minutes; ``progress`` is told how far it is.

    Raises :class:`TooLittleMemory`, and ``WorldError`` for what the library cannot take and for a wrong precision. An
    exception that ``progress`` raises ends the build and is raised.
    """
    parsed = _parse(loaded, onnx, graph)
    inspected = inspect(loaded, parsed.network, graph, precision)
    config = parsed.builder.create_builder_config()
    telling = monitor(loaded, graph.name, progress)
    timing = _configure(loaded, config, options)
    config.progress_monitor = telling
    if options.threads > 1:
        parsed.builder.max_threads = options.threads
    loaded.log.clear()
    built = parsed.builder.build_serialized_network(parsed.network, config)
    telling.raise_what_ended_it()
    if built is None:
        raise _failure(loaded, graph, options)
    measured = bytes(memoryview(timing.serialize())) if timing is not None else b""
    return Plan(bytes(memoryview(built)), inspected, measured)


def looked_at(loaded: Loaded, onnx: bytes, graph: Graph, precision: str) -> Inspected:
    """What a network is made of, parsed and inspected but not built. Raises ``WorldError`` as :func:`build` does."""
    return inspect(loaded, _parse(loaded, onnx, graph).network, graph, precision)


def takes(loaded: Loaded, onnx: bytes, graph: Graph) -> bool:
    """Whether the library's parser takes this file whole, operators and plugins included."""
    try:
        _parse(loaded, onnx, graph)
    except WorldError:
        return False
    return True


def knows(loaded: Loaded, operators: Iterable[str]) -> bool:
    """Whether the library's parser says that it has these operators (by ONNX's names)."""
    parsed = _begun(loaded)
    return all(parsed.parser.supports_operator(operator) for operator in operators)


def _begun(loaded: Loaded) -> _Parsed:
    """An empty network. Raises ``WorldError`` where the library cannot start."""
    trt = loaded.module
    loaded.log.clear()
    try:
        builder = trt.Builder(loaded.log)
    except Exception as error:  # pybind's TypeError: the factory gave nothing
        raise WorldError(f"{loaded.title} cannot start: {loaded.log.worst() or error}") from error
    trt.init_libnvinfer_plugins(loaded.log, "")
    flags = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED) if loaded.row.typed_flag else 0
    network = builder.create_network(flags)
    return _Parsed(trt.OnnxParser(network, loaded.log), network, builder)


def _parse(loaded: Loaded, onnx: bytes, graph: Graph) -> _Parsed:
    parsed = _begun(loaded)
    if not parsed.parser.parse(onnx):
        errors = [parsed.parser.get_error(index) for index in range(parsed.parser.num_errors)]
        raise WorldError(f"{loaded.title} cannot take {graph.name}: {_told(errors) or loaded.log.worst()}")
    return parsed


def _told(errors: Sequence[Any]) -> str:
    """The parser's errors in one line: operators that it does not know, else the first node that it objects to."""
    unknown = [one for one in errors if one.code().name == "UNSUPPORTED_NODE" or UNKNOWN_OPERATOR.search(one.desc())]
    if unknown:
        nodes = {one.node_operator(): one.node_name() for one in reversed(unknown)}
        told = ", ".join(f"{operator} (node {node})" for operator, node in reversed(nodes.items()))
        return f"it does not know the operator{'s' * (len(nodes) > 1)} {told}"[:300]
    for one in errors:
        node = f"{one.node_operator()} (node {one.node_name()}): " if one.node_operator() else ""
        return f"{node}{' '.join(one.desc().split())}"[:300]
    return ""


def _configure(loaded: Loaded, config: Any, options: Options) -> Any:
    """Set what is asked for; gives the timing cache to read afterwards, or None."""
    trt = loaded.module
    config.clear_flag(trt.BuilderFlag.TF32)  # "fp32" is float32, not its shortened form
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if loaded.row.enumerated and options.capability is not None:
        config.num_compute_capabilities = 1
        name = f"SM{options.capability[0]}{options.capability[1]}"
        config.set_compute_capability(getattr(trt.ComputeCapability, name), 0)
    if not loaded.row.timing_cache:
        return None
    for data in dict.fromkeys((options.timing, b"")):
        cache = config.create_timing_cache(data)
        if cache is not None and config.set_timing_cache(cache, ignore_mismatch=False):
            return cache
    return None


def _failure(loaded: Loaded, graph: Graph, options: Options) -> WorldError:
    """Why nothing was built, and what to do."""
    said = "\n".join(loaded.log.said())
    size = f" (a workspace of {options.workspace // MIB} MiB)" if options.workspace else ""
    if OUT_OF_MEMORY.search(said):
        return TooLittleMemory(f"{loaded.title} ran out of GPU memory while building {graph.name}{size}")
    if SMALL_WORKSPACE.search(said):
        return WorldError(
            f"{loaded.title} finds no way to compute {graph.name}{size}: "
            "build it ahead with a larger one (rtpipe engines build, --workspace)"
        )
    return WorldError(f"{loaded.title} could not build {graph.name}: {loaded.log.worst() or 'it does not say why'}")


def inspect(loaded: Loaded, network: Any, graph: Graph, precision: str) -> Inspected:
    """Look at the types of a parsed network: inputs and outputs float32, states in ``precision``, and each heavy layer
    in ``precision`` but those whose names begin with one of the graph's ``keep_float32``.

    Raises ``WorldError`` that names what is not as it was asked for.
    """
    types = loaded.module.DataType
    state = {"fp32": types.FLOAT, "fp16": types.HALF}[precision]
    wanted = {port.name: (port.shape, types.FLOAT) for port in graph.inputs}
    wanted |= {port.name: (port.shape, state) for port in graph.states}
    made = {port.name: (port.shape, types.FLOAT) for port in graph.outputs}
    made |= {next_name(port): (port.shape, state) for port in graph.states}
    _compare(graph, "input", wanted, (network.get_input(index) for index in range(network.num_inputs)))
    _compare(graph, "output", made, (network.get_output(index) for index in range(network.num_outputs)))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    half, single, kept, wrong = 0, 0, [], []
    for layer in layers:
        for dtype, name in _heavy(layer):
            half, single = half + (dtype == types.HALF), single + (dtype == types.FLOAT)
            meant = any(name.startswith((f"{prefix}.", f"{prefix}/")) for prefix in graph.keep_float32)
            if dtype == types.FLOAT and precision == "fp16" and meant:
                kept.append(name)
            elif dtype != state:
                wrong.append(f"{name} ({dtype.name})")
    if wrong:
        raise WorldError(
            f"{graph.name} was asked for in {precision}, but {len(wrong)} of its {half + single} convolutions and "
            f"matrix products are not: {', '.join(wrong[:3])}{', ...' if len(wrong) > 3 else ''}"
        )
    return Inspected(len(layers), half, single, tuple(kept))


def _compare(graph: Graph, what: str, wanted: Mapping[str, Typed], tensors: Iterable[Any]) -> None:
    found = {tensor.name: (tuple(tensor.shape), tensor.dtype) for tensor in tensors}
    for name in dict.fromkeys((*wanted, *found)):
        if wanted.get(name) != found.get(name):
            raise WorldError(
                f"{graph.name}: {what} {name} is {_shown(found.get(name))}, announced as {_shown(wanted.get(name))}"
            )


def _shown(typed: Typed | None) -> str:
    return f"{typed[1].name} {'x'.join(map(str, typed[0]))}" if typed else "nothing"


def _heavy(layer: Any) -> Iterator[tuple[Any, str]]:
    """The type that a heavy layer computes in (of its first input and its output), and the name of its ONNX node."""
    if layer.type.name not in HEAVY:
        return
    named = re.match(r"\[ONNX Layer: ([^\]]+)\]", layer.metadata or "")
    for tensor in dict.fromkeys((layer.get_input(0).dtype, layer.get_output(0).dtype)):
        yield tensor, named[1] if named else layer.name
