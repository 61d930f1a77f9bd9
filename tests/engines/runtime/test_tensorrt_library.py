"""Which TensorRT is taken, which GPUs it serves, and what is said where there is none."""

import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from engines.runtime import tensorrt, tensorrt_library
from engines.runtime.cuda import Gpu
from engines.runtime.tensorrt_library import Loaded, row_of

RTX = Gpu("GeForce RTX 3090", (8, 6), 24 << 30, 13000)


@pytest.fixture
def fresh() -> Iterator[None]:
    """Libraries are imported anew, and forgotten afterwards."""
    tensorrt_library.load.cache_clear()
    yield
    tensorrt_library.load.cache_clear()
    for name in [name for name in sys.modules if name.split(".")[0] in ("tensorrt", "tensorrt_libs")]:
        del sys.modules[name]


def package(folder: Path, text: str, name: str = "tensorrt") -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


PLAIN = """
class ILogger:
    class Severity:
        INTERNAL_ERROR, ERROR, WARNING = range(3)
class Builder: ...
class OnnxParser: ...
"""


@pytest.mark.parametrize(
    ("version", "since"),
    [
        ("8.6.1", None),
        ("10.0.1", None),
        ("10.3.0", (10, 3)),
        ("10.4.0", (10, 3)),
        ("10.7.0.post1", (10, 5)),
        ("10.13.3.9", (10, 8)),
        ("11.4.0.106", (11,)),
        ("12.1", (11,)),
    ],
)
def test_each_version_has_its_row(version: str, since: tuple[int, ...] | None) -> None:
    row = row_of("tensorrt", version)
    assert (row.since if row else None) == since
    if row:
        assert row.typed_flag == (row.since < (11,))


def loaded(version: str, module: str = "tensorrt") -> Loaded:
    severity = SimpleNamespace(INTERNAL_ERROR=0, ERROR=1, WARNING=2)
    capabilities = SimpleNamespace(__members__=["NONE", "CURRENT", "SM75", "SM86", "SM89", "SM120", "SM121"])

    class ILogger:
        Severity = severity

    row = row_of(module, version)
    assert row is not None
    return Loaded(SimpleNamespace(ILogger=ILogger, ComputeCapability=capabilities, __name__=module), row, version)


@pytest.mark.parametrize(
    ("library", "capability", "why"),
    [
        (("10.3.0",), (8, 7), ""),
        (("10.3.0",), (7, 0), ""),
        (("10.3.0",), (5, 3), r"5\.3 \(7\.0 at least\): use ONNX Runtime or PyTorch on CUDA"),
        (("10.3.0",), (12, 0), r"12\.0 \(9\.0 at most\): use a newer TensorRT"),
        (("10.13.3",), (12, 0), ""),
        (("10.13.3",), (7, 0), r"7\.0 \(7\.5 at least\): use ONNX Runtime"),
        (("11.4.0",), (9, 0), ""),
        (("11.4.0",), (11, 0), ""),
        (("1.7.1", "tensorrt_rtx"), (8, 6), ""),
        (("1.7.1", "tensorrt_rtx"), (12, 1), ""),
        (("1.7.1", "tensorrt_rtx"), (8, 7), r"RTX 1\.7\.1 does not serve .* 8\.7 .*: use tensorrt, which comes"),
        (("1.7.1", "tensorrt_rtx"), (9, 0), r"9\.0 \(7\.5, 8\.6, 8\.9, 12\.0, 12\.1\): use tensorrt$"),
        (("1.7.1", "tensorrt_rtx"), (6, 1), "use ONNX Runtime or PyTorch on CUDA"),
    ],
)
def test_a_gpu_that_is_not_served_is_told_what_to_use(
    library: tuple[str, ...], capability: tuple[int, int], why: str
) -> None:
    said = loaded(*library).refuses(capability)
    assert bool(said) == bool(why)
    assert re.search(why, said), said


def test_the_capabilities_of_the_library_that_is_here_are_the_documented_ones() -> None:
    assert set(tensorrt_library.load("tensorrt_rtx").capabilities()) >= {(7, 5), (8, 6), (8, 9), (12, 0)}
    assert (8, 7) not in tensorrt_library.load("tensorrt_rtx").capabilities()


def test_without_a_gpu_that_is_what_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorrt, "first_gpu", lambda: None)
    with pytest.raises(ImportError, match="needs an NVIDIA GPU and its driver, and none is seen here"):
        tensorrt.available()


def test_a_library_that_is_absent_says_how_to_get_it_on_a_pc_and_on_a_jetson(
    fresh: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_library, "MODULES", ("tensorrt",))
    monkeypatch.setattr(tensorrt, "first_gpu", lambda: replace(RTX, name="Orin", compute_capability=(8, 7)))
    with pytest.raises(ImportError) as told:
        tensorrt.available()
    assert "tensorrt is not installed: pip install 'rtpipe[tensorrt]'" in str(told.value)
    assert "comes with JetPack: make the virtual environment with --system-site-packages" in str(told.value)
    assert "(this GPU: Orin, compute capability 8.7)" in str(told.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "raise ImportError('libnvinfer.so.10: cannot open shared object file: No such file\\nmore')",
            r"installed but cannot be loaded \(libnvinfer\.so\.10: cannot open shared object file: No such file\)",
        ),
        ("raise RuntimeError('a stub')", r"cannot be loaded \(a stub\): its libraries are missing"),
        ("__version__ = '10.3.0'", "cannot be loaded"),
        (PLAIN + "__version__ = '8.6.1'", r"tensorrt 8\.6\.1 is too old: 10\.3 or newer is needed"),
    ],
)
def test_a_library_that_does_not_load_says_why(
    fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    package(tmp_path, text)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=said) as told:
        tensorrt_library.load("tensorrt")
    assert "\n" not in str(told.value)
    found = {one.module: one for one in tensorrt_library.installed()}
    assert not found["tensorrt"].version
    assert found["tensorrt_rtx"].version.startswith("1.")


def test_where_both_are_installed_the_gpu_decides(fresh: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package(tmp_path, PLAIN + "__version__ = '10.3.0'")
    monkeypatch.syspath_prepend(tmp_path)
    taken = {}
    for capability in ((8, 7), (8, 6), (12, 0)):
        taken[capability] = tensorrt_library.serving(capability).row.module
    assert taken == {(8, 7): "tensorrt", (8, 6): "tensorrt", (12, 0): "tensorrt_rtx"}
    with pytest.raises(ImportError, match=r"TensorRT 10\.3\.0 does not .* 5\.3.*; TensorRT for RTX .* does not"):
        tensorrt_library.serving((5, 3))
    assert tensorrt_library.serving(None).row.module == "tensorrt_rtx"
