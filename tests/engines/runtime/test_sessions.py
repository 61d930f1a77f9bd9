"""Both runtimes compute what the module computes, step after step, and forget when they are told to."""

from types import ModuleType

import numpy as np
import pytest
import torch

from engines.runtime import onnxruntime as onnxruntime_runtime
from engines.runtime import torch as torch_runtime
from rtpipe.errors import WorldError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, inputs, network, quiet, stateless

SIZES = [(37, 26), (16, 8)]
RUNTIMES = [torch_runtime, onnxruntime_runtime]
runtimes = pytest.mark.parametrize("runtime", RUNTIMES, ids=lambda module: module.NAME)


def reference(steps: list[Array]) -> list[Array]:
    """The module called plainly, state by state."""
    module = network().eval()
    height, width = steps[0].shape[2:]
    state = [torch.zeros(1, 8, height, width)] * 2
    made = []
    with torch.no_grad():
        for one in steps:
            picture, *state = module(torch.from_numpy(one), *state)
            made.append(picture.numpy())
    return made


@runtimes
@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_those_of_the_module_over_several_steps(runtime: ModuleType, size: tuple[int, int]) -> None:
    steps = inputs(*size, 5)
    session = runtime.open(graph(*size), "cpu", "fp32", 1, quiet)
    made = [session.run([one])[0].copy() for one in steps]
    wanted = reference(steps)
    assert np.abs(wanted[4] - wanted[0]).max() > 0.05, "the state must matter for this test to mean anything"
    for got, one in zip(made, wanted, strict=True):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, one, atol=2e-5)


@runtimes
@pytest.mark.parametrize("after", [1, 2])
def test_a_reset_forgets_whichever_buffers_hold_the_state(runtime: ModuleType, after: int) -> None:
    steps = inputs(*SIZES[0], 3)
    session = runtime.open(graph(*SIZES[0]), "cpu", "fp32", 1, quiet)
    first = [session.run([one])[0].copy() for one in steps]
    session.reset()
    for one in steps[:after]:
        session.run([one])
    session.reset()
    again = [session.run([one])[0].copy() for one in steps]
    np.testing.assert_array_equal(first, again)


@runtimes
def test_a_network_without_state_takes_and_makes_several(runtime: ModuleType) -> None:
    session = runtime.open(stateless(), "cpu", "fp32", 1, quiet)
    a, b = (np.full((1, 2, 5, 7), value, np.float32) for value in (3, 1))
    for _ in range(2):
        total, difference = session.run([a, b])
        assert (total == 5).all()
        assert (difference == 2).all()
        a, b = (array.copy() for array in (a, b))


@runtimes
def test_half_precision_is_near_single_and_keeps_what_must_stay_wide(runtime: ModuleType) -> None:
    """On a CPU half precision is emulated: enough to see that the network survives it."""
    steps = inputs(*SIZES[0], 4)
    session = runtime.open(graph(*SIZES[0]), "cpu", "fp16", 1, quiet)
    for one, wanted in zip(steps, reference(steps), strict=True):
        got = session.run([one])[0]
        assert got.dtype == np.float32
        difference = np.abs(got - wanted).max()
        assert 0 < difference < 0.01


def test_what_is_kept_in_float32_sees_float32() -> None:
    typed = torch_runtime.Typed(graph(*SIZES[0]), "fp16")
    typed(torch.zeros(1, 3, 26, 37), *(torch.zeros(1, 8, 26, 37, dtype=torch.float16) for _ in range(2)))
    assert typed.inner.attention.dtypes == [torch.float32]
    assert typed.inner.attention.score.weight.dtype == torch.float32
    assert typed.inner.head.weight.dtype == torch.float16


@runtimes
def test_a_closed_session_says_so(runtime: ModuleType) -> None:
    session = runtime.open(stateless(), "cpu", "fp32", 1, quiet)
    session.close()
    session.close()
    with pytest.raises((WorldError, RuntimeError), match="closed"):
        session.run([np.zeros((1, 2, 5, 7), np.float32)] * 2)


def test_onnxruntime_refuses_inputs_that_its_buffers_do_not_fit() -> None:
    session = onnxruntime_runtime.open(stateless(), "cpu", "fp32", 1, quiet)
    right = np.zeros((1, 2, 5, 7), np.float32)
    for wrong in (right[:, :, :4], right.astype(np.float64), np.zeros((1, 2, 7, 5), np.float32).swapaxes(2, 3)):
        with pytest.raises(ValueError, match="b: float32"):
            session.run([right, wrong])


def test_pytorch_does_not_keep_the_callers_buffer_as_its_state() -> None:
    """A network whose next state is its input itself: windows are pooled, so the buffer is filled anew."""
    from engines.runtime.graph import Graph, Port

    class Delay(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, last: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x - last, x

    port = [Port(name, (1, 1, 2, 2)) for name in ("x", "change", "last")]
    session = torch_runtime.open(Graph("delay", (port[0],), (port[1],), (port[2],), "", Delay), "cpu", "fp32", 1, quiet)
    buffer = np.zeros((1, 1, 2, 2), np.float32)
    seen = []
    for value in (1, 5, 7):
        buffer.fill(value)
        seen.append(float(session.run([buffer])[0].max()))
    assert seen == [1, 4, 2]


@pytest.mark.slow
def test_torch_compile_computes_the_same() -> None:
    steps = inputs(*SIZES[1], 3)
    session = torch_runtime.open(graph(*SIZES[1]), "cpu", "fp32", 1, quiet, compiled=True)
    for one, wanted in zip(steps, reference(steps), strict=True):
        np.testing.assert_allclose(session.run([one])[0], wanted, atol=2e-5)
