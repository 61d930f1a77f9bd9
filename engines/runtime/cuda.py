"""A GPU by CUDA's driver API: contexts, memory, streams, events and captured graphs, each closed when told.

One class per thing. ``close()`` may be called twice, from any thread, and raises nothing: a GPU that has failed gives
everything back with its process. What a method enqueues it does not wait for, unless its description says so; all raise
:class:`CudaError` (a ``WorldError``), :class:`OutOfMemory` where memory is short. Except for :func:`first_gpu`,
everything raises ``ImportError`` where there is no driver.

Written from the driver API's reference; the tests run it on a driver of their own, on the CPU. Not run so far on a
machine with a GPU.
"""

from __future__ import annotations

import ctypes
import logging
import threading
import weakref
from collections.abc import Callable
from ctypes import byref
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import numpy as np

from engines.runtime import cuda_calls as api
from engines.runtime.cuda_calls import CudaError, OutOfMemory
from rtpipe.types import Array

__all__ = [
    "CapturedGraph",
    "Context",
    "CudaError",
    "DeviceMemory",
    "Event",
    "Gpu",
    "OutOfMemory",
    "PinnedArray",
    "Stream",
    "first_gpu",
]

LOG = logging.getLogger(__name__)

MEGABYTE = 1e6


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its name, compute capability (major, minor), memory in bytes, and the CUDA version that its driver serves
    (12060 is 12.6)."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    driver: int


def first_gpu() -> Gpu | None:
    """The GPU that a network would run on (device 0 of ``CUDA_VISIBLE_DEVICES``); None without a driver or a GPU, or
    with one that does not answer. Never raises. Makes no context: takes no memory on the GPU."""
    try:
        return _gpu(api.driver(), 0)
    except (ImportError, CudaError) as error:
        LOG.debug("no GPU: %s", error)
        return None


def _gpu(driver: api.Driver, ordinal: int) -> Gpu:
    device, version, major, minor = (ctypes.c_int() for _ in range(4))
    memory, name = ctypes.c_size_t(), ctypes.create_string_buffer(256)
    doing = "asking what GPU there is"
    driver.call(doing, "cuDeviceGet", byref(device), ordinal)
    driver.call(doing, "cuDriverGetVersion", byref(version))
    driver.call(doing, "cuDeviceGetName", name, len(name), device)
    driver.call(doing, "cuDeviceTotalMem", byref(memory), device)
    for value, which in (
        (major, api.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR),
        (minor, api.CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR),
    ):
        driver.call(doing, "cuDeviceGetAttribute", byref(value), which, device)
    said = name.value.decode(errors="replace")
    return Gpu(said, (major.value, minor.value), memory.value, version.value)


