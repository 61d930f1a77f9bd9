"""How a plan gets from the cache, or from a build, to a session.

Plans are built by the real ``tensorrt_rtx``; a GPU is pretended, and what would run on it is noted.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from engines.runtime import plan_build, plans, tensorrt, tensorrt_library
from engines.runtime.cuda import Gpu
from engines.runtime.plan_build import MIB, TooLittleMemory
from rtpipe.errors import WorldError
from tests.engines.runtime.recurrent import graph, quiet

RTX = Gpu("GeForce RTX 3090", (8, 6), 24 << 30, 13000)
SIZE = (37, 26)


@pytest.fixture(autouse=True)
def own_plans(tmp_path: Path, session_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Exports are shared by all tests, plans are not."""
    monkeypatch.setattr(plans, "directory", lambda: tmp_path / "tensorrt")
    return tmp_path / "tensorrt"


class Engine:
    """What a GPU would have loaded, with what TensorRT for RTX compiles when it is first run."""

    def __init__(self, plan: bytes) -> None:
        self.plan, self.compiled = plan, b"compiled"
        self.given: list[bytes] = []
        self.context: Any = None

    def create_runtime_config(self) -> Any:
        cache = SimpleNamespace(
            deserialize=lambda data: self.given.append(data) or data == self.compiled, serialize=lambda: self.compiled
        )
        return SimpleNamespace(
            create_runtime_cache=lambda: cache, set_runtime_cache=lambda cache: None, cuda_graph_strategy=None
        )

    def create_execution_context(self, runtime_config: Any) -> Any:
        self.context = SimpleNamespace(runtime_config=runtime_config)
        return self.context


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A GPU is pretended; what was opened on it."""
    opened: list[Any] = []

    def executing(module: Any, engine: Engine, network: Any, precision: str, *, context: Any = None) -> Any:
        opened.append(SimpleNamespace(module=module, engine=engine, precision=precision, context=context))
        return opened[-1]

    @contextlib.contextmanager
    def in_use() -> Iterator[Any]:
        yield SimpleNamespace(free_bytes=lambda: 8 << 30)

    monkeypatch.setattr(tensorrt, "first_gpu", lambda: RTX)
    monkeypatch.setattr(tensorrt, "_gpu_in_use", in_use)
    monkeypatch.setattr(tensorrt, "Executing", executing)
    loads(monkeypatch, lambda plan: Engine(plan))
    return opened


def loads(monkeypatch: pytest.MonkeyPatch, load: Any) -> None:
    runtime = SimpleNamespace(deserialize_cuda_engine=load)
    monkeypatch.setattr(tensorrt_library.Loaded, "runtime", property(lambda self: runtime))


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> list[plan_build.Options]:
    """What was built, with what options; building is real."""
    done: list[plan_build.Options] = []
    real = plan_build.build

    def build(loaded: Any, onnx: bytes, network: Any, precision: str, progress: Any, options: Any) -> Any:
        done.append(options)
        return real(loaded, onnx, network, precision, progress, options)

    monkeypatch.setattr(plan_build, "build", build)
    return done


def open_it(told: list[str] | None = None, precision: str = "fp16") -> Any:
    progress = quiet if told is None else told.append
    return tensorrt.open(graph(*SIZE), "cuda", precision, 1, progress)


def test_it_is_built_once_and_then_taken_from_the_cache(
    sessions: list[Any], builds: Sequence[Any], own_plans: Path
) -> None:
    told: list[str] = []
    first, second = open_it(told), open_it()
    assert len(builds) == 1
    assert first.engine.plan == second.engine.plan
    assert len(first.engine.plan) > 10_000
    assert any(line.endswith("building recurrent for GeForce RTX 3090, once for this size") for line in told)
    assert told[-1].startswith("TensorRT for RTX 1.")
    assert builds[0].capability == (8, 6)
    assert builds[0].workspace == 4 << 30, "half of what is free"
    (plan,) = own_plans.glob("*.plan")
    facts = plans.read(plan, plan.stem.rsplit("-")[-1]).facts
    assert facts["gpu"] == "GeForce RTX 3090"
    assert facts["precision"] == "fp16"
    open_it(precision="fp32")
    assert len(builds) == 2, "another precision is another plan"


def test_what_is_compiled_at_run_time_is_kept_too(sessions: list[Any], builds: Sequence[Any], own_plans: Path) -> None:
    assert open_it().engine.given == []
    second = open_it()
    assert second.engine.given == [b"compiled"]
    assert second.context is second.engine.context
    (kernels,) = own_plans.glob("*.kernels")
    written = kernels.read_bytes()
    kernels.write_bytes(written[:-1])
    assert open_it().engine.given == [], "damaged: never given to the library"
    assert kernels.read_bytes() == written


@pytest.mark.parametrize("damage", ["cut", "flipped", "another GPU's"])
def test_a_damaged_plan_never_reaches_the_library(
    sessions: list[Any], builds: Sequence[Any], own_plans: Path, damage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_it()
    (plan,) = own_plans.glob("*.plan")
    whole = plan.read_bytes()
    if damage == "cut":
        plan.write_bytes(whole[:-100])
    elif damage == "flipped":
        plan.write_bytes(whole[:-100] + bytes([whole[-100] ^ 4]) + whole[-99:])
    else:
        monkeypatch.setattr(tensorrt, "first_gpu", lambda: replace(RTX, name="RTX 4090", compute_capability=(8, 9)))
    given: list[bytes] = []
    loads(monkeypatch, lambda data: given.append(data) or Engine(data))
    open_it()
    assert len(builds) == 2
    assert len(given) == 1
    assert open_it().engine.plan == given[0]
    assert len(builds) == 2


def test_a_plan_that_the_library_does_not_take_is_built_anew_once(
    sessions: list[Any], builds: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an update that does not show in the version."""
    stale = open_it().engine.plan
    refused: list[bytes] = []

    def load(data: bytes) -> Engine | None:
        if not refused:
            refused.append(data)
            return None
        return Engine(data)

    loads(monkeypatch, load)
    told: list[str] = []
    assert open_it(told)
    assert refused == [stale]
    assert "does not take the plan that was kept for recurrent; building it anew" in told[0]
    assert len(builds) == 2
    open_it()
    assert len(builds) == 2


