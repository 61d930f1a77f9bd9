"""Deformable convolution: golden vectors, a slow plain version, and both of its ONNX forms."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from engines.runtime import deformable, exported, plan_build, tensorrt, tensorrt_library  # noqa: E402
from engines.runtime import onnxruntime as onnxruntime_runtime  # noqa: E402
from engines.runtime.deformable import DeformConv  # noqa: E402
from engines.runtime.graph import Graph, Native, Port  # noqa: E402
from engines.runtime.plan_build import Options  # noqa: E402
from engines.runtime.torch import Typed  # noqa: E402
from rtpipe.types import Array  # noqa: E402
from tests.engines.runtime.recurrent import quiet  # noqa: E402

torch.set_num_threads(1)

SIZE = (11, 9)
CHANNELS, MADE, GROUPS = 16, 12, 8


@pytest.fixture
def golden(shared: Callable[[str], Path]) -> Mapping[str, Array]:
    """As the published kernel computes it: offsets up to 50 pixels, whole ones and zeros among them."""
    with np.load(shared("networks/golden/dcn-a.npz")) as file:
        return dict(file)


def layer(golden: Mapping[str, Array]) -> DeformConv:
    made = DeformConv(CHANNELS, MADE, offset_groups=GROUPS).eval()
    made.load_state_dict({name: torch.from_numpy(golden[name]) for name in ("weight", "bias")})
    return made


def relative(found: Array, wanted: Array) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def test_it_is_the_published_one(golden: Mapping[str, Array]) -> None:
    given = [torch.from_numpy(golden[name]) for name in ("in_x", "in_offset", "in_mask")]
    with torch.inference_mode():
        assert relative(layer(golden)(*given).numpy(), golden["out_f64"]) < 1e-6
        double = layer(golden).double()(*(one.double() for one in given))
    assert relative(double.numpy(), golden["out_f64"]) < 1e-12


def plain(
    x: Array, offset: Array, mask: Array, weight: Array, bias: Array, stride: int, pad: int, dilation: int, groups: int
) -> Array:
    """Pixel by pixel, tap by tap, corner by corner."""
    channels, height, width = x.shape
    made, taken, kernel, _ = weight.shape
    offset_groups = mask.shape[0] // kernel**2
    out = np.zeros((made, *offset.shape[1:]))
    for o, row, column in np.ndindex(out.shape):
        total = float(bias[o])
        for i in range(taken):
            c = o // (made // groups) * taken + i
            group = c // (channels // offset_groups)
            for tap in range(kernel**2):
                at = group * kernel**2 + tap
                y = row * stride - pad + tap // kernel * dilation + offset[2 * at, row, column]
                z = column * stride - pad + tap % kernel * dilation + offset[2 * at + 1, row, column]
                top, left = int(np.floor(y)), int(np.floor(z))
                for corner_y, corner_x in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
                    if 0 <= corner_y < height and 0 <= corner_x < width:
                        share = (1 - abs(y - corner_y)) * (1 - abs(z - corner_x))
                        value = share * x[c, corner_y, corner_x]
                        total += value * mask[at, row, column] * weight[o, i, tap // kernel, tap % kernel]
        out[o, row, column] = total
    return out


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    side=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    kernel=st.sampled_from([1, 3]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    groups=st.sampled_from([1, 2]),
    offset_groups=st.sampled_from([1, 2, 4]),
    reach=st.sampled_from([0.0, 1.0, 9.0]),
)
def test_it_is_the_slow_plain_version_in_every_shape(
    seed: int,
    side: tuple[int, int],
    kernel: int,
    stride: int,
    dilation: int,
    groups: int,
    offset_groups: int,
    reach: float,
) -> None:
    random = np.random.default_rng(seed)
    pad = dilation * (kernel // 2)
    made = DeformConv(
        4, 2, kernel, stride=stride, padding=pad, dilation=dilation, groups=groups, offset_groups=offset_groups
    ).double()
    rows, columns = ((one + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1 for one in side)
    x = random.standard_normal((4, *side))
    offset = random.uniform(-reach, reach, (2 * offset_groups * kernel**2, rows, columns))
    offset[::3] = np.round(offset[::3])
    mask = random.uniform(0, 1, (offset_groups * kernel**2, rows, columns))
    with torch.inference_mode():
        found = made(*(torch.from_numpy(one)[None] for one in (x, offset, mask))).numpy()[0]
        weight, bias = made.weight.numpy(), made.bias.numpy()
    np.testing.assert_allclose(
        found, plain(x, offset, mask, weight, bias, stride, pad, dilation, groups), atol=1e-12, rtol=1e-9
    )


def test_without_offsets_and_mask_it_is_an_ordinary_convolution() -> None:
    made, x = DeformConv(4, 6, groups=2), torch.rand(2, 4, 7, 5)
    wanted = torch.nn.functional.conv2d(x, made.weight, made.bias, padding=1, groups=2)
    with torch.inference_mode():
        np.testing.assert_allclose(made(x, torch.zeros(2, 18, 7, 5)).numpy(), wanted.detach().numpy(), atol=1e-6)


def test_channels_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 to 4 channels in 1 groups, 4 of offsets"):
        DeformConv(6, 4, offset_groups=4)


def test_in_half_precision_far_columns_are_read_between_pixels() -> None:
    """A half-precision coordinate beyond 1024 would be rounded to whole pixels, beyond 2048 to every other one."""
    width = 3000
    ramp = torch.arange(width, dtype=torch.float32).remainder(2).expand(1, 1, 1, width).contiguous()
    made = DeformConv(1, 1, 1, padding=0, bias=False)
    made.weight.data.fill_(1)
    offset = torch.zeros(1, 2, 1, width)
    offset[:, 1] = 0.25
    with torch.inference_mode():
        found = made.half()(ramp.half(), offset.half()).float().numpy()[0, 0, 0, :-1]
    np.testing.assert_allclose(found, np.where(np.arange(width - 1) % 2, 0.75, 0.25), atol=1e-3)


class Aligned(torch.nn.Module):  # type: ignore[misc]
    """What a network does with it: offsets and mask come from a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.told = torch.nn.Conv2d(CHANNELS, 3 * GROUPS * 9, 3, padding=1)
        self.align = DeformConv(CHANNELS, MADE, offset_groups=GROUPS)

    def forward(self, x: Any) -> tuple[Any]:
        told = self.told(x) * 3
        return (self.align(x, told[:, : 2 * GROUPS * 9], torch.sigmoid(told[:, 2 * GROUPS * 9 :])),)


