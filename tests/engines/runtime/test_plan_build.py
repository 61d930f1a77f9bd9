"""Building with the real library that needs no GPU: what it makes of a network, what is refused, what is told."""

import logging
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from engines.runtime import plan_build, plan_progress, tensorrt_library
from engines.runtime.exported import onnx_of
from engines.runtime.graph import Graph, Port
from engines.runtime.plan_build import MIB, Options, TooLittleMemory
from engines.runtime.plan_progress import Fraction
from engines.runtime.tensorrt_library import Loaded
from rtpipe.errors import WorldError
from tests.engines.runtime.recurrent import graph, quiet, stateless

SIZE = (37, 26)
PRECISIONS = ("fp32", "fp16")


@pytest.fixture(scope="module")
def rtx() -> Loaded:
    """It comes from the package index, for the tests alone."""
    return tensorrt_library.load("tensorrt_rtx")


def exported(precision: str, network: Graph | None = None) -> bytes:
    return onnx_of(network or graph(*SIZE), precision, quiet)


def convolution() -> Graph:
    """No state gives its precision away."""

    def make() -> Any:
        import torch

        return torch.nn.Sequential(torch.nn.Conv2d(2, 2, 3, padding=1), Tuple())

    import torch

    class Tuple(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: Any) -> tuple[Any]:
            return (x,)

    return Graph("one", (Port("x", (1, 2, 8, 8)),), (Port("y", (1, 2, 8, 8)),), (), "w", make)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_recurrent_network_is_built_in_the_precision_that_was_asked_for(rtx: Loaded, precision: str) -> None:
    plan = plan_build.build(rtx, exported(precision), graph(*SIZE), precision, quiet, Options())
    assert len(plan.data) > 10_000
    assert plan.inspected.layers > 20
    if precision == "fp32":
        assert (plan.inspected.half, plan.inspected.single) == (0, 6)
        assert plan.inspected.kept_single == ()
    else:
        assert (plan.inspected.half, plan.inspected.single) == (5, 1)
        (kept,) = plan.inspected.kept_single
        assert kept.startswith("attention.score/")


def test_a_network_without_state_or_convolutions_is_built(rtx: Loaded) -> None:
    assert plan_build.build(rtx, exported("fp16", stateless()), stateless(), "fp16", quiet, Options()).data


def test_single_precision_that_passes_for_half_is_found_before_it_is_built(rtx: Loaded) -> None:
    """What a runtime that falls back in silence would do."""
    with pytest.raises(WorldError, match=r"recurrent: input h is FLOAT 1x8x26x37, announced as HALF 1x8x26x37"):
        plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp16", quiet, Options())
    with pytest.raises(WorldError, match=r"asked for in fp16, but 1 of its 1 convolutions .* are not: 0/\S+ \(FLOAT\)"):
        plan_build.build(rtx, exported("fp32", convolution()), convolution(), "fp16", quiet, Options())
    with pytest.raises(WorldError, match=r"asked for in fp32, but 1 of its 1 .* \(HALF\)"):
        plan_build.build(rtx, exported("fp16", convolution()), convolution(), "fp32", quiet, Options())


def test_a_single_convolution_that_stayed_in_float32_is_named(rtx: Loaded) -> None:
    forgotten = replace(graph(*SIZE), keep_float32=())
    with pytest.raises(WorldError, match=r"but 1 of its 6 .* are not: attention\.score/\S+ \(FLOAT\)$"):
        plan_build.build(rtx, exported("fp16"), forgotten, "fp16", quiet, Options())
    longer = replace(graph(*SIZE), keep_float32=("attention.sco", "att"))
    with pytest.raises(WorldError, match="but 1 of its 6"):
        plan_build.build(rtx, exported("fp16"), longer, "fp16", quiet, Options())


