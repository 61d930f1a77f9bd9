"""What a runtime runs: a network as a function of inputs and states, whichever library computes it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from rtpipe.types import Array


@dataclass(frozen=True, slots=True)
class Port:
    """An input, output or state: its name, and its shape with the batch of one in front (``(1, C, H, W)``)."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Native:
    """A network drawn with ``operators`` (by ONNX's names, of version ``opset``) that only some runtimes have, where
    others need many plainer ones: ``module`` makes it, as :class:`Graph`'s does."""

    operators: tuple[str, ...]
    opset: int
    module: Callable[[], Any]


@dataclass(frozen=True, eq=False)
class Graph:
    """A network at one size, ready for any runtime.

    ``module`` makes it as a ``torch.nn.Module`` in evaluation mode with its weights loaded; its ``forward`` takes the
    inputs and then the states, in order, and returns a tuple of the outputs and then the next states. It must trace and
    export as it is: no Python control flow that depends on values, no state of its own. ``onnx`` gives, for a
    precision, the bytes of an ONNX file of the same (see :func:`engines.runtime.exported.onnx_of`), for networks that
    need no PyTorch; else a runtime exports ``module``. ``weights`` is the sha256 of the tensors: what caches are keyed
    by, beside name and shapes. ``keep_float32`` names submodules (by prefix) that stay in float32 where half precision
    is asked for. ``plain`` makes the network as it was published, called alike, where ``module`` is another form of it:
    what a benchmark compares with. ``native`` is the form for runtimes that have its operators.
    """

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    states: tuple[Port, ...]
    weights: str
    module: Callable[[], Any] | None = None
    onnx: Callable[[str], bytes] | None = None
    keep_float32: tuple[str, ...] = ()
    plain: Callable[[], Any] | None = None
    native: Native | None = None


class Session(Protocol):
    """A graph that a runtime has loaded. States live on the device and never leave it. Not thread-safe."""

    @property
    def facts(self) -> Mapping[str, str]:
        """For the run's report: runtime, device, precision, and why it was chosen."""
        ...

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """One step: float32 C-contiguous arrays of the inputs' shapes in, float32 arrays out (valid until the next
        call), states moved on. Blocks until the outputs are there. Raises ``WorldError`` where the device fails."""
        ...

    def reset(self) -> None:
        """States are zero again."""
        ...

    def close(self) -> None:
        """Give the device's memory back. May be called twice."""
        ...


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a runtime can be used here: on which ``devices`` (``"cuda"``, ``"cpu"``), which ``precisions`` by device,
    or, with no device, ``why`` not and what to install; ``needs``: what is wanted for a device that it has not."""

    runtime: str
    version: str = ""
    devices: tuple[str, ...] = ()
    precisions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    why: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