class Context:
    """The primary context of device 0, which TensorRT, ONNX Runtime and PyTorch use too; shared, counted by the driver.

    ``with context:`` makes it the calling thread's current one and gives back what was current before. It may be
    entered again inside, and in several threads at once.
    """

    def __init__(self) -> None:
        self.driver = api.driver()
        self._device, self._handle, self._entered = ctypes.c_int(), ctypes.c_void_p(), threading.local()
        self.driver.call("opening the GPU", "cuDeviceGet", byref(self._device), 0)
        self.driver.call("opening the GPU", "cuDevicePrimaryCtxRetain", byref(self._handle), self._device)

    @property
    def gpu(self) -> Gpu:
        """What it is on."""
        return _gpu(self.driver, 0)

    def __enter__(self) -> Context:
        depth = getattr(self._entered, "depth", 0)
        if not depth:
            self.driver.call("turning to the GPU", "cuCtxPushCurrent", self._handle)
        self._entered.depth = depth + 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._entered.depth -= 1
        if not self._entered.depth:
            self.driver.result("cuCtxPopCurrent", byref(ctypes.c_void_p()))

    def call(self, doing: str, name: str, *arguments: Any) -> None:
        """Call a function of the driver with this context current; raises as its ``call`` does."""
        with self:
            self.driver.call(doing, name, *arguments)

    def call_quietly(self, name: str, *arguments: Any) -> None:
        """The same for what gives something back: a failure is of no use to anybody and goes to the debug log."""
        try:
            self.call("closing", name, *arguments)
        except CudaError as error:
            LOG.debug("%s", error)

    def free_bytes(self) -> int:
        """Memory of the GPU that nobody has taken."""
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self.call("asking how much memory is free", "cuMemGetInfo", byref(free), byref(total))
        return free.value

    def holds(self, address: int) -> bool:
        """Whether an address is memory of this GPU (and not the host's, another GPU's, or none at all)."""
        return self._attribute(api.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, address) == api.CU_MEMORYTYPE_DEVICE and (
            self._attribute(api.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL, address) == self._device.value
        )

    def pins(self, array: Array) -> bool:
        """Whether a C-contiguous array lies in pinned host memory, so that the GPU can read it where it is."""
        first = array.ctypes.data
        return array.nbytes > 0 and all(
            self._attribute(api.CU_POINTER_ATTRIBUTE_MEMORY_TYPE, at) == api.CU_MEMORYTYPE_HOST
            for at in (first, first + array.nbytes - 1)
        )

    def _attribute(self, which: int, address: int) -> int | None:
        value = ctypes.c_int()
        with self:
            result = self.driver.result("cuPointerGetAttribute", byref(value), which, address)
        return None if result else value.value

    def close(self) -> None:
        """Let it go; the last one to do so, of all libraries, ends it."""
        if self._handle:
            self._handle = ctypes.c_void_p()
            self.driver.result("cuDevicePrimaryCtxRelease", self._device)


class DeviceMemory:
    """``nbytes`` on the GPU, uninitialised, at ``address``."""

    def __init__(self, context: Context, nbytes: int) -> None:
        self.nbytes, self._context, value = nbytes, context, api.ADDRESS()
        doing = f"taking {nbytes / MEGABYTE:.1f} MB on the GPU"
        context.call(doing, "cuMemAlloc", byref(value), max(nbytes, 1))
        self.address = value.value

    def close(self) -> None:
        """Give it back. Nothing may be under way that uses it."""
        if self.address:
            address, self.address = self.address, 0
            self._context.call_quietly("cuMemFree", address)


