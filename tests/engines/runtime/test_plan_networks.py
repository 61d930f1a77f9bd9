"""Every network, in both precisions, at the sizes of the cameras that configs/ are for, is parsed, inspected and built
by a real TensorRT that needs no GPU to do so.

``configs/`` name no sizes, a recording or a camera brings its own: DAVIS346, VGA and 720p event cameras, and for
deblurring HighREV's pictures.
"""

import pytest

from engines.runtime import plan_build, tensorrt_library
from engines.runtime.exported import onnx_of
from engines.runtime.plan_build import Options, Plan
from tests.engines.runtime.networks import NETWORKS, Shared
from tests.engines.runtime.recurrent import quiet

CAMERAS = [(346, 260), (640, 480), (1280, 720)]
HIGHREV = (1632, 1224)

HEAVY = {
    "efnet": (84, 6),
    "efnet-nomask": (82, 6),
    "nernet": (41, 12),
    "e2vid-bn": (15, 0),
    "e2vid-up": (15, 0),
    "firenet": (12, 0),
    "hypere2vid": (19, 0),
    "pienet-full": (24, 1),
    "pienet-lite": (19, 1),
}
"""Convolutions and matrix products of each network: those in half precision, and those that stay in single."""

ALIKE = ("efnet-nomask", "e2vid-up")
"""Networks that differ little from another one: in the long tests only."""


def built(shared: Shared, name: str, size: tuple[int, int], precision: str) -> Plan:
    library = tensorrt_library.load("tensorrt_rtx")
    network = NETWORKS[name](shared, size)
    onnx = onnx_of(network, precision, quiet)
    return plan_build.build(library, onnx, network, precision, quiet, Options())


def check_half(name: str, plan: Plan) -> None:
    half, single = HEAVY[name]
    assert (plan.inspected.half, plan.inspected.single) == (half, single)
    assert len(plan.inspected.kept_single) == single
    assert plan.data


def test_no_network_is_left_out() -> None:
    assert set(HEAVY) == set(NETWORKS)


@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ALIKE])
def test_every_network_is_built_in_half_precision_at_an_odd_size(shared: Shared, name: str) -> None:
    check_half(name, built(shared, name, (75, 50), "fp16"))


@pytest.mark.slow
@pytest.mark.parametrize("size", CAMERAS, ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_is_built_in_both_precisions_at_the_sizes_of_cameras(
    shared: Shared, name: str, size: tuple[int, int]
) -> None:
    check_both(shared, name, size)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["efnet", "efnet-nomask"])
def test_deblurring_is_built_at_the_size_of_highrev(shared: Shared, name: str) -> None:
    check_both(shared, name, HIGHREV)


def check_both(shared: Shared, name: str, size: tuple[int, int]) -> None:
    half = built(shared, name, size, "fp16")
    check_half(name, half)
    single = built(shared, name, size, "fp32")
    assert (single.inspected.half, single.inspected.single) == (0, sum(HEAVY[name]))
    if len(single.data) > 30 << 20:  # where weights are most of it
        assert len(half.data) < 0.75 * len(single.data)
