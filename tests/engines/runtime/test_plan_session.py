"""The session over a plan computes what ONNX Runtime computes, bit by bit, whatever order a GPU does things in.

The GPU is ``standin/gpu.c``, the engine ``standin/tensorrt.py``: nothing here has seen a real one.
"""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import pytest

from engines.runtime.cuda import OutOfMemory, Stream
from engines.runtime.graph import Port
from engines.runtime.plan_session import Executing
from rtpipe.errors import WorldError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, inputs, stateless
from tests.engines.runtime.standin import tensorrt
from tests.engines.runtime.standin.gpu import Gpu
from tests.engines.runtime.standin.sessions import engine_of, opened, wanted

SIZE = (37, 26)
STEPS = 12


@pytest.fixture(params=["captured", "plain"])
def launches(request: pytest.FixtureRequest, gpu: Gpu) -> str:
    gpu.library.standin_refuse_capture(request.param == "plain")
    return str(request.param)


def stepwise(session: Executing, steps: Sequence[Sequence[Array]]) -> list[list[Array]]:
    return [[one.copy() for one in session.run(step)] for step in steps]


def overlapped(session: Executing, steps: Sequence[Sequence[Array]]) -> list[list[Array]]:
    """Each step begins before the one before it has ended; inputs are spoiled as soon as it has begun."""
    made = []
    for index, step in enumerate(steps):
        taken = [one.copy() for one in step]
        session.begin(taken)
        for one in taken:
            one.fill(np.nan)
        if index:
            made.append([one.copy() for one in session.end()])
    made.append([one.copy() for one in session.end()])
    return made


def assert_same(made: Sequence[Sequence[Array]], right: Sequence[Sequence[Array]]) -> None:
    assert len(made) == len(right)
    for step, one in zip(made, right, strict=True):
        for got, value in zip(step, one, strict=True):
            assert got.dtype == np.float32
            np.testing.assert_array_equal(got, value)


def recurrent_steps(n: int = STEPS) -> list[list[Array]]:
    return [[one] for one in inputs(*SIZE, n)]


@pytest.mark.parametrize("way", [stepwise, overlapped])
@pytest.mark.parametrize(("size", "precision"), [(SIZE, "fp32"), (SIZE, "fp16"), ((16, 8), "fp32")])
def test_it_computes_what_onnx_runtime_computes(
    gpu: Gpu, launches: str, way: object, size: tuple[int, int], precision: str
) -> None:
    assert callable(way)
    network, steps = graph(*size), [[one] for one in inputs(*size, STEPS)]
    right = wanted(network, steps, precision)
    assert np.abs(right[4][0] - right[0][0]).max() > 0.05, "the state must matter for this test to mean anything"
    session = opened(network, precision)
    assert session.facts["launches"].startswith("CUDA graph" if launches == "captured" else "plain (CUDA failed")
    for delay in (0, 1500):
        gpu.library.standin_delay(delay)
        assert_same(way(session, steps), right)
        session.reset()
    session.close()
    assert gpu.live == {}


def test_a_reset_counts_for_the_steps_that_begin_after_it(gpu: Gpu, launches: str) -> None:
    network, steps = graph(*SIZE), recurrent_steps(7)
    gpu.library.standin_delay(1000)
    session, made = opened(network), []
    for index, step in enumerate(steps):
        if index in (3, 5, 6):
            session.reset()  # while the step before is under way
        session.begin(step)
        if index:
            made.append([session.end()[0].copy()])
    made.append([session.end()[0].copy()])
    assert_same(made, wanted(network, steps, resets=(3, 5, 6)))
    session.close()


def test_a_network_without_state_takes_and_makes_several(gpu: Gpu, launches: str) -> None:
    random = np.random.default_rng(1)
    steps = [[random.random((1, 2, 5, 7), np.float32) for _ in "ab"] for _ in range(5)]
    session = opened(stateless())
    assert_same(stepwise(session, steps), [[a + 2 * b, a - b] for a, b in steps])
    assert_same(overlapped(session, steps), [[a + 2 * b, a - b] for a, b in steps])
    session.reset()
    session.close()