class PinnedArray:
    """Host memory that the GPU reads and writes by itself, as a C-contiguous NumPy array of zeros.

    The memory lives as long as ``array`` or any view of it is held by anybody, beyond :meth:`close`: a picture that
    somebody still looks at is never torn away.
    """

    def __init__(self, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
        nbytes = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        context, pointer = Context(), ctypes.c_void_p()  # its own: the memory ends with the context's last user
        try:
            doing = f"pinning {nbytes / MEGABYTE:.1f} MB of the host's memory"
            context.call(doing, "cuMemHostAlloc", byref(pointer), max(nbytes, 1), api.CU_MEMHOSTALLOC_PORTABLE)
        except BaseException:
            context.close()
            raise
        self.address = pointer.value or 0
        memory = (ctypes.c_ubyte * max(nbytes, 1)).from_address(self.address)
        weakref.finalize(memory, _unpin, context, self.address).atexit = False  # the process gives it back
        self.array: Array = np.frombuffer(memoryview(memory), np.uint8, nbytes).view(dtype).reshape(shape)
        self.array.fill(0)

    def close(self) -> None:
        """Let go of the array."""
        self.array, self.address = np.empty(0, self.array.dtype), 0


def _unpin(context: Context, address: int) -> None:
    context.call_quietly("cuMemFreeHost", address)
    context.close()


class Event:
    """A point in a stream, for other streams and the host to wait for. Waiting threads sleep: they do not spin, since
    other stages need the cores."""

    def __init__(self, context: Context) -> None:
        self._context, self.handle = context, ctypes.c_void_p()
        flags = api.CU_EVENT_BLOCKING_SYNC | api.CU_EVENT_DISABLE_TIMING
        context.call("making an event", "cuEventCreate", byref(self.handle), flags)

    def record(self, stream: Stream | int) -> None:
        """After all that is in the stream now. An ``int`` is a stream of another library."""
        self._context.call("marking a step", "cuEventRecord", self.handle, _handle(stream))

    def hold_back(self, stream: int) -> None:
        """What comes next in another library's stream waits for where this was last recorded."""
        self._context.call("ordering a step", "cuStreamWaitEvent", _handle(stream), self.handle, 0)

    def synchronize(self) -> None:
        """Block until the GPU has come to where it was last recorded. What failed on the way there is raised here."""
        self._context.call("computing", "cuEventSynchronize", self.handle)

    def close(self) -> None:
        """Give it back."""
        if self.handle:
            handle, self.handle = self.handle, ctypes.c_void_p()
            self._context.call_quietly("cuEventDestroy", handle)


def _handle(stream: Stream | int) -> ctypes.c_void_p:
    return ctypes.c_void_p(stream) if isinstance(stream, int) else stream.handle


class Stream:
    """A queue of work that the GPU does in order, beside other streams. It does not wait for the default stream.

    Copies are of ``nbytes`` from and to addresses; the host's must be pinned. The caller keeps them alive.
    """

    def __init__(self, context: Context) -> None:
        self._context, self.handle = context, ctypes.c_void_p()
        context.call("making a stream", "cuStreamCreate", byref(self.handle), api.CU_STREAM_NON_BLOCKING)

    def upload(self, target: int, source: int, nbytes: int) -> None:
        """From the host to the GPU."""
        self._context.call("copying to the GPU", "cuMemcpyHtoDAsync", target, source, nbytes, self.handle)

    def download(self, target: int, source: int, nbytes: int) -> None:
        """From the GPU to the host."""
        self._context.call("copying from the GPU", "cuMemcpyDtoHAsync", target, source, nbytes, self.handle)

    def copy(self, target: int, source: int, nbytes: int) -> None:
        """From the GPU to the GPU."""
        self._context.call("copying on the GPU", "cuMemcpyDtoDAsync", target, source, nbytes, self.handle)

    def zero(self, memory: DeviceMemory) -> None:
        """Set all of it to zero."""
        self._context.call("zeroing memory", "cuMemsetD8Async", memory.address, 0, memory.nbytes, self.handle)

    def wait(self, event: Event) -> None:
        """What comes after this waits for where the event was last recorded before this call."""
        self._context.call("ordering a step", "cuStreamWaitEvent", self.handle, event.handle, 0)

    def synchronize(self) -> None:
        """Block until it is empty. What failed in it is raised here."""
        self._context.call("computing", "cuStreamSynchronize", self.handle)

    def close(self) -> None:
        """Give it back; what is in it is still done."""
        if self.handle:
            handle, self.handle = self.handle, ctypes.c_void_p()
            self._context.call_quietly("cuStreamDestroy", handle)


class CapturedGraph:
    """What ``enqueue`` puts into a stream, recorded once, to be launched as one.

    ``enqueue`` may only put work into this stream; nothing of it is done while it is recorded. Calls that other threads
    make meanwhile do no harm. Raises :class:`CudaError` where something in it cannot be captured, and whatever
    ``enqueue`` raises; the stream can be used on.
    """

    def __init__(self, context: Context, stream: Stream, enqueue: Callable[[], None]) -> None:
        self._context, self._handle, graph = context, ctypes.c_void_p(), ctypes.c_void_p()
        with context:
            driver, doing = context.driver, "capturing the network"
            driver.call(doing, "cuStreamBeginCapture", stream.handle, api.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
            try:
                enqueue()
            except BaseException:
                driver.result("cuStreamEndCapture", stream.handle, byref(graph))
                if graph:
                    driver.result("cuGraphDestroy", graph)
                raise
            driver.call(doing, "cuStreamEndCapture", stream.handle, byref(graph))
            try:
                driver.call(doing, "cuGraphInstantiateWithFlags", byref(self._handle), graph, 0)
            finally:
                driver.result("cuGraphDestroy", graph)

    def launch(self, stream: Stream) -> None:
        """Put it into a stream."""
        self._context.call("starting the network", "cuGraphLaunch", self._handle, stream.handle)

    def close(self) -> None:
        """Give it back. It must not be under way."""
        if self._handle:
            handle, self._handle = self._handle, ctypes.c_void_p()
            self._context.call_quietly("cuGraphExecDestroy", handle)
