"""The driver API as it is called: prototypes against the official bindings', and each thing of a GPU by itself."""

import ctypes
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from engines.runtime import cuda, cuda_calls
from engines.runtime.cuda import CapturedGraph, Context, CudaError, DeviceMemory, Event, PinnedArray, Stream
from engines.runtime.cuda_calls import CALLS
from tests.engines.runtime.standin.gpu import Gpu

C_TYPES = {
    "unsigned int": ctypes.c_uint,
    "int": ctypes.c_int,
    "CUresult": ctypes.c_int,  # enumerations are ints
    "CUdevice": ctypes.c_int,
    "CUdevice_attribute": ctypes.c_int,
    "CUpointer_attribute": ctypes.c_int,
    "CUstreamCaptureMode": ctypes.c_int,
    "size_t": ctypes.c_size_t,
    "unsigned char": ctypes.c_ubyte,
    "unsigned long long": ctypes.c_ulonglong,
    "CUdeviceptr": ctypes.c_ulonglong,
    "void*": ctypes.c_void_p,
    "const void*": ctypes.c_void_p,
    "void**": ctypes.POINTER(ctypes.c_void_p),
    "char*": ctypes.c_char_p,
    "const char**": ctypes.POINTER(ctypes.c_char_p),
    **dict.fromkeys(("CUcontext", "CUstream", "CUevent", "CUgraph", "CUgraphExec"), ctypes.c_void_p),
}


def c_type(told: str) -> object:
    return C_TYPES[told] if told in C_TYPES else ctypes.POINTER(C_TYPES[told[:-1]])  # type: ignore[type-var]


def prototypes() -> dict[str, tuple[object, ...]]:
    """What the bindings' own declarations say, which are made from CUDA's header."""
    folder = resources.files("cuda.bindings")
    found = {}
    for file in (folder / "cydriver.pxd", folder / "_internal" / "driver.pxd"):
        for name, arguments in re.findall(r"cdef CUresult _?(cu\w+)\((.*?)\) except", file.read_text("utf-8")):
            if name in CALLS and name not in found:
                kinds = [re.match(r"(.*?[\s*])\w+$", one.strip()) for one in arguments.split(",")]
                found[name] = tuple(c_type(kind.group(1).strip()) for kind in kinds if kind)
    return found


def test_every_prototype_is_that_of_cudas_header() -> None:
    assert prototypes() == {name: call.kinds for name, call in CALLS.items()}


def test_every_function_is_bound_by_the_name_that_the_drivers_export() -> None:
    """The bindings' library holds the exported names: where there is a ``_v2``, the plain name is another function."""
    folder = Path(str(resources.files("cuda.bindings"))) / "_internal"
    (library,) = folder.glob("driver.*.so")
    names = set(re.findall(rb"cu[A-Z]\w+", library.read_bytes()))
    for name, call in CALLS.items():
        assert (name + call.suffix).encode() in names
        assert (f"{name}_v2".encode() in names) == (call.suffix == "_v2"), name


def test_every_constant_has_its_value() -> None:
    from cuda.bindings import driver

    members = {name: value for name, value in vars(driver).items() if name.startswith("CU_")}
    for kind in vars(driver).values():
        members |= getattr(kind, "__members__", {})
    ours = {name: value for name, value in vars(cuda_calls).items() if name.startswith(("CU_", "CUDA_"))}
    assert len(ours) > 10
    assert {name: int(members[name]) for name in ours} == ours


def test_the_first_gpu_is_described(gpu: Gpu) -> None:
    assert cuda.first_gpu() == cuda.Gpu("GPU of threads 0", (8, 6), 1 << 34, 12060)
    assert gpu.live == {}, "no context is made for it"


def test_without_a_driver_there_is_no_gpu_and_nothing_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_calls, "LIBRARY", "libcuda-not-there.so.1")
    assert cuda.first_gpu() is None
    with pytest.raises(ImportError, match=r"there is no NVIDIA driver \(libcuda-not-there"):
        Context()


def test_a_driver_without_a_gpu_is_asked_again_later(gpu: Gpu) -> None:
    cuda_calls._driver.cache_clear()
    gpu.library.standin_devices(0)
    assert cuda.first_gpu() is None
    with pytest.raises(CudaError, match="starting the NVIDIA driver: no CUDA-capable device is detected") as told:
        Context()
    assert told.value.code == cuda_calls.CUDA_ERROR_NO_DEVICE
    gpu.library.standin_devices(1)
    assert cuda.first_gpu() is not None