def test_nothing_waits_but_the_end(gpu: Gpu) -> None:
    session = opened(graph(*SIZE))
    gpu.fail(-1)
    (step,) = recurrent_steps(1)
    session.begin(step)
    session.reset()
    session.begin(step)
    assert [name for name in gpu.calls if "Synchronize" in name] == []
    assert {"cuGraphLaunch", "cuMemcpyHtoDAsync_v2", "cuStreamWaitEvent"} <= set(gpu.calls)
    gpu.fail(-1)
    session.end()
    assert gpu.calls == ["cuCtxPushCurrent_v2", "cuEventSynchronize", "cuCtxPopCurrent_v2"]
    session.end()
    session.close()


def test_outputs_are_valid_until_the_step_after_the_next_and_outlive_the_session(gpu: Gpu) -> None:
    network, steps = graph(*SIZE), recurrent_steps(3)
    right = wanted(network, steps)
    session = opened(network)
    first = session.run(steps[0])[0]
    second = session.run(steps[1])[0]
    np.testing.assert_array_equal(first, right[0][0])
    session.run(steps[2])
    assert not np.array_equal(first, right[0][0]), "two slots: the third step writes where the first did"
    session.close()
    del session
    assert gpu.live == {"host bytes": first.nbytes + second.nbytes, "contexts": 2}
    np.testing.assert_array_equal(second, right[1][0])
    del first, second
    assert gpu.live == {}


def test_the_thread_that_calls_may_change(gpu: Gpu) -> None:
    network, steps = graph(*SIZE), recurrent_steps(4)
    session, made = opened(network), []

    def two() -> None:
        made.extend(stepwise(session, steps[len(made) : len(made) + 2]))

    for _ in range(2):
        thread = threading.Thread(target=two)
        thread.start()
        thread.join()
    assert_same(made, wanted(network, steps))
    closing = threading.Thread(target=session.close)
    closing.start()
    closing.join()
    assert gpu.live == {}


