"""PyTorch as a runtime: eager on a CPU, captured CUDA graphs on a GPU. Imports torch and numpy alone.

On the GPU a step is: inputs through pinned memory into fixed device buffers, one replay, outputs through pinned memory
back, all on one stream that is waited for once, at the end. Two graphs are captured that hand the state to and fro, so
that it is copied once in two steps. Not run so far on a machine with a GPU, as far as ``_Captured`` goes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import torch

NAME = "torch"

WARM_STEPS = 3
"""Steps before a capture: cuDNN tries its algorithms, lazy buffers are made."""

DTYPES = {"fp32": torch.float32, "fp16": torch.float16}

Graph: TypeAlias = Any
"""An :class:`engines.runtime.graph.Graph`, which is not imported here."""


def available() -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The version, and the precisions that are worth using by device. Half precision runs on a CPU too (to test what a
    GPU would compute), slowly, so it is not named."""
    found: dict[str, tuple[str, ...]] = {"cpu": ("fp32",)}
    if torch.cuda.is_available():
        found["cuda"] = ("fp32", "fp16")
    return str(torch.__version__), found


class Typed(torch.nn.Module):  # type: ignore[misc,unused-ignore]
    """A network in one precision: float32 inputs in, float32 outputs out, states in that precision.

    With ``"fp16"`` every submodule whose name begins with one of ``keep_float32`` computes in float32: what enters it
    is widened, what leaves it narrowed. The module given is copied, not changed.
    """

    def __init__(self, graph: Graph, precision: str) -> None:
        super().__init__()
        if graph.module is None:
            raise TypeError("this network comes as an ONNX file: PyTorch cannot run it")
        self.inner = graph.module().eval()
        self.n_inputs, self.n_outputs = len(graph.inputs), len(graph.outputs)
        self.dtype = DTYPES[precision]
        if precision == "fp16":
            self.inner = copy.deepcopy(self.inner).half()
            wide = [
                (name, part)
                for name, part in self.inner.named_modules()
                if any(name == prefix or name.startswith(f"{prefix}.") for prefix in graph.keep_float32)
            ]
            for name, part in wide:
                part.float()
                if not any(name.startswith(f"{outer}.") for outer, _ in wide if outer):
                    part.register_forward_pre_hook(_widen)
                    part.register_forward_hook(_narrow)
        self.requires_grad_(False)

    def forward(self, *given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Inputs then states in, outputs then next states out."""
        inputs = [one.to(self.dtype) for one in given[: self.n_inputs]]
        made = self.inner(*inputs, *given[self.n_inputs :])
        return (
            *(one.float() for one in made[: self.n_outputs]),
            *(one.to(self.dtype) for one in made[self.n_outputs :]),
        )


def _converted(what: Any, source: torch.dtype, target: torch.dtype) -> Any:
    if isinstance(what, torch.Tensor):
        return what.to(target) if what.dtype == source else what
    if isinstance(what, tuple | list):
        return type(what)(_converted(one, source, target) for one in what)
    return what


def _widen(_module: torch.nn.Module, given: Any) -> Any:
    return _converted(given, torch.float16, torch.float32)


def _narrow(_module: torch.nn.Module, _given: Any, made: Any) -> Any:
    return _converted(made, torch.float32, torch.float16)


def _own(state: torch.Tensor, inputs: Sequence[torch.Tensor]) -> torch.Tensor:
    """A next state that is no view of an input: the input's buffer is filled anew before the state is read."""
    mine = state.untyped_storage().data_ptr()
    return _laid_out(state.clone() if any(mine == one.untyped_storage().data_ptr() for one in inputs) else state)


def _laid_out(tensor: torch.Tensor) -> torch.Tensor:
    """Channels last where it is a picture: convolutions read it so without turning it round."""
    return tensor.contiguous(memory_format=torch.channels_last) if tensor.ndim == 4 else tensor


def open(
    graph: Graph,
    device: str,
    precision: str,
    threads: int,
    progress: Callable[[str], None],
    compiled: bool = False,
) -> Eager | Captured:
    """A session (:class:`engines.runtime.graph.Session`) that has run once; its states are zero.

    ``threads`` on a CPU is a setting of the whole process. ``compiled``: by ``torch.compile``, which takes minutes and
    a C++ compiler. ``"fp16"`` on a CPU computes what a GPU would, to be compared; it is slow.
    """
    module = Typed(graph, precision).to(device, memory_format=torch.channels_last)
    run: Callable[..., Any] = module
    if compiled:
        progress("torch.compile: minutes the first time")
        run = torch.compile(module, dynamic=False)
    if device == "cuda":
        progress("PyTorch: trying algorithms, capturing")
        return Captured(graph, run, precision)
    if threads:
        torch.set_num_threads(threads)
    session = Eager(graph, run, precision)
    session.run([np.zeros(port.shape, np.float32) for port in graph.inputs])
    session.reset()
    return session


class Eager:
    """On the CPU, operation by operation."""

    def __init__(self, graph: Graph, run: Callable[..., Any], precision: str) -> None:
        self._run: Callable[..., Any] | None = run
        self._states_like = [(port.shape, DTYPES[precision]) for port in graph.states]
        self._outputs = [torch.empty(port.shape) for port in graph.outputs]
        self.facts = {"threads": str(torch.get_num_threads())}
        self.reset()

    def reset(self) -> None:
        """States are zero again."""
        self._states = [_laid_out(torch.zeros(shape, dtype=dtype)) for shape, dtype in self._states_like]

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """One step; see :class:`engines.runtime.graph.Session`."""
        if self._run is None:
            raise RuntimeError("the session is closed")
        with torch.inference_mode():
            given = [_laid_out(torch.from_numpy(one)) for one in inputs]
            made = self._run(*given, *self._states)
            n = len(self._outputs)
            self._states = [_own(state, given) for state in made[n:]]
            for kept, one in zip(self._outputs, made[:n], strict=True):
                kept.copy_(one)
        return [one.numpy() for one in self._outputs]

    def close(self) -> None:
        """Let weights and states go."""
        self._run, self._states = None, []


class Captured:
    """On a GPU: two captured CUDA graphs, the first from state A to B, the second from B to A."""

    def __init__(self, graph: Graph, run: Callable[..., Any], precision: str) -> None:
        # Fixed shapes: let cuDNN find its fastest algorithms. "fp32" means float32, not its shortened TF32 form.
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._stream = torch.cuda.Stream()
        self._host_in = [torch.zeros(port.shape, pin_memory=True) for port in graph.inputs]
        self._host_out = [torch.zeros(port.shape, pin_memory=True) for port in graph.outputs]
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            self._inputs = [_laid_out(torch.zeros(port.shape, device="cuda")) for port in graph.inputs]
            self._a = [
                _laid_out(torch.zeros(port.shape, dtype=DTYPES[precision], device="cuda")) for port in graph.states
            ]
            for _ in range(WARM_STEPS):
                run(*self._inputs, *self._a)
            self._stream.synchronize()
            n = len(graph.outputs)
            there = torch.cuda.CUDAGraph()
            with torch.cuda.graph(there, stream=self._stream):
                made = run(*self._inputs, *self._a)
                outputs, self._b = list(made[:n]), [_own(state, self._inputs) for state in made[n:]]
            self._steps = [(there, outputs)]
            if self._a:
                back = torch.cuda.CUDAGraph()
                with torch.cuda.graph(back, pool=there.pool(), stream=self._stream):
                    made = run(*self._inputs, *self._b)
                    outputs = list(made[:n])
                    for kept, state in zip(self._a, made[n:], strict=True):
                        kept.copy_(state)
                self._steps.append((back, outputs))
        self._at = 0
        self.facts = {"gpu": torch.cuda.get_device_name()}
        self.reset()

    def reset(self) -> None:
        """States are zero again."""
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for state in self._a:
                state.zero_()
        self._at = 0

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> Sequence[npt.NDArray[Any]]:
        """One step; see :class:`engines.runtime.graph.Session`."""
        if not self._steps:
            raise RuntimeError("the session is closed")
        step, outputs = self._steps[self._at]
        with torch.inference_mode(), torch.cuda.stream(self._stream):
            for host, one, there in zip(self._host_in, inputs, self._inputs, strict=True):
                np.copyto(host.numpy(), one)
                there.copy_(host, non_blocking=True)
            step.replay()
            for host, made in zip(self._host_out, outputs, strict=True):
                host.copy_(made, non_blocking=True)
            self._stream.synchronize()
        self._at = (self._at + 1) % len(self._steps)
        return [host.numpy() for host in self._host_out]

    def close(self) -> None:
        """Give the device's memory back."""
        self._steps, self._a, self._b, self._inputs = [], [], [], []
        torch.cuda.empty_cache()
