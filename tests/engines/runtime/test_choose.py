"""Which runtime is taken, and what is said of those that are not."""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from engines.runtime import choose
from engines.runtime.cores import quota, threads
from engines.runtime.graph import Graph
from engines.settings import Learned
from rtpipe.errors import InputError, WorldError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, quiet, stateless


class Session:
    def __init__(self, error: Exception | None = None) -> None:
        self.facts: Mapping[str, str] = {"threads": "3"}
        self.error = error

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        if self.error is not None:
            raise self.error
        return inputs

    def reset(self) -> None: ...
    def close(self) -> None: ...


def machine(
    monkeypatch: pytest.MonkeyPatch, errors: Mapping[str, Exception] | None = None, **devices: str | Exception
) -> list[tuple[str, str, str]]:
    """A machine whose runtimes have these devices; returns the list of (runtime, device, precision) opened."""
    opened: list[tuple[str, str, str]] = []

    def runtime(name: str) -> Any:
        def available() -> tuple[str, Mapping[str, tuple[str, ...]]]:
            there = devices.get(name, "")
            if isinstance(there, Exception):
                raise there
            return "1.0", {one: ("fp32", "fp16") if one == "cuda" else ("fp32",) for one in there.split()}

        def open(graph: Graph, device: str, precision: str, threads: int, progress: Callable[[str], None]) -> Session:
            error = (errors or {}).get(f"{name} {device}")
            if error is not None:
                raise error
            opened.append((name, device, precision))
            return Session()

        return SimpleNamespace(available=available, open=open)

    monkeypatch.setattr(choose, "_module", runtime)
    return opened


@pytest.mark.parametrize(
    ("tensorrt", "onnxruntime", "torch", "settings", "taken"),
    [
        ("cuda", "cpu cuda", "cpu cuda", {}, ("tensorrt", "cuda", "fp16")),
        ("cuda", "cpu cuda", "cpu cuda", {"precision": "fp32"}, ("tensorrt", "cuda", "fp32")),
        ("cuda", "cpu cuda", "cpu cuda", {"device": "cpu"}, ("onnxruntime", "cpu", "fp32")),
        ("cuda", "cpu cuda", "cpu cuda", {"runtime": "onnxruntime"}, ("onnxruntime", "cuda", "fp16")),
        ("cuda", "cpu", "cpu", {"runtime": "tensorrt", "device": "cuda"}, ("tensorrt", "cuda", "fp16")),
        ("", "cpu cuda", "cpu cuda", {}, ("onnxruntime", "cuda", "fp16")),
        (ImportError("no"), "cpu", "cpu cuda", {}, ("torch", "cuda", "fp16")),
        (OSError("libnvinfer.so.10: cannot open"), "cpu", "cpu", {}, ("onnxruntime", "cpu", "fp32")),
        ("", "cpu", ImportError("no"), {}, ("onnxruntime", "cpu", "fp32")),
        ("", ImportError("no"), "cpu", {}, ("torch", "cpu", "fp32")),
        ("", "cpu cuda", "cpu cuda", {"runtime": "torch"}, ("torch", "cuda", "fp16")),
        ("", "cpu cuda", "cpu", {"runtime": "torch"}, ("torch", "cpu", "fp32")),
        ("", "cpu cuda", "cpu cuda", {"precision": "fp32"}, ("onnxruntime", "cuda", "fp32")),
    ],
)
def test_the_device_comes_first_then_the_runtime(
    monkeypatch: pytest.MonkeyPatch, tensorrt: Any, onnxruntime: Any, torch: Any, settings: Any, taken: Any
) -> None:
    opened = machine(monkeypatch, tensorrt=tensorrt, onnxruntime=onnxruntime, torch=torch)
    session = choose.open(graph(8, 8), Learned(**settings))
    assert opened == [taken]
    assert taken[1] in session.facts["runtime"]
    assert "3 threads" in session.facts["runtime"]


def test_half_precision_goes_to_the_gpu_or_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = machine(monkeypatch, onnxruntime="cpu", torch="cpu cuda")
    choose.open(graph(8, 8), Learned(precision="fp16"))
    assert opened == [("torch", "cuda", "fp16")]
    machine(monkeypatch, onnxruntime="cpu", torch="cpu")
    with pytest.raises(InputError, match="fp16 on a CPU saves no time and costs accuracy: use precision: fp32"):
        choose.open(graph(8, 8), Learned(precision="fp16", device="cpu"))


