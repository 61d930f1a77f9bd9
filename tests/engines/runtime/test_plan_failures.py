"""A GPU that fails, at any call: said in words, never a hang, and all that was taken is given back."""

from collections.abc import Callable
from itertools import count

import numpy as np
import pytest

from engines.runtime.cuda import CudaError
from engines.runtime.plan_session import Executing
from rtpipe.errors import WorldError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, inputs, stateless
from tests.engines.runtime.standin import tensorrt
from tests.engines.runtime.standin.gpu import LAUNCH_FAILED, OUT_OF_MEMORY, Gpu
from tests.engines.runtime.standin.sessions import engine_of, opened, wanted

GIVES_BACK = ("Destroy", "Free", "Release", "Pop")
"""Where one of these is made to fail, or the turning to the context before it, what it was to give back stays until the
context ends."""

ONE = np.ones((1, 2, 5, 7), np.float32)


def whole_life(engine: tensorrt.ICudaEngine) -> list[Array]:
    """Everything a session does, closed at the end as an engine's owner closes it."""
    session = Executing(tensorrt, engine, stateless(), "fp32")
    try:
        made = [session.run([ONE, ONE])[0].copy()]
        session.begin([ONE, ONE])
        session.begin(session.staging())
        made.append(session.end()[0].copy())
        session.reset()
        session.end()
        return made
    finally:
        session.close()
        session.close()


def attempt(do: Callable[[], list[Array]]) -> list[Array] | CudaError | WorldError:
    try:
        return do()
    except WorldError as error:
        return error


@pytest.mark.parametrize(
    ("code", "for_good"),
    [(OUT_OF_MEMORY, False), (LAUNCH_FAILED, True)],
    ids=["one call runs out of memory", "the GPU fails for good"],
)
def test_any_call_may_fail(gpu: Gpu, code: int, for_good: bool) -> None:
    engine = engine_of(stateless())
    whole_life(engine)
    survived, told = 0, 0
    for nth in count():
        gpu.fail(nth, code, for_good)
        outcome = attempt(lambda: whole_life(engine))
        failed_in = gpu.failed_in
        if not failed_in:
            break
        if isinstance(outcome, WorldError):
            told += 1
            assert 10 < len(str(outcome)) < 500
            assert "\n" not in str(outcome)
        else:
            survived += 1
            assert [(one == 3).all() for one in outcome] == [True, True], failed_in
        giving_back = any(word in failed_in for word in GIVES_BACK)
        giving_back |= "Push" in failed_in and not isinstance(outcome, WorldError)
        del outcome  # its traceback holds the session's arrays
        gpu.fail(-1)
        if giving_back:
            settle(gpu)
        assert gpu.live == {}, failed_in
    gpu.fail(-1)
    assert nth > 150
    assert told > 60
    assert survived > 20
    assert gpu.races == ""
    assert len(whole_life(engine)) == 2, "the next session works"


def settle(gpu: Gpu) -> None:
    """End what a failed release left behind, and forget that it was there."""
    for _ in range(gpu.live.get("contexts", 0)):
        gpu.library.cuDevicePrimaryCtxRelease_v2(0)
    gpu.library.standin_settle()


def test_what_fails_on_the_way_is_told_at_the_end_of_the_step_and_the_session_stays_closed(gpu: Gpu) -> None:
    steps = [[one] for one in inputs(37, 26, 3)]
    session = opened(graph(37, 26))
    gpu.library.standin_delay(2000)
    session.begin(steps[0])
    gpu.library.standin_break(700)
    with pytest.raises(
        CudaError, match="CUDA failed while computing: an illegal memory access was encountered"
    ) as told:
        session.end()
    assert told.value.code == 700
    for call in (lambda: session.run(steps[1]), session.reset, session.end):
        with pytest.raises(WorldError, match="the session has failed and must be closed: CUDA failed while computing"):
            call()
    session.close()
    assert gpu.live == {}
    again = opened(graph(37, 26))
    np.testing.assert_array_equal(again.run(steps[0])[0], wanted(graph(37, 26), steps[:1])[0][0])
    again.close()


@pytest.mark.parametrize("method", ["set_tensor_address", "execute_async_v3"])
def test_an_engine_that_refuses_is_told_and_all_is_given_back(
    gpu: Gpu, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    engine = engine_of(stateless())
    monkeypatch.setattr(tensorrt.IExecutionContext, method, lambda *_: False)
    with pytest.raises(WorldError, match=r"two: TensorRT (refused the address of a|could not start the network)"):
        Executing(tensorrt, engine, stateless(), "fp32")
    assert gpu.live == {}


def test_an_interrupt_in_the_middle_of_a_step_leaves_no_half_step(gpu: Gpu, monkeypatch: pytest.MonkeyPatch) -> None:
    from engines.runtime.cuda import Stream

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    session = opened(stateless())
    with monkeypatch.context() as patched:
        patched.setattr(Stream, "download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            session.run([ONE, ONE])
    with pytest.raises(WorldError, match="must be closed: KeyboardInterrupt"):
        session.run([ONE, ONE])
    session.close()
    assert gpu.live == {}