def test_a_driver_that_is_too_old_is_named_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_calls, "LIBRARY", "libm.so.6")
    assert cuda.first_gpu() is None
    with pytest.raises(ImportError, match=r"the NVIDIA driver is too old: it has no cuInit; CUDA 11\.4 or newer has"):
        Context()


def test_it_is_found_as_every_program_finds_it(standin: Gpu) -> None:
    """By the linker, under its own name, in a process that knows nothing of tests."""
    code = "from engines.runtime import cuda; print(cuda.first_gpu().name)"
    environment = {"LD_LIBRARY_PATH": str(standin.path.parent), "PATH": "/usr/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "GPU of threads 0\n"


@pytest.fixture
def context(gpu: Gpu) -> Iterator[Context]:
    made = Context()
    yield made
    made.close()
    made.close()
    assert gpu.live == {}


def test_what_was_current_before_is_current_again(gpu: Gpu, context: Context) -> None:
    with pytest.raises(CudaError, match="invalid device context"):
        context.driver.call("waiting", "cuStreamSynchronize", None)
    with context, context:
        context.driver.call("waiting", "cuStreamSynchronize", None)
    with pytest.raises(
        CudaError, match=r"CUDA failed while waiting: invalid device context \(cuStreamSynchronize: 201\)"
    ):
        context.driver.call("waiting", "cuStreamSynchronize", None)


def test_device_memory_is_no_memory_of_the_hosts(gpu: Gpu, context: Context) -> None:
    memory, pinned, own = DeviceMemory(context, 1000), PinnedArray((10,), np.float32), np.zeros(10, np.float32)
    assert (context.holds(memory.address), context.holds(pinned.address), context.holds(own.ctypes.data)) == (1, 0, 0)
    assert (context.pins(pinned.array), context.pins(pinned.array[3:]), context.pins(own)) == (True, True, False)
    assert context.free_bytes() == (1 << 34) - 1000
    for one in (memory, pinned, memory, pinned):
        one.close()
    assert pinned.array.size == 0


def test_a_round_trip_in_one_stream_keeps_its_order(gpu: Gpu, context: Context) -> None:
    gpu.library.standin_delay(1000)
    stream, event = Stream(context), Event(context)
    there, back = PinnedArray((50,), np.float16), PinnedArray((50,), np.float16)
    first, second = DeviceMemory(context, 100), DeviceMemory(context, 100)
    for value in (1, 2):
        there.array.fill(value)
        stream.zero(first)
        stream.upload(first.address + 20, there.address + 20, 80)
        stream.copy(second.address, first.address, 100)
        stream.download(back.address, second.address, 100)
        event.record(stream)
        event.synchronize()
        assert back.array.tolist() == [0] * 10 + [value] * 40
    for one in (stream, event, there, back, first, second, stream, event):
        one.close()


def test_a_captured_graph_does_nothing_until_it_is_launched(gpu: Gpu, context: Context) -> None:
    stream, memory, seen = Stream(context), DeviceMemory(context, 4), PinnedArray((1,), np.int32)
    fresh = gpu.view(memory.address, (1,), np.int32)
    graph = CapturedGraph(context, stream, lambda: stream.zero(memory))
    stream.synchronize()
    assert fresh[0] == -1
    graph.launch(stream)
    stream.download(seen.address, memory.address, 4)
    stream.synchronize()
    assert seen.array[0] == 0
    for one in (graph, stream, memory, seen, graph):
        one.close()


def test_a_capture_that_fails_leaves_the_stream_usable(gpu: Gpu, context: Context) -> None:
    stream, memory = Stream(context), DeviceMemory(context, 4)

    def raises() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        CapturedGraph(context, stream, raises)
    with pytest.raises(CudaError, match="not permitted when stream is capturing"):
        CapturedGraph(context, stream, stream.synchronize)
    with pytest.raises(CudaError, match=r"taking 0\.0 MB on the GPU: operation not permitted"):
        CapturedGraph(context, stream, lambda: DeviceMemory(context, 1).close())
    stream.zero(memory)
    stream.synchronize()
    assert gpu.view(memory.address, (4,), np.uint8).tolist() == [0] * 4
    stream.close()
    memory.close()


def test_an_error_that_the_driver_has_no_words_for_is_still_told(context: Context) -> None:
    assert context.driver.words(12345) == "an error that the driver does not know"
