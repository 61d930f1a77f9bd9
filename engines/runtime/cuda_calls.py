"""The functions of the CUDA driver that are called, as one table, and the library they are in.

``libcuda.so.1`` is part of every NVIDIA driver and of JetPack: there is no package and no version to match. Functions
are bound by the names that the driver exports (``cuMemAlloc_v2`` and the like, which never change their meaning); the
newest of them came with CUDA 11.4. Only constants and prototypes stand here; :mod:`engines.runtime.cuda` says what they
are for.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_ubyte, c_uint, c_ulonglong, c_void_p
from functools import lru_cache
from typing import Any, NamedTuple

from rtpipe.errors import WorldError

LIBRARY = "libcuda.so.1"

ADDRESS = c_ulonglong
"""``CUdeviceptr``: an address on the device, never followed here."""

HANDLE = c_void_p
"""``CUcontext``, ``CUstream``, ``CUevent``, ``CUgraph``, ``CUgraphExec``."""


class Call(NamedTuple):
    """A function: what is appended to its name in the library, and the types of its arguments. All return CUresult."""

    suffix: str
    kinds: tuple[Any, ...]


CALLS: Mapping[str, Call] = {
    "cuInit": Call("", (c_uint,)),
    "cuDriverGetVersion": Call("", (POINTER(c_int),)),
    "cuGetErrorString": Call("", (c_int, POINTER(c_char_p))),
    "cuDeviceGet": Call("", (POINTER(c_int), c_int)),
    "cuDeviceGetName": Call("", (c_char_p, c_int, c_int)),
    "cuDeviceTotalMem": Call("_v2", (POINTER(c_size_t), c_int)),
    "cuDeviceGetAttribute": Call("", (POINTER(c_int), c_int, c_int)),
    "cuDevicePrimaryCtxRetain": Call("", (POINTER(HANDLE), c_int)),
    "cuDevicePrimaryCtxRelease": Call("_v2", (c_int,)),
    "cuCtxPushCurrent": Call("_v2", (HANDLE,)),
    "cuCtxPopCurrent": Call("_v2", (POINTER(HANDLE),)),
    "cuMemGetInfo": Call("_v2", (POINTER(c_size_t), POINTER(c_size_t))),
    "cuMemAlloc": Call("_v2", (POINTER(ADDRESS), c_size_t)),
    "cuMemFree": Call("_v2", (ADDRESS,)),
    "cuMemHostAlloc": Call("", (POINTER(c_void_p), c_size_t, c_uint)),
    "cuMemFreeHost": Call("", (c_void_p,)),
    "cuPointerGetAttribute": Call("", (c_void_p, c_int, ADDRESS)),
    "cuMemcpyHtoDAsync": Call("_v2", (ADDRESS, c_void_p, c_size_t, HANDLE)),
    "cuMemcpyDtoHAsync": Call("_v2", (c_void_p, ADDRESS, c_size_t, HANDLE)),
    "cuMemcpyDtoDAsync": Call("_v2", (ADDRESS, ADDRESS, c_size_t, HANDLE)),
    "cuMemsetD8Async": Call("", (ADDRESS, c_ubyte, c_size_t, HANDLE)),
    "cuStreamCreate": Call("", (POINTER(HANDLE), c_uint)),
    "cuStreamDestroy": Call("_v2", (HANDLE,)),
    "cuStreamSynchronize": Call("", (HANDLE,)),
    "cuStreamWaitEvent": Call("", (HANDLE, HANDLE, c_uint)),
    "cuStreamBeginCapture": Call("_v2", (HANDLE, c_int)),
    "cuStreamEndCapture": Call("", (HANDLE, POINTER(HANDLE))),
    "cuEventCreate": Call("", (POINTER(HANDLE), c_uint)),
    "cuEventRecord": Call("", (HANDLE, HANDLE)),
    "cuEventSynchronize": Call("", (HANDLE,)),
    "cuEventDestroy": Call("_v2", (HANDLE,)),
    "cuGraphInstantiateWithFlags": Call("", (POINTER(HANDLE), HANDLE, c_ulonglong)),
    "cuGraphLaunch": Call("", (HANDLE, HANDLE)),
    "cuGraphDestroy": Call("", (HANDLE,)),
    "cuGraphExecDestroy": Call("", (HANDLE,)),
}
"""By their names in the documentation."""

CUDA_ERROR_OUT_OF_MEMORY = 2
CUDA_ERROR_NO_DEVICE = 100

CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76
CU_POINTER_ATTRIBUTE_MEMORY_TYPE = 2
CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL = 9
CU_MEMORYTYPE_HOST = 1
CU_MEMORYTYPE_DEVICE = 2
CU_STREAM_NON_BLOCKING = 1
CU_STREAM_LEGACY = 1
CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1
CU_EVENT_BLOCKING_SYNC = 1
CU_EVENT_DISABLE_TIMING = 2
CU_MEMHOSTALLOC_PORTABLE = 1


class CudaError(WorldError):
    """The driver refused or the GPU failed. ``code`` is the driver's number of it (``CUresult``)."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class OutOfMemory(CudaError):
    """The GPU, or the host's memory that can be pinned, has not so much left."""


class Driver:
    """The loaded library, its functions callable by their documented names. They may be called from any thread and
    let other threads of Python run meanwhile."""

    def __init__(self, path: str) -> None:
        """Raises ``ImportError`` where there is no driver, or one older than CUDA 11.4, and :class:`CudaError` where
        it does not start."""
        try:
            library = ctypes.CDLL(path)
        except OSError as error:
            raise ImportError(f"there is no NVIDIA driver ({str(error)[:200]})") from None
        self._functions = {}
        for name, call in CALLS.items():
            try:
                function = getattr(library, name + call.suffix)
            except AttributeError:
                raise ImportError(f"the NVIDIA driver is too old: it has no {name}; CUDA 11.4 or newer has") from None
            function.argtypes, function.restype = call.kinds, c_int
            self._functions[name] = function
        self.call("starting the NVIDIA driver", "cuInit", 0)

    def result(self, name: str, *arguments: Any) -> int:
        """Call a function; its result's number, 0 for success."""
        number: int = self._functions[name](*arguments)
        return number

    def call(self, doing: str, name: str, *arguments: Any) -> None:
        """Call a function. Raises :class:`CudaError`, which says what was being done, where it does not succeed."""
        number = self.result(name, *arguments)
        if number:
            kind = OutOfMemory if number == CUDA_ERROR_OUT_OF_MEMORY else CudaError
            raise kind(f"CUDA failed while {doing}: {self.words(number)} ({name}: {number})", number)

    def words(self, number: int) -> str:
        """What the driver says that a result means."""
        said = c_char_p()
        if self.result("cuGetErrorString", number, ctypes.byref(said)) or not said.value:
            return "an error that the driver does not know"
        return said.value.decode(errors="replace")


@lru_cache(maxsize=4)
def _driver(path: str) -> Driver:
    return Driver(path)


def driver() -> Driver:
    """The driver, loaded and started once in a process. Raises as :class:`Driver` does, each time anew."""
    return _driver(LIBRARY)