def test_another_size_or_other_ports_are_refused_by_name(rtx: Loaded) -> None:
    data = exported("fp32")
    with pytest.raises(WorldError, match="input events is FLOAT 1x3x26x37, announced as FLOAT 1x3x26x38"):
        plan_build.build(rtx, data, graph(38, 26), "fp32", quiet, Options())
    without = replace(graph(*SIZE), outputs=())
    with pytest.raises(WorldError, match="output picture is FLOAT 1x1x26x37, announced as nothing"):
        plan_build.build(rtx, data, without, "fp32", quiet, Options())
    more = replace(graph(*SIZE), states=(*graph(*SIZE).states, Port("m", (1, 1))))
    with pytest.raises(WorldError, match="input m is nothing, announced as FLOAT 1x1"):
        plan_build.build(rtx, data, more, "fp32", quiet, Options())


def model(*nodes: Any, opset: int = 19) -> bytes:
    port = helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 8, 8))
    made = helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 2, 8, 8))
    weight = numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32), "weight")
    offset = numpy_helper.from_array(np.zeros((1, 2, 8, 8), np.float32), "offset")
    drawn = helper.make_graph(nodes, "g", [port], [made], [weight, offset])
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid("mine", 1)]
    return onnx.helper.make_model(drawn, opset_imports=opsets, ir_version=9).SerializeToString()


UNKNOWN = (("Wonder", "x", "z"), ("Wander", "z", "y"))

PLAIN = Graph("plain", (Port("x", (1, 2, 8, 8)),), (Port("y", (1, 2, 8, 8)),), (), "w")


def test_an_operator_that_is_not_supported_is_named_with_its_node(rtx: Loaded) -> None:
    deform = helper.make_node("DeformConv", ["x", "weight", "offset"], ["y"], "align.0/DeformConv_7")
    with pytest.raises(
        WorldError, match=r"cannot take plain: it does not know the operator DeformConv \(node align.0/DeformConv_7\)$"
    ) as told:
        plan_build.build(rtx, model(deform), PLAIN, "fp32", quiet, Options())
    assert len(str(told.value)) < 500
    assert "\n" not in str(told.value)
    assert "TensorRT for RTX 1." in str(told.value)


def test_several_unsupported_operators_are_all_named(rtx: Loaded) -> None:
    nodes = [helper.make_node(name, [x], [y], name.lower(), domain="mine") for name, x, y in UNKNOWN]
    with pytest.raises(WorldError, match=r"the operators Wonder \(node wonder\), Wander \(node wander\)$"):
        plan_build.build(rtx, model(*nodes), PLAIN, "fp32", quiet, Options())


def test_an_operator_used_wrongly_is_named_with_what_is_wrong(rtx: Loaded) -> None:
    wrong = helper.make_node("MatMul", ["x", "weight"], ["y"], "head/MatMul_1")
    with pytest.raises(WorldError, match=r"cannot take plain: MatMul \(node head/MatMul_1\): \S+"):
        plan_build.build(rtx, model(wrong), PLAIN, "fp32", quiet, Options())


@pytest.mark.parametrize("data", [b"", b"not ONNX", b"\x00" * 1000])
def test_what_is_no_onnx_file_is_refused_in_one_line(rtx: Loaded, data: bytes) -> None:
    with pytest.raises(WorldError, match=r"(cannot take plain|input x is nothing)") as told:
        plan_build.build(rtx, data, PLAIN, "fp32", quiet, Options())
    assert "\n" not in str(told.value)


def test_a_cut_onnx_file_is_refused(rtx: Loaded) -> None:
    data = exported("fp32")
    with pytest.raises(WorldError):
        plan_build.build(rtx, data[: len(data) // 2], graph(*SIZE), "fp32", quiet, Options())


def test_progress_rises_and_is_told_in_words(rtx: Loaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan_progress, "SAY_EVERY_S", 0.0)
    told: list[str] = []
    plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp32", told.append, Options())
    percents = [int(line.split("recurrent, ")[1].split(" %")[0]) for line in told]
    assert len(percents) > 10
    assert percents == sorted(percents)
    assert percents[0] < 20
    assert 60 < percents[-1] <= 100
    assert told[0].startswith("TensorRT for RTX: building recurrent, ")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError("no more")])