def test_a_new_plan_that_cannot_be_loaded_is_an_error_and_no_endless_loop(
    sessions: list[Any], builds: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real library's answer where there is no GPU."""
    library = tensorrt_library.load("tensorrt_rtx")
    real = library.module.Runtime(library.log)
    loads(monkeypatch, real.deserialize_cuda_engine)
    with pytest.raises(WorldError, match=r"cannot load the plan that it has just built for recurrent: .+"):
        open_it()
    assert len(builds) == 1
    with pytest.raises(WorldError, match="cannot load the plan"):
        open_it()
    assert len(builds) == 2


def test_where_memory_does_not_do_smaller_workspaces_are_tried_and_said(
    sessions: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    real = plan_build.build

    def build(loaded: Any, onnx: bytes, network: Any, precision: str, progress: Any, options: Any) -> Any:
        tried.append(options.workspace // MIB)
        if options.workspace > 300 * MIB:
            raise TooLittleMemory("TensorRT ran out of GPU memory")
        return real(loaded, onnx, network, precision, progress, options)

    monkeypatch.setattr(plan_build, "build", build)
    told: list[str] = []
    assert open_it(told)
    assert tried == [4096, 1024, 256]
    assert "TensorRT ran out of GPU memory; trying again with 1024 MiB" in told
    made = tensorrt.build(graph(*SIZE), "fp16", 1, quiet)
    assert made.already


def test_where_no_workspace_does_it_is_said_what_to_do(sessions: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def build(*given: Any) -> Any:
        tried.append(given[-1].workspace // MIB)
        raise TooLittleMemory("TensorRT ran out of GPU memory while building recurrent")

    monkeypatch.setattr(plan_build, "build", build)
    with pytest.raises(WorldError, match=r"close what else .*: rtpipe engines build NETWORK --size WxH --workspace 16"):
        open_it()
    assert tried == [4096, 1024, 256, 64]
    tried.clear()
    with pytest.raises(WorldError, match="--workspace 50"):
        tensorrt.build(graph(*SIZE), "fp16", 1, quiet, workspace_mb=200)
    assert tried == [200], "what was named is used or refused, never replaced"


def test_ahead_of_time_it_is_built_and_a_run_starts_from_it(sessions: list[Any], builds: list[Any]) -> None:
    made = tensorrt.build(graph(*SIZE), "fp16", 2, quiet)
    assert made.kept
    assert not made.already
    assert made.path.is_file()
    assert made.gpu == "GeForce RTX 3090"
    assert builds[0].threads == 2
    open_it()
    assert tensorrt.build(graph(*SIZE), "fp16", 1, quiet).already
    assert len(builds) == 1
    tensorrt.build(graph(*SIZE), "fp16", 1, quiet, workspace_mb=64)
    tensorrt.build(graph(*SIZE), "fp16", 1, quiet, anew=True)
    assert [options.workspace // MIB for options in builds] == [4096, 64, 4096]
    open_it()
    assert len(builds) == 3, "the workspace is no part of the key: what was built with less is what runs"


def test_a_cache_that_cannot_be_written_means_building_each_time(
    sessions: list[Any], builds: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(plans, "directory", lambda: tmp_path / "file" / "tensorrt")
    assert open_it()
    assert open_it()
    assert len(builds) == 2
    assert not tensorrt.build(graph(*SIZE), "fp16", 1, quiet).kept


def test_measured_kernels_are_kept_for_the_next_build(
    sessions: list[Any], monkeypatch: pytest.MonkeyPatch, own_plans: Path
) -> None:
    """Of a library that measures: here the timing cache is a stand-in's."""
    library = tensorrt_library.load("tensorrt_rtx")
    monkeypatch.setattr(library, "row", replace(library.row, timing_cache=True))
    real, given = plan_build.build, []

    def build(loaded: Any, onnx: bytes, network: Any, precision: str, progress: Any, options: Any) -> Any:
        given.append(options.timing)
        measuring = SimpleNamespace(**{**vars(loaded), "row": replace(loaded.row, timing_cache=False)})
        measuring.title = loaded.title
        return replace(real(measuring, onnx, network, precision, progress, options), timing=b"measured" * 9)

    monkeypatch.setattr(plan_build, "build", build)
    open_it()
    open_it(precision="fp32")
    assert given == [b"", b"measured" * 9]
    assert len(list(own_plans.glob("*.timing"))) == 1


def test_it_can_be_tried_without_a_gpu_and_keeps_nothing(own_plans: Path) -> None:
    tried = tensorrt.try_building(graph(*SIZE), "fp16", quiet)
    assert tried.library.startswith("TensorRT for RTX 1.")
    assert (tried.inspected.half, tried.inspected.single) == (5, 1)
    assert tried.nbytes > 10_000
    assert not own_plans.exists()


def test_it_computes_on_a_gpu_alone() -> None:
    with pytest.raises(ValueError, match="on a GPU"):
        tensorrt.open(graph(*SIZE), "cpu", "fp32", 1, quiet)
