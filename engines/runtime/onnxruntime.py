"""ONNX Runtime as a runtime, on a CPU or on CUDA: inputs and outputs bound to buffers, states never leaving the device.

States lie in two sets of buffers that change places at each step; on a CPU inputs are read where they lie and nothing
is copied. Not run so far on a machine with a GPU, as far as ``device == "cuda"`` goes.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

from engines.runtime.exported import next_name, onnx_of
from engines.runtime.graph import Graph
from rtpipe.errors import WorldError
from rtpipe.types import Array

NAME = "onnxruntime"

PROVIDER = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
DTYPES = {"fp32": np.dtype(np.float32), "fp16": np.dtype(np.float16)}


def available() -> tuple[str, Mapping[str, tuple[str, ...]]]:
    """The version, with the package in charge, and the precisions that are worth using by device."""
    import onnxruntime

    found: dict[str, tuple[str, ...]] = {"cpu": ("fp32",)}
    if PROVIDER["cuda"] in onnxruntime.get_available_providers() and _gpus():
        found["cuda"] = ("fp32", "fp16")
    return f"{onnxruntime.__version__} ({in_charge()})", found


def in_charge() -> str:
    """Which package's module this is: ``onnxruntime`` and ``onnxruntime-gpu`` install the same one, the last wins."""
    import onnxruntime

    installed = []
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            metadata.version(name)
            installed.append(name)
        except metadata.PackageNotFoundError:
            continue
    with_gpu = PROVIDER["cuda"] in onnxruntime.get_available_providers()
    chief = "onnxruntime-gpu" if with_gpu else "onnxruntime"
    other = [name for name in installed if name != chief]
    return f"{chief}; {other[0]} is installed too" if other and len(installed) > 1 else chief


def _gpus() -> int:
    """How many NVIDIA GPUs the driver has, 0 without a driver."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        count = ctypes.c_int()
        return count.value if driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0 else 0
    except OSError:
        return 0


def open(graph: Graph, device: str, precision: str, threads: int, progress: Callable[[str], None]) -> Bound:
    """A session that has run once; its states are zero. Raises ``ImportError``, ``WorldError`` or what ONNX Runtime
    raises. ``"fp16"`` on a CPU is emulated (ONNX Runtime widens each operation): for comparison, not for use."""
    import onnxruntime

    if device == "cuda" and hasattr(onnxruntime, "preload_dlls"):
        onnxruntime.preload_dlls()  # CUDA and cuDNN from packages beside it, where there are such
    data = onnx_of(graph, precision, progress)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # other stages need the cores
    settings = {}
    if device == "cuda":
        settings = {"cudnn_conv_algo_search": "EXHAUSTIVE", "use_tf32": "0", "do_copy_in_default_stream": "1"}
    progress(f"ONNX Runtime: loading {graph.name}")
    inference = onnxruntime.InferenceSession(data, options, providers=[(PROVIDER[device], settings)])
    if inference.get_providers()[0] != PROVIDER[device]:
        raise WorldError("ONNX Runtime could not start CUDA: its CUDA or cuDNN libraries are missing or do not fit")
    session = Bound(inference, graph, device, precision)
    session.run([np.zeros(port.shape, np.float32) for port in graph.inputs])
    session.reset()
    return session


class Bound:
    """A loaded network with its buffers; see :class:`engines.runtime.graph.Session`."""

    def __init__(self, inference: Any, graph: Graph, device: str, precision: str) -> None:
        import onnxruntime

        self._inference, self._device = inference, device
        names = [port.name for port in (*graph.inputs, *graph.states)]
        made = [*(port.name for port in graph.outputs), *(next_name(port) for port in graph.states)]
        if [one.name for one in inference.get_inputs()] != names or [
            one.name for one in inference.get_outputs()
        ] != made:
            raise WorldError(f"{graph.name}: the ONNX file has not the inputs, outputs and states that were announced")
        self._inputs = graph.inputs
        value = onnxruntime.OrtValue.ortvalue_from_numpy
        self._outputs = [np.zeros(port.shape, np.float32) for port in graph.outputs]
        self._zeros = [np.zeros(port.shape, DTYPES[precision]) for port in graph.states]
        sets = [[np.zeros_like(zero) for zero in self._zeros] for _ in range(2)]
        self._host = sets if device == "cpu" else []
        self._states = [[value(array, device, 0) for array in one] for one in sets]
        self._device_inputs = [value(np.zeros(port.shape, np.float32), device, 0) for port in graph.inputs]
        self._steps = []
        for now, then in ((0, 1), (1, 0)):
            binding = inference.io_binding()
            for port, old, new in zip(graph.states, self._states[now], self._states[then], strict=True):
                binding.bind_ortvalue_input(port.name, old)
                binding.bind_ortvalue_output(next_name(port), new)
            if device != "cpu":
                for port, there in zip(graph.inputs, self._device_inputs, strict=True):
                    binding.bind_ortvalue_input(port.name, there)
            for port, array in zip(graph.outputs, self._outputs, strict=True):
                binding.bind_output(port.name, "cpu", 0, np.float32, port.shape, array.ctypes.data)
            self._steps.append(binding)
        self._at = 0
        self.facts = {"threads": str(inference.get_session_options().intra_op_num_threads or "all")}

    def reset(self) -> None:
        """States are zero again."""
        if self._host:
            for array in self._host[self._at]:
                array.fill(0)
        elif self._states:
            for there, zero in zip(self._states[self._at], self._zeros, strict=True):
                there.update_inplace(zero)

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """One step."""
        if self._inference is None:
            raise WorldError("the session is closed")
        binding = self._steps[self._at]
        for index, (port, array) in enumerate(zip(self._inputs, inputs, strict=True)):
            if array.shape != port.shape or array.dtype != np.float32 or not array.flags.c_contiguous:
                raise ValueError(f"{port.name}: float32 {port.shape} wanted, got {array.dtype} {array.shape}")
            if self._device == "cpu":
                binding.bind_input(port.name, "cpu", 0, np.float32, port.shape, array.ctypes.data)
            else:
                self._device_inputs[index].update_inplace(array)
        self._inference.run_with_iobinding(binding)
        self._at = 1 - self._at
        return self._outputs

    def close(self) -> None:
        """Give the device's memory back."""
        self._inference, self._steps, self._states, self._host, self._device_inputs = None, [], [], [], []
