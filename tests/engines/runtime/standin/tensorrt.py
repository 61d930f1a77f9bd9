"""A stand-in for TensorRT's Python module where it runs engines: same names, same arguments, computed by ONNX Runtime.

A plan is an ONNX file's bytes. A step is a host function in the stream, so that it runs when the stream comes to it,
over whatever then lies at the addresses that were bound when it was enqueued; the GPU's stand-in is told what it reads
and writes, and finds races. ``test_tensorrt_signatures.py`` holds every public name here against the real modules.
"""

from __future__ import annotations

import contextlib
import ctypes
import enum
from collections.abc import Callable
from typing import Any

import numpy as np
import onnxruntime

from tests.engines.runtime.standin.gpu import Gpu

SCRATCH = 4096

gpu: Gpu | None = None
"""What engines run on; set by a fixture."""

synchronizes = False
"""Whether a step waits for its stream, as one with data-dependent shapes does: it cannot be captured then."""

failures: list[Exception] = []
"""What went wrong in streams, where nobody can be told."""

steps: list[Any] = []
"""All that were enqueued: kept beyond their engines, as a GPU that has failed may be in the middle of one."""


def ours() -> Gpu:
    """The GPU of this test."""
    assert gpu is not None, "the fixture `gpu` is needed"
    return gpu


class DataType(enum.Enum):
    """Of tensors."""

    FLOAT = 0
    HALF = 1
    INT64 = 8


class TensorIOMode(enum.Enum):
    """Direction."""

    NONE = 0
    INPUT = 1
    OUTPUT = 2


class TensorLocation(enum.Enum):
    """Place."""

    DEVICE = 0
    HOST = 1


class TensorFormat(enum.Enum):
    """Layout."""

    LINEAR = 0
    CHW16 = 4


class ExecutionContextAllocationStrategy(enum.Enum):
    """Who takes the memory that layers share."""

    STATIC = 0


DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64}
KINDS = {np.float32: DataType.FLOAT, np.float16: DataType.HALF, np.int64: DataType.INT64}


class Logger:
    """Takes messages."""


class Runtime:
    """Makes engines of plans."""

    def __init__(self, logger: Logger) -> None:
        self.logger = logger

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> ICudaEngine | None:
        """None where it cannot be read."""
        try:
            return ICudaEngine(bytes(serialized_engine))
        except Exception:
            return None


class ICudaEngine:
    """A network made ready."""

    def __init__(self, onnx: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])
        self._ports = {port.name: (TensorIOMode.INPUT, port) for port in self._session.get_inputs()}
        self._ports |= {port.name: (TensorIOMode.OUTPUT, port) for port in self._session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._ports)

    @property
    def device_memory_size_v2(self) -> int:
        return SCRATCH

    def get_tensor_name(self, index: int) -> str:
        return list(self._ports)[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return self._ports[name][0]

    def get_tensor_dtype(self, name: str) -> DataType:
        return KINDS[DTYPES[self._ports[name][1].type]]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._ports[name][1].shape)

    def get_tensor_location(self, name: str) -> TensorLocation:
        return TensorLocation.DEVICE

    def get_tensor_format(self, name: str) -> TensorFormat:
        return TensorFormat.LINEAR

    def create_execution_context(
        self, strategy: ExecutionContextAllocationStrategy = ExecutionContextAllocationStrategy.STATIC
    ) -> IExecutionContext | None:
        """None where memory is short."""
        scratch = ctypes.c_uint64()
        if ours().library.cuMemAlloc_v2(ctypes.byref(scratch), SCRATCH):
            return None
        return IExecutionContext(self, scratch.value)


class IExecutionContext:
    """What runs an engine."""

    def __init__(self, engine: ICudaEngine, scratch: int) -> None:
        self._engine, self._scratch, self._gpu = engine, scratch, ours()
        self._addresses: dict[str, int] = {}
        self._first = True

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError):
            self._gpu.library.cuMemFree_v2(self._scratch)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._ports or memory % 256:
            return False
        self._addresses[name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        ports = self._engine._ports
        if set(self._addresses) != set(ports):
            return False
        library = self._gpu.library
        first, self._first = self._first, False  # libraries make things at their first step, which is not captured
        if (synchronizes or first) and library.cuStreamSynchronize(stream_handle):
            return False
        tensors = {
            name: (self._addresses[name], tuple(port.shape), DTYPES[port.type]) for name, (_, port) in ports.items()
        }
        library.standin_touch(self._scratch, SCRATCH, 1)
        for name, (address, shape, dtype) in tensors.items():
            written = ports[name][0] == TensorIOMode.OUTPUT
            library.standin_touch(address, int(np.prod(shape)) * np.dtype(dtype).itemsize, written)
        step = CALLBACK(self._step(tensors))
        steps.append(step)
        return library.cuLaunchHostFunc(stream_handle, step, None) == 0  # type: ignore[no-any-return]

    def _step(self, tensors: dict[str, tuple[int, tuple[int, ...], Any]]) -> Callable[[Any], None]:
        gpu, engine = self._gpu, self._engine

        def run(_: Any) -> None:
            try:
                views = {name: gpu.view(*one) for name, one in tensors.items()}
                inputs = {name: views[name] for name in views if engine._ports[name][0] == TensorIOMode.INPUT}
                outputs = [name for name in views if name not in inputs]
                for name, value in zip(outputs, engine._session.run(outputs, inputs), strict=True):
                    views[name][...] = value
            except Exception as error:
                failures.append(error)
                gpu.library.standin_break(LAUNCH_FAILED)

        return run


LAUNCH_FAILED = 719
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