def test_what_failed_is_passed_over_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = {
        "tensorrt cuda": WorldError("TensorRT 10.3 could not build recurrent: it does not say why"),
        "onnxruntime cuda": RuntimeError("cuDNN is missing\nand more"),
        "torch cuda": RuntimeError("no memory"),
    }
    opened = machine(monkeypatch, errors, tensorrt="cuda", onnxruntime="cpu cuda", torch="cpu cuda")
    session = choose.open(graph(8, 8), Learned())
    assert opened == [("onnxruntime", "cpu", "fp32")]
    assert session.facts["chosen"] == (
        "because TensorRT on cuda failed: TensorRT 10.3 could not build recurrent: it does not say why; "
        "ONNX Runtime on cuda failed: cuDNN is missing; PyTorch on cuda failed: no memory"
    )


def test_tensorrt_is_told_from_a_gpu_it_lacks_and_a_device_it_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, tensorrt=ImportError("tensorrt is not installed: pip install it"), onnxruntime="cpu")
    with pytest.raises(InputError, match=r"cannot run: TensorRT: tensorrt is not installed: pip install it$"):
        choose.open(graph(8, 8), Learned(runtime="tensorrt"))
    with pytest.raises(InputError, match="TensorRT runs on a GPU alone: device: cuda"):
        choose.open(graph(8, 8), Learned(runtime="tensorrt", device="cpu"))
    (said,) = (one for one in choose.availability() if one.runtime == "tensorrt")
    assert (said.why, said.devices) == ("tensorrt is not installed: pip install it", ())


def test_a_device_that_is_not_there_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, tensorrt="cuda", onnxruntime="cpu", torch="cpu cuda")
    needs = {one.runtime: dict(one.needs) for one in choose.availability()}
    assert set(needs) == {"tensorrt", "onnxruntime", "torch"}
    assert "onnxruntime-gpu" in needs["onnxruntime"]["cuda"]
    assert needs["tensorrt"] == needs["torch"] == {}


def test_what_was_named_is_used_or_refused_never_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, onnxruntime="cpu", torch=ImportError("No module named 'torch'"))
    with pytest.raises(InputError, match=r"No module named 'torch'; pip install 'rtpipe\[torch\]'"):
        choose.open(graph(8, 8), Learned(runtime="torch"))
    with pytest.raises(InputError, match="onnxruntime-gpu in place of onnxruntime"):
        choose.open(graph(8, 8), Learned(device="cuda"))
    machine(monkeypatch, {"torch cpu": RuntimeError("broken")}, torch="cpu")
    with pytest.raises(WorldError, match=r"^recurrent cannot run: PyTorch on cpu failed: broken"):
        choose.open(graph(8, 8), Learned(runtime="torch"))


def test_a_network_that_comes_as_onnx_is_not_given_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, onnxruntime="cpu", torch="cpu")
    as_file = Graph("from-file", (), (), (), "", onnx=lambda precision: b"")
    with pytest.raises(InputError, match="comes as an ONNX file, which PyTorch cannot run"):
        choose.open(as_file, Learned(runtime="torch"))


def test_a_device_that_fails_later_is_said_in_plain_words(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = {"runtime": "PyTorch 1.0, cuda, fp16"}
    failing = choose.Chosen("nernet", Session(RuntimeError("CUDA error: unspecified\nlong story")), facts)
    with pytest.raises(WorldError, match=r"^nernet: PyTorch 1.0, cuda, fp16 failed: CUDA error: unspecified$"):
        failing.run([])
    with pytest.raises(ValueError, match="shape"):
        choose.Chosen("nernet", Session(ValueError("shape")), facts).run([])


def test_this_machine_has_both_and_says_so() -> None:
    there = {one.runtime: one for one in choose.availability()}
    assert list(there) == ["tensorrt", "onnxruntime", "torch"]
    assert bool(there["tensorrt"].devices) != bool(there["tensorrt"].why)
    for one in (there["onnxruntime"], there["torch"]):
        assert "cpu" in one.devices
        assert one.precisions["cpu"] == ("fp32",)
    assert "onnxruntime" in there["onnxruntime"].version


def test_the_real_ones_run(monkeypatch: pytest.MonkeyPatch) -> None:
    one = np.ones((1, 2, 5, 7), np.float32)
    for runtime in ("onnxruntime", "torch"):
        session = choose.open(stateless(), Learned(runtime=runtime, device="cpu", threads=1), quiet)
        assert (session.run([one, one])[0] == 3).all()
        session.close()


@pytest.mark.parametrize(
    ("cpu_max", "whole"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("", None), ("a b", None)],
)
def test_a_containers_quota_is_kept(cpu_max: str, whole: int | None) -> None:
    assert quota(cpu_max) == whole


def test_threads_that_were_asked_for_are_taken() -> None:
    assert threads(7) == 7
    assert threads(0) >= 1