def test_a_build_can_be_ended_from_where_progress_is_told(
    rtx: Loaded, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    """Ctrl-C reaches Python in there; it must not pass through the library."""
    monkeypatch.setattr(plan_progress, "SAY_EVERY_S", 0.0)
    calls: list[str] = []

    def progress(said: str) -> None:
        calls.append(said)
        raise error

    with pytest.raises(type(error)):
        plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp32", progress, Options())
    assert len(calls) < 10, "it goes on for long"
    assert plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp32", quiet, Options()).data


@given(
    st.lists(
        st.tuples(st.sampled_from(["start", "step", "finish"]), st.integers(0, 5), st.integers(-1, 6)), max_size=60
    )
)
def test_a_fraction_never_falls_and_never_passes_one_whatever_the_library_tells(
    events: list[tuple[str, int, int]],
) -> None:
    fraction, last = Fraction(), 0.0
    for kind, name, other in events:
        if kind == "start":
            fraction.start(str(name), str(other) if other >= 0 else None, other)
        else:
            getattr(fraction, kind)(str(name))
        assert last <= fraction.now() <= 1
        last = fraction.now()


def test_a_fraction_is_of_steps_within_steps() -> None:
    fraction = Fraction()
    fraction.start("all", None, 4)
    fraction.step("all")
    fraction.start("part", "all", 2)
    fraction.step("part")
    assert fraction.now() == pytest.approx(0.25 + 0.125)
    fraction.finish("part")
    fraction.step("all")
    assert fraction.now() == pytest.approx(0.5)


class Configured:
    """The real module, but for a builder that notes how it was configured and then fails as it is told to."""

    def __init__(self, loaded: Loaded, says: str | None = None) -> None:
        self._module, self.says = loaded.module, says
        self.config: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)

    def Builder(self, log: Any) -> Any:
        outer, real = self, self._module.Builder(log)

        class Wrapped:
            def __getattr__(self, name: str) -> Any:
                return getattr(real, name)

            def build_serialized_network(self, network: Any, config: Any) -> Any:
                outer.config = config
                if outer.says is None:
                    return real.build_serialized_network(network, config)
                log.log(outer._module.ILogger.Severity.ERROR, outer.says)
                return None

        return Wrapped()


def wrapped(rtx: Loaded, says: str | None = None, **row: Any) -> Loaded:
    return Loaded(Configured(rtx, says), replace(rtx.row, **row), rtx.version)


@pytest.mark.parametrize(
    ("says", "kind", "told"),
    [
        (
            "[virtualMemoryBuffer.cpp::resizePhysical::145] Error Code 2: OutOfMemory (no further information)",
            TooLittleMemory,
            r"ran out of GPU memory while building recurrent \(a workspace of 512 MiB\)$",
        ),
        (
            "[defaultAllocator.cpp::allocate::19] Error Code 1: Cuda Runtime (out of memory)",
            TooLittleMemory,
            "ran out of GPU memory",
        ),
        (
            "Error Code 10: Internal Error (Could not find any implementation for node {ForeignNode[a...b]}.)",
            WorldError,
            r"no way to compute recurrent \(a workspace of 512 MiB\): .* a larger one \(rtpipe engines build, --work",
        ),
        ("Error Code 9: something\n  else", WorldError, "could not build recurrent: Error Code 9: something else$"),
    ],
)
def test_a_build_that_fails_says_why_and_what_to_do(rtx: Loaded, says: str, kind: type[WorldError], told: str) -> None:
    with pytest.raises(WorldError, match=told) as raised:
        plan_build.build(
            wrapped(rtx, says), exported("fp32"), graph(*SIZE), "fp32", quiet, Options(workspace=512 * MIB)
        )
    assert type(raised.value) is kind


