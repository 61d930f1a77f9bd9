"""Sessions over the stand-ins, and what they must compute: ONNX Runtime called plainly, states carried in Python."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import onnxruntime

from engines.runtime.exported import next_name, onnx_of
from engines.runtime.graph import Graph
from engines.runtime.plan_session import DTYPES, Executing
from rtpipe.types import Array
from tests.engines.runtime.recurrent import quiet
from tests.engines.runtime.standin import tensorrt


def engine_of(graph: Graph, precision: str = "fp32") -> tensorrt.ICudaEngine:
    """The graph as an engine of the stand-in."""
    engine = tensorrt.Runtime(tensorrt.Logger()).deserialize_cuda_engine(onnx_of(graph, precision, quiet))
    assert engine is not None
    return engine


def opened(graph: Graph, precision: str = "fp32") -> Executing:
    """A session of it."""
    return Executing(tensorrt, engine_of(graph, precision), graph, precision)


def wanted(
    graph: Graph, steps: Sequence[Sequence[Array]], precision: str = "fp32", resets: Collection[int] = ()
) -> list[list[Array]]:
    """Each step's outputs; states are zeroed before the steps in ``resets``."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        onnx_of(graph, precision, quiet), options, providers=["CPUExecutionProvider"]
    )
    zeros = {port.name: np.zeros(port.shape, DTYPES[precision]) for port in graph.states}
    states, made = zeros, []
    outputs = [port.name for port in graph.outputs]
    for index, step in enumerate(steps):
        states = zeros if index in resets else states
        given = {port.name: one for port, one in zip(graph.inputs, step, strict=True)}
        found = session.run([*outputs, *(next_name(port) for port in graph.states)], {**given, **states})
        states = {port.name: one for port, one in zip(graph.states, found[len(outputs) :], strict=True)}
        made.append(found[: len(outputs)])
    return made