def test_several_sessions_run_beside_each_other(gpu: Gpu) -> None:
    network, steps = graph(*SIZE), recurrent_steps()
    gpu.library.standin_delay(300)
    sessions = [opened(network) for _ in range(3)]
    made: dict[int, list[list[Array]]] = {}
    threads = [
        threading.Thread(target=lambda i=i, one=one: made.update({i: overlapped(one, steps)}))  # type: ignore[misc]
        for i, one in enumerate(sessions)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for index, session in enumerate(sessions):
        assert_same(made[index], wanted(network, steps))
        session.close()
    assert gpu.live == {}


@pytest.fixture
def expected_races(gpu: Gpu) -> Iterator[Gpu]:
    """For tests that break the session on purpose."""
    yield gpu
    gpu.library.standin_forget()


@pytest.mark.parametrize("removed", [0, 1], ids=["computing waits for the upload", "the download waits for computing"])
def test_a_wait_that_is_missing_is_found(expected_races: Gpu, monkeypatch: pytest.MonkeyPatch, removed: int) -> None:
    """Each wait of a step in turn, left out: the stand-in sees the race, whether or not it shows in the pictures."""
    session = opened(graph(*SIZE))
    wait, count = Stream.wait, iter(range(100))

    def forgetful(self: Stream, event: object) -> None:
        if next(count) % 2 != removed:
            wait(self, event)  # type: ignore[arg-type]

    monkeypatch.setattr(Stream, "wait", forgetful)
    for step in recurrent_steps(2):
        session.run(step)
    assert "beside stream" in expected_races.races
    session.close()


def test_a_race_shows_in_the_pictures_too(expected_races: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the delays are for: without any wait the pictures are wrong."""
    network, steps = graph(*SIZE), recurrent_steps()
    session = opened(network)
    monkeypatch.setattr(Stream, "wait", lambda *_: None)
    expected_races.library.standin_delay(2000)
    made = overlapped(session, steps)
    with pytest.raises(AssertionError):
        assert_same(made, wanted(network, steps))
    session.close()


def test_steps_in_the_wrong_order_are_refused_and_harm_nothing(gpu: Gpu) -> None:
    network, steps = graph(*SIZE), recurrent_steps(3)
    session, right = opened(network), wanted(graph(*SIZE), recurrent_steps(3))
    with pytest.raises(RuntimeError, match="no step is under way"):
        session.end()
    session.begin(steps[0])
    with pytest.raises(RuntimeError, match="end them first"):
        session.run(steps[1])
    session.begin(steps[1])
    with pytest.raises(RuntimeError, match="two steps are under way"):
        session.begin(steps[2])
    assert_same([[session.end()[0].copy()] for _ in range(2)], right[:2])
    assert_same([session.run(steps[2])], right[2:])
    session.begin(steps[0])
    session.close()  # with a step under way
    session.close()
    for call in (lambda: session.run(steps[0]), session.end, session.reset, session.staging):
        with pytest.raises(WorldError, match="the session is closed"):
            call()


def test_inputs_that_do_not_fit_are_refused_and_nothing_has_begun(gpu: Gpu) -> None:
    session = opened(stateless())
    right = np.ones((1, 2, 5, 7), np.float32)
    for wrong in (right[:, :, :4], right.astype(np.float64), np.zeros((1, 2, 7, 5), np.float32).swapaxes(2, 3), "x"):
        with pytest.raises(ValueError, match="b: float32"):
            session.run([right, wrong])
    with pytest.raises(ValueError, match="2 inputs wanted, got 1"):
        session.run([right])
    assert (session.run([right, right])[0] == 3).all()
    session.close()


def test_an_engine_that_is_not_this_network_is_refused(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    network = graph(*SIZE)
    port, other = network.inputs[0], Port("other", network.inputs[0].shape)
    wrong = {
        r"the engine has events, h, c, .*, the network other": replace(network, inputs=(other,)),
        r"the engine's events is .*26, 37.*, the network's .*26, 36": replace(
            network, inputs=(Port(port.name, (1, 3, 26, 36)),)
        ),
    }
    for said, asked in wrong.items():
        with pytest.raises(WorldError, match=said):
            Executing(tensorrt, engine_of(network), asked, "fp32")
    with pytest.raises(WorldError, match=r"the engine's h is .*FLOAT.*, the network's .*HALF"):
        Executing(tensorrt, engine_of(network), network, "fp16")
    monkeypatch.setattr(tensorrt.ICudaEngine, "get_tensor_format", lambda *_: tensorrt.TensorFormat.CHW16)
    with pytest.raises(WorldError, match="another layout than rows of pixels"):
        opened(network)
    monkeypatch.setattr(tensorrt.ICudaEngine, "get_tensor_location", lambda *_: tensorrt.TensorLocation.HOST)
    with pytest.raises(WorldError, match="in the host's memory"):
        opened(network)
    assert gpu.live == {}


def test_an_engine_that_waits_while_it_runs_is_not_captured_and_the_reason_is_told(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt, "synchronizes", True)
    network, steps = graph(*SIZE), recurrent_steps(4)
    session = opened(network)
    assert session.facts["launches"] == "plain (recurrent: TensorRT could not start the network; its messages say why)"
    assert_same(stepwise(session, steps), wanted(network, steps))
    session.close()


def test_a_library_that_says_it_cannot_be_captured_is_believed(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt.IExecutionContext, "is_stream_capturable", lambda *_: False, raising=False)
    session = opened(stateless())
    assert session.facts["launches"] == "plain (the library cannot be captured with this network)"
    assert "cuStreamBeginCapture_v2" not in gpu.calls
    session.close()


def test_the_facts_say_how_much_memory(gpu: Gpu) -> None:
    network = graph(160, 120)
    pixels = 160 * 120 * 4
    for precision, state in (("fp32", 16), ("fp16", 8)):
        session = opened(network, precision)
        assert session.facts["MB of buffers"] == f"{(2 * (3 + 1 + state) * pixels + tensorrt.SCRATCH) / 1e6:.0f}"
        assert session.facts["gpu"] == "GPU of threads 0"
        session.close()


def test_too_little_memory_is_told_and_what_was_taken_is_given_back(gpu: Gpu) -> None:
    gpu.library.standin_memory(100_000)
    with pytest.raises(OutOfMemory, match=r"CUDA failed while taking 0\.0 MB on the GPU: out of memory \(cuMemAlloc"):
        opened(graph(*SIZE))
    assert gpu.live == {}
    gpu.library.standin_memory(158_016 - 1)  # enough for all but the library's own
    with pytest.raises(WorldError, match="recurrent: TensorRT could not load the network onto the GPU, which has 0 MB"):
        opened(graph(*SIZE))
    assert gpu.live == {}
