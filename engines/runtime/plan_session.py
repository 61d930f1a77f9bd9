"""A session over a deserialized TensorRT engine; being written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from engines.runtime.graph import Graph
from rtpipe.types import Array


class Executing:
    """A built engine, ready to run; see :class:`engines.runtime.graph.Session`.

    ``library`` is the module (``tensorrt`` or ``tensorrt_rtx``), ``engine`` its ``ICudaEngine``; ``context`` an
    ``IExecutionContext`` where the caller made one with settings of its own. The session owns both from here on.
    """

    def __init__(self, library: Any, engine: Any, graph: Graph, precision: str, *, context: Any = None) -> None:
        self.facts: Mapping[str, str] = {}

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """One step."""
        return inputs

    def reset(self) -> None:
        """States are zero again."""

    def close(self) -> None:
        """Give the device's memory back."""
