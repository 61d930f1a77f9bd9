"""Where an input lies: in the host's memory, in pinned memory, or on the GPU; and whom its reader must wait for."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from engines.runtime.cuda import Context
from engines.runtime.cuda_calls import CU_STREAM_LEGACY
from engines.runtime.graph import Port
from rtpipe.types import Array


class Given(NamedTuple):
    """A checked input. ``array`` is to be copied by the host first, ``address`` where the GPU finds it; ``on_gpu``: in
    its own memory, written in the stream ``producer`` (a handle), which None says is no concern."""

    address: int
    array: Array | None = None
    on_gpu: bool = False
    producer: int | None = None


def given(port: Port, one: Any, context: Context) -> Given:
    """Check an input and say where it lies. Raises ``ValueError`` for what does not fit the port.

    A NumPy array, or whatever has ``__cuda_array_interface__`` (a PyTorch or CuPy array on the GPU): float32, of the
    port's shape, C-contiguous.
    """
    interface = None if isinstance(one, np.ndarray) else getattr(one, "__cuda_array_interface__", None)
    if interface is not None:
        return _on_gpu(port, one, interface, context)
    if not isinstance(one, np.ndarray):
        raise ValueError(f"{port.name}: float32 {port.shape} wanted, got {type(one).__name__}")
    if one.shape != port.shape or one.dtype != np.float32 or not one.flags.c_contiguous:
        raise ValueError(f"{port.name}: float32 {port.shape} wanted, got {one.dtype} {one.shape} {_order(one)}")
    return Given(one.ctypes.data, None if context.pins(one) else one)


def _order(array: Array) -> str:
    return "in order" if array.flags.c_contiguous else "not C-contiguous"


def _on_gpu(port: Port, one: Any, interface: Mapping[str, Any], context: Context) -> Given:
    shape, kind = tuple(interface["shape"]), np.dtype(interface["typestr"])
    if shape != port.shape or kind != np.float32:
        raise ValueError(f"{port.name}: float32 {port.shape} wanted, got {kind} {shape} on a GPU")
    if not _contiguous(shape, interface.get("strides")) or interface.get("mask") is not None:
        raise ValueError(f"{port.name}: an array on the GPU must be C-contiguous: use .contiguous()")
    address = int(interface["data"][0])
    if not context.holds(address):
        raise ValueError(f"{port.name}: the array does not lie on the GPU that the network runs on")
    return Given(address, None, True, _producer(port, one, interface))


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> bool:
    """Whether strides in bytes are those of a C-contiguous float32 array. A side of one has any."""
    step = 4
    for side, stride in zip(reversed(shape), reversed(strides or ()), strict=False):
        if side != 1 and stride != step:
            return False
        step *= side
    return strides is None or len(strides) == len(shape)


def _producer(port: Port, one: Any, interface: Mapping[str, Any]) -> int | None:
    """The stream that what lies there was last written in.

    Version 3 of the interface names it, or says by None that there is nothing to wait for. PyTorch's tensors speak
    version 2, which says nothing: they are taken to be written in PyTorch's current stream. Of others that say nothing
    the default stream is waited for.
    """
    stream = interface.get("stream")
    if stream is not None:
        if int(stream) == 0:
            raise ValueError(f"{port.name}: stream 0 is ambiguous: 1 is the default stream, 2 the thread's own")
        return int(stream)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(one, torch.Tensor):
        return int(torch.cuda.current_stream(one.device).cuda_stream) or CU_STREAM_LEGACY
    return None if interface.get("version", 0) >= 3 else CU_STREAM_LEGACY