def test_it_is_configured_as_asked(rtx: Loaded) -> None:
    loaded = wrapped(rtx)
    options = Options(workspace=96 * MIB, capability=(8, 9), threads=2)
    assert plan_build.build(loaded, exported("fp32"), graph(*SIZE), "fp32", quiet, options).data
    config, trt = loaded.module.config, rtx.module
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 96 * MIB
    assert not config.get_flag(trt.BuilderFlag.TF32), "fp32 is float32, not its shortened form"
    assert config.num_compute_capabilities == 1
    assert config.get_compute_capability(0) == trt.ComputeCapability.SM89


@pytest.mark.filterwarnings("ignore:.*Timing cache operations:DeprecationWarning")
@pytest.mark.parametrize("damaged", [b"", b"damaged", bytes(300)])
def test_measured_kernels_are_kept_and_damaged_ones_begun_anew(rtx: Loaded, damaged: bytes) -> None:
    """With the timing cache of the library that is here, which the others have alike."""
    loaded = wrapped(rtx, timing_cache=True)
    first = plan_build.build(loaded, exported("fp32"), graph(*SIZE), "fp32", quiet, Options(timing=damaged))
    assert first.timing
    assert plan_build.build(loaded, exported("fp32"), graph(*SIZE), "fp32", quiet, Options(timing=first.timing)).timing
    assert plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp32", quiet, Options()).timing == b""


@pytest.mark.parametrize(
    ("timing", "taken"), [(b"ours", b"ours"), (b"damaged", b""), (b"another GPU's", b""), (b"", b"")]
)
def test_the_library_decides_whether_measured_kernels_fit(rtx: Loaded, timing: bytes, taken: bytes) -> None:
    """The library that is here ignores them: a stand-in's configuration takes its place."""

    class Config:
        def clear_flag(self, flag: Any) -> None: ...

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            data = serialized_timing_cache
            return None if data == b"damaged" else SimpleNamespace(data=data)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            self.set = cache
            return ignore_mismatch or cache.data in (b"", b"ours")

    config = Config()
    loaded = wrapped(rtx, timing_cache=True, enumerated=False)
    assert plan_build._configure(loaded, config, Options(timing=timing)) is config.set
    assert config.set.data == taken


def test_a_library_that_cannot_start_says_what_it_said(rtx: Loaded) -> None:
    loaded = wrapped(rtx)

    def none(log: Any) -> Any:
        log.log(rtx.module.ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("pybind11::init(): factory function returned nullptr")

    loaded.module.Builder = none
    with pytest.raises(WorldError, match=r"^TensorRT for RTX [\d.]+ cannot start: CUDA initialization failure .* 35$"):
        plan_build.build(loaded, exported("fp32"), graph(*SIZE), "fp32", quiet, Options())


def test_what_the_library_says_goes_to_the_log_and_never_to_the_screen(
    rtx: Loaded, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG, "engines.runtime.tensorrt_library")
    plan_build.build(rtx, exported("fp32"), graph(*SIZE), "fp32", quiet, Options())
    assert "tensorrt_rtx: " in caplog.text
    assert capfd.readouterr() == ("", "")


def test_the_flag_for_strong_types_is_given_where_the_table_says(rtx: Loaded) -> None:
    given: list[int] = []

    def watched(typed: bool) -> None:
        loaded = wrapped(rtx, typed_flag=typed)
        make: Callable[[Any], Any] = loaded.module.Builder

        def builder(log: Any) -> Any:
            made = make(log)
            create = made.create_network
            made.create_network = lambda flags: given.append(flags) or create(flags)
            return made

        loaded.module.Builder = builder
        plan_build.build(loaded, exported("fp32"), graph(*SIZE), "fp32", quiet, Options())

    watched(True)
    watched(False)
    assert given == [1 << int(rtx.module.NetworkDefinitionCreationFlag.STRONGLY_TYPED), 0]
