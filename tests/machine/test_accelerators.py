"""What the doctor says of GPUs and TensorRT, on machines that are described to it."""

from types import SimpleNamespace
from typing import Any

import pytest

from rtpipe import registry
from rtpipe.errors import InputError, WorldError
from rtpipe.machine import extras
from rtpipe.machine.jetson import Jetson
from rtpipe.runtimes import Gpu, Library

RTX = Gpu("NVIDIA GeForce RTX 4070", "8.9", 12 << 30, "13.0")
ORIN_GPU = Gpu("Orin", "8.7", 8 << 30, "12.6")
ORIN = Jetson("36.4.7", "6.2.1", "NVIDIA Jetson Orin Nano Developer Kit")


def test_a_gpu_is_told_by_what_a_person_needs_to_know_of_it() -> None:
    fact = extras.gpu("NVRM version: 590", RTX, None)
    assert (fact.state, fact.says) == (
        "ok",
        "NVIDIA GeForce RTX 4070, compute capability 8.9, 12.0 GiB, driver for CUDA 13.0",
    )
    fact = extras.gpu("# R36 (release)", ORIN_GPU, ORIN)
    assert "8.0 GiB shared with the processor" in fact.says
    assert fact.says.endswith("; NVIDIA Jetson Orin Nano Developer Kit, JetPack 6.2.1 (Jetson Linux 36.4.7)")


def test_a_driver_without_a_gpu_that_answers_is_noted() -> None:
    assert extras.gpu("", None, None).says == "no NVIDIA driver: engines run on the processor"
    fact = extras.gpu("NVRM version: 590", None, None)
    assert fact.state == "note"
    assert "the driver knows no GPU that answers (NVRM version: 590)" in fact.says
    assert "JetPack 6.2.1" in extras.gpu("# R36 (release)", None, ORIN).says


def test_a_tensorrt_that_serves_the_gpu_is_ok_and_one_that_does_not_says_why() -> None:
    fact = extras.tensorrt(Library("TensorRT", "10.3.0"), ORIN_GPU, ORIN)
    assert (fact.state, fact.says) == ("ok", "TensorRT 10.3.0 serves this GPU")
    why = "TensorRT for RTX 1.7.1 does not serve compute capability 8.7: use tensorrt, which comes with JetPack"
    fact = extras.tensorrt(Library("TensorRT for RTX", "1.7.1", why, builds=True), ORIN_GPU, ORIN)
    assert fact.state == "note"
    assert fact.says == f"TensorRT for RTX 1.7.1 is installed, but: {why}"
    fact = extras.tensorrt(Library("TensorRT for RTX", "1.7.1", "it needs a GPU", builds=True), None, None)
    assert "--dry-run" in fact.says


def test_how_tensorrt_is_had_depends_on_the_machine() -> None:
    none = Library("", "", "tensorrt is not installed: how to get it")
    assert extras.tensorrt(none, RTX, None).mend == "pip install 'rtpipe[tensorrt]'"
    assert extras.tensorrt(none, RTX, None).says == "tensorrt is not installed: how to get it"
    assert extras.tensorrt(none, None, None).mend == ""
    flashed = extras.tensorrt(none, ORIN_GPU, ORIN)
    assert flashed.mend == "sudo apt-get install tensorrt python3-libnvinfer"
    hidden = Jetson("36.4.7", "6.2.1", packages={"python3-libnvinfer": "10.3.0.30-1+cuda12.5"})
    assert extras.tensorrt(none, ORIN_GPU, hidden).mend == "python3 -m venv --system-site-packages .venv"
    old = extras.tensorrt(none, ORIN_GPU, Jetson("35.4.1", "5.1.2"))
    assert (old.mend, "TensorRT 8, which is too old" in old.says) == ("", True)


class Parsing:
    """A builder that takes some networks."""

    def __init__(self, library: Library, bad: str = "") -> None:
        self.library, self.bad, self.seen = library, bad, list[str]()

    def tensorrt(self) -> Library:
        return self.library

    def parse(self, graph: str, precision: str, *, progress: Any) -> str:
        self.seen.append(graph)
        assert precision == "fp16"
        if graph == self.bad:
            raise WorldError(f"TensorRT 10.3 cannot take {graph}: operator Odd is not supported there")
        return "44 layers"


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(name: str) -> Any:
        def graph(size: tuple[int, int]) -> str:
            if name == "weightless":
                raise InputError("there are no weights")
            return name

        return SimpleNamespace(network=SimpleNamespace(graph=graph))

    def load(group: str, name: str) -> Any:
        if name == "broken":
            raise InputError("needs a package")
        module = SimpleNamespace(Engine=lambda settings: engine(name), Settings=lambda: None)
        return module if name == "edi" else SimpleNamespace(**vars(module), NETWORK=object())

    monkeypatch.setattr(registry, "names", lambda group: ("broken", "edi", "firenet", "nernet", "weightless"))
    monkeypatch.setattr(registry, "load", load)


@pytest.mark.usefixtures("engines")
def test_networks_whose_weights_are_here_are_tried_and_named() -> None:
    builder: Any = Parsing(Library("TensorRT", "10.3.0"))
    (fact,) = extras.networks(builder)
    assert (fact.state, fact.says) == ("ok", "TensorRT 10.3.0 takes firenet, nernet (fp16, parsed)")
    builder = Parsing(Library("TensorRT", "10.3.0"), bad="firenet")
    good, bad = extras.networks(builder)
    assert good.says == "TensorRT 10.3.0 takes nernet (fp16, parsed)"
    assert bad.says.endswith("cannot take firenet: operator Odd is not supported there")


@pytest.mark.usefixtures("engines")
def test_a_slow_export_does_not_hold_up_the_doctor() -> None:
    builder: Any = Parsing(Library("TensorRT for RTX", "1.7.1", "no GPU", builds=True))
    (fact,) = extras.networks(builder, limit_s=-1)
    assert builder.seen == []
    assert fact.says == "not looked at, to be quick: firenet, nernet"
    assert fact.mend == "rtpipe engines build firenet --size 64x48 --dry-run"


@pytest.mark.usefixtures("engines")
def test_without_a_tensorrt_that_could_build_nothing_is_tried() -> None:
    for library in (Library("", "", "not installed"), Library("TensorRT", "10.3.0", "no GPU")):
        builder: Any = Parsing(library)
        assert extras.networks(builder) == []
        assert builder.seen == []
