"""On a machine with a GPU: TensorRT, ONNX Runtime and PyTorch on it compute what ONNX Runtime computes on the CPU.

Elsewhere each says why it is skipped. `make test PYTEST_ARGS="-m gpu"` runs these alone.
"""

import importlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engines.runtime import cuda
from engines.runtime import onnxruntime as reference
from engines.runtime.cuda import CapturedGraph, Context, DeviceMemory, PinnedArray, Stream
from rtpipe.errors import RtpipeError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, inputs, quiet, stateless

pytestmark = pytest.mark.gpu

SIZE = (37, 26)
TOLERANCE = {"fp32": 2e-4, "fp16": 2e-2}
RUNTIMES = ("tensorrt", "onnxruntime", "torch")


@pytest.fixture(autouse=True)
def machine() -> cuda.Gpu:
    found = cuda.first_gpu()
    if found is None:
        pytest.skip("needs an NVIDIA GPU and its driver, and none is seen here")
    return found


@pytest.fixture
def runtime(request: pytest.FixtureRequest) -> ModuleType:
    """The runtime's module, where it can use the GPU."""
    try:
        module = importlib.import_module(f"engines.runtime.{request.param}")
        _, devices = module.available()
    except ImportError as error:
        pytest.skip(f"{request.param}: {error}")
    if "cuda" not in devices:
        pytest.skip(f"{request.param} has no CUDA here")
    return module


@pytest.fixture
def tensorrt_session() -> Iterator[Any]:
    module = importlib.import_module("engines.runtime.tensorrt")
    try:
        session = module.open(graph(*SIZE), "cuda", "fp32", 1, quiet)
    except ImportError as error:
        pytest.skip(f"tensorrt: {error}")
    yield session
    session.close()


def pictures(steps: list[Array]) -> list[Array]:
    session = reference.open(graph(*SIZE), "cpu", "fp32", 1, quiet)
    return [session.run([one])[0].copy() for one in steps]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_pictures_are_those_of_the_cpu_over_several_steps_and_after_a_reset(
    runtime: ModuleType, precision: str
) -> None:
    steps = inputs(*SIZE, 6)
    right = pictures(steps)
    session = runtime.open(graph(*SIZE), "cuda", precision, 1, quiet)
    for _ in range(2):
        for one, wanted in zip(steps, right, strict=True):
            np.testing.assert_allclose(session.run([one])[0], wanted, atol=TOLERANCE[precision], rtol=0)
        session.reset()
    session.close()
    session.close()


@pytest.mark.parametrize("runtime", RUNTIMES, indirect=True)
def test_networks_without_state_run(runtime: ModuleType) -> None:
    session = runtime.open(stateless(), "cuda", "fp32", 1, quiet)
    a, b = (np.full((1, 2, 5, 7), value, np.float32) for value in (3, 1))
    for _ in range(3):
        total, difference = session.run([a, b])
        assert (total == 5).all()
        assert (difference == 2).all()
    session.close()


def test_tensorrt_overlaps_steps_without_changing_them(tensorrt_session: Any) -> None:
    steps = inputs(*SIZE, 6)
    plainly = [tensorrt_session.run([one])[0].copy() for one in steps]
    tensorrt_session.reset()
    made = []
    for index, one in enumerate(steps):
        tensorrt_session.begin([one])
        if index:
            made.append(tensorrt_session.end()[0].copy())
    made.append(tensorrt_session.end()[0].copy())
    np.testing.assert_array_equal(made, plainly)
    assert tensorrt_session.facts["launches"] == "CUDA graph"


def test_tensorrt_takes_pytorchs_tensors_where_they_lie(tensorrt_session: Any) -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA build of PyTorch")
    steps = inputs(*SIZE, 4)
    right = [tensorrt_session.run([one])[0].copy() for one in steps]
    tensorrt_session.reset()
    with torch.cuda.stream(torch.cuda.Stream()):
        there = torch.empty(1, 3, SIZE[1], SIZE[0], device="cuda")
        for one, wanted in zip(steps, right, strict=True):
            torch.cuda._sleep(20_000_000)  # the GPU is busy in that stream: what is written comes late
            there.copy_(torch.from_numpy(one))
            tensorrt_session.begin([there])
            there.fill_(float("nan"))
            np.testing.assert_array_equal(tensorrt_session.end()[0], wanted)


def test_tensorrt_starts_from_the_plan_that_it_kept(tensorrt_session: Any) -> None:
    said: list[str] = []
    module = importlib.import_module("engines.runtime.tensorrt")
    again = module.open(graph(*SIZE), "cuda", "fp32", 1, said.append)
    assert not any("building" in one for one in said)
    (one,) = inputs(*SIZE, 1)
    np.testing.assert_array_equal(again.run([one])[0], tensorrt_session.run([one])[0])
    again.close()


def test_memory_goes_round_through_the_gpu(machine: cuda.Gpu) -> None:
    context = Context()
    assert context.gpu == machine
    assert machine.compute_capability >= (5, 0)
    assert 0 < context.free_bytes() <= machine.memory_bytes
    stream, memory, second = Stream(context), DeviceMemory(context, 4000), DeviceMemory(context, 4000)
    there, back = PinnedArray((1000,), np.float32), PinnedArray((1000,), np.float32)
    assert (context.holds(memory.address), context.holds(there.address), context.pins(there.array)) == (
        True,
        False,
        True,
    )
    assert not context.pins(np.zeros(10, np.float32))

    def copies() -> None:
        stream.zero(second)
        stream.copy(second.address, memory.address, 2000)

    graph = CapturedGraph(context, stream, copies)
    for value in (1, 2):
        there.array.fill(value)
        stream.upload(memory.address, there.address, 4000)
        graph.launch(stream)
        stream.download(back.address, second.address, 4000)
        stream.synchronize()
        assert back.array.tolist() == [value] * 500 + [0] * 500
    for one in (graph, stream, memory, second, there, back, context):
        one.close()


def test_too_much_memory_is_refused_in_words(machine: cuda.Gpu) -> None:
    context = Context()
    with pytest.raises(RtpipeError, match=r"CUDA failed while taking .* MB on the GPU: out of memory"):
        DeviceMemory(context, 4 * machine.memory_bytes)
    context.close()