def aligned() -> Aligned:
    torch.manual_seed(4)
    return Aligned().eval()


def network(size: tuple[int, int] = SIZE) -> Graph:
    width, height = size
    return Graph(
        "aligned",
        (Port("x", (1, CHANNELS, height, width)),),
        (Port("y", (1, MADE, height, width)),),
        (),
        "seed 4",
        aligned,
        native=Native((deformable.OPERATOR,), deformable.OPSET, deformable.with_operator(aligned)),
    )


def operators(data: bytes) -> list[str]:
    return [node.op_type for node in onnx.load_from_string(data).graph.node]


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_both_onnx_forms_compute_what_the_module_computes(precision: str) -> None:
    """By ONNX Runtime, whose own implementation of the operator is an independent one."""
    import onnxruntime

    plain_form, native_form = (exported.onnx_of(network(), precision, quiet, native=native) for native in (False, True))
    assert operators(plain_form).count("GridSample") == 1
    assert "DeformConv" not in operators(plain_form)
    assert operators(native_form).count("DeformConv") == 1
    assert "GridSample" not in operators(native_form)
    x = np.random.default_rng(1).standard_normal((1, CHANNELS, SIZE[1], SIZE[0])).astype(np.float32)
    with torch.inference_mode():
        wanted = aligned()(torch.from_numpy(x))[0].numpy()
        typed = Typed(network(), precision)(torch.from_numpy(x))[0].numpy()
    near = {"fp32": 2e-6, "fp16": 2e-2}[precision]
    assert relative(typed, wanted) < near
    for data in (plain_form, native_form):
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        assert relative(session.run(None, {"x": x})[0], wanted) < near


@pytest.mark.parametrize(("bias", "masked"), [(False, True), (False, False)])
def test_the_operator_is_told_all_that_a_layer_is(bias: bool, masked: bool) -> None:
    """Strides, dilation and groups too; inputs that are left out in the middle."""
    import onnxruntime

    torch.manual_seed(5)
    made = DeformConv(4, 6, stride=2, padding=2, dilation=2, groups=2, offset_groups=2, bias=bias).eval()
    given = [torch.randn(1, 4, 9, 8), torch.randn(1, 36, 5, 4) * 2] + [torch.rand(1, 18, 5, 4)] * masked
    with torch.inference_mode():
        wanted = made(*given).numpy()
    made.operator = True
    with exported._quiet():
        program = torch.onnx.export(made, tuple(given), dynamo=True, opset_version=deformable.OPSET, verbose=False)
    data = program.model_proto.SerializeToString()
    assert "DeformConv" in operators(data)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    named = {port.name: one.numpy() for port, one in zip(session.get_inputs(), given, strict=True)}
    assert relative(session.run(None, named)[0], wanted) < 2e-6


def test_the_forms_are_kept_apart() -> None:
    assert exported.key(network(), "fp32") != exported.key(network(), "fp32", native=True)
    one_form = replace(network(), native=None)
    assert exported.key(one_form, "fp32") == exported.key(network(), "fp32")
    assert exported.key(one_form, "fp32", native=True) == exported.key(one_form, "fp32")


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_for_rtx_takes_the_plain_form_and_not_the_operator(precision: str) -> None:
    """As measured: its parser has GridSample, and DeformConv's plugin is not in it."""
    library = tensorrt_library.load("tensorrt_rtx")
    assert plan_build.knows(library, ["GridSample", "Conv"])
    assert not plan_build.knows(library, ["Conv", "DeformConv"])
    native = exported.onnx_of(network(), precision, quiet, native=True)
    assert not plan_build.takes(library, native, network())
    onnx = tensorrt._drawn(library, network(), precision, quiet)
    assert onnx == exported.onnx_of(network(), precision, quiet)
    plan = plan_build.build(library, onnx, network(), precision, quiet, Options())
    assert (plan.inspected.half, plan.inspected.single) == ((2, 0) if precision == "fp16" else (0, 2))


def test_a_library_that_has_the_operator_gets_it_and_one_that_only_says_so_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = tensorrt_library.load("tensorrt_rtx")
    native = exported.onnx_of(network(), "fp32", quiet, native=True)
    monkeypatch.setattr(plan_build, "knows", lambda *_: True)
    assert tensorrt._drawn(library, network(), "fp32", quiet) != native, "its parser does not take the file"
    monkeypatch.setattr(plan_build, "takes", lambda *_: True)
    assert tensorrt._drawn(library, network(), "fp32", quiet) == native


def test_other_runtimes_take_the_plain_form() -> None:
    x = np.random.default_rng(2).standard_normal((1, CHANNELS, SIZE[1], SIZE[0])).astype(np.float32)
    session = onnxruntime_runtime.open(network(), "cpu", "fp32", 1, quiet)
    with torch.inference_mode():
        wanted = aligned()(torch.from_numpy(x))[0].numpy()
    assert relative(session.run([x])[0], wanted) < 2e-6
