"""Real networks through the session over a plan: what ONNX Runtime computes, bit by bit, step after step.

On the stand-ins of ``standin/``: it is the session that is tested, not TensorRT.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from engines.runtime.graph import Graph
from rtpipe.types import Array
from tests.engines.runtime.networks import NETWORKS
from tests.engines.runtime.standin.gpu import Gpu
from tests.engines.runtime.standin.sessions import opened, wanted

STEPS = 4
FAST = ("pienet-lite",)
"""Those that need no export."""
CASES = [
    pytest.param(name, precision, marks=() if name in FAST else pytest.mark.slow)
    for name in NETWORKS
    for precision in ("fp32", "fp16")
]


def windows(graph: Graph) -> list[list[Array]]:
    random = np.random.default_rng(7)
    return [[random.random(port.shape, np.float32) - 0.3 for port in graph.inputs] for _ in range(STEPS)]


@pytest.mark.parametrize(("name", "precision"), CASES)
def test_golden_networks_give_the_same_pictures_overlapped_delayed_and_reset(
    gpu: Gpu, shared: Callable[[str], Path], name: str, precision: str
) -> None:
    graph = NETWORKS[name](shared, (45, 37))
    steps = windows(graph)
    right = wanted(graph, steps, precision, resets=(3,))
    assert all(np.isfinite(one).all() for step in right for one in step)
    gpu.library.standin_delay(500)
    session, made = opened(graph, precision), []
    assert session.facts["launches"] == "CUDA graph"
    for index, step in enumerate(steps):
        if index == 3:
            session.reset()
        session.begin(step)
        if index:
            made.append([one.copy() for one in session.end()])
    made.append([one.copy() for one in session.end()])
    for got, one in zip(made, right, strict=True):
        for each, value in zip(got, one, strict=True):
            np.testing.assert_array_equal(each, value)
    session.close()
    assert gpu.live == {}
