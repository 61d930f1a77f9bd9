"""Steps one after the other: the same outputs as single steps, whether or not the runtime overlaps them."""

import numpy as np
import pytest

from engines import firenet
from rtpipe.errors import WorldError
from rtpipe.weights.made_up import weights_for
from tests.check import fake_runtime

pytest.importorskip("torch")
SIZE = (24, 16)


@pytest.fixture
def network(monkeypatch, tmp_path):
    """``network(**fault)``: FireNet with made-up weights by the TensorRT that :mod:`fake_runtime` plays."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))

    def make(**fault):
        fake_runtime.install(monkeypatch, **fault)
        with weights_for("firenet", firenet, made_up=True) as stored:
            engine = firenet.Engine(firenet.Settings(weights=str(stored.path), runtime="tensorrt", precision="fp32"))
            engine.warm(SIZE)
        return engine.network

    return make


def inputs(n):
    numbers = np.random.default_rng(1)
    return [(numbers.standard_normal((1, 5, SIZE[1], SIZE[0]), np.float32),) for _ in range(n)]


@pytest.mark.parametrize("overlaps", [False, True])
@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_a_stream_of_steps_is_the_steps(network, overlaps, n):
    made = network(overlaps=overlaps)
    assert made.overlaps == overlaps
    alone = [[np.array(one) for one in made.step(*step)] for step in inputs(n)]
    made.reset()
    together = [[np.array(one) for one in step] for step in made.stream(inputs(n))]
    assert len(together) == n
    for single, streamed in zip(alone, together, strict=True):
        for one, other in zip(single, streamed, strict=True):
            np.testing.assert_array_equal(one, other)


def test_a_failing_device_is_said_in_words(network):
    def breaks(step, outputs):
        if step == 3:
            raise RuntimeError("an illegal memory access was encountered")
        return outputs

    made = network(overlaps=True, spoil=breaks)
    with pytest.raises(WorldError, match=r"firenet: TensorRT .* failed: an illegal memory access"):
        list(made.stream(inputs(5)))
