"""Exported files: kept, checked, made anew when damaged, and enough to run without PyTorch."""

import hashlib
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engines.runtime import exported
from engines.runtime import onnxruntime as runtime
from engines.runtime.graph import Port
from rtpipe.errors import WorldError
from rtpipe.types import Array
from tests.engines.runtime.recurrent import graph, inputs, quiet, stateless

SIZE = (37, 26)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "rtpipe" / "onnx"


def run(steps: int = 2) -> list[Array]:
    session = runtime.open(graph(*SIZE), "cpu", "fp32", 1, quiet)
    return [session.run([one])[0].copy() for one in inputs(*SIZE, steps)]


def test_it_is_exported_once(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run()

    def again(*_: object) -> bytes:
        raise AssertionError("exported a second time")

    monkeypatch.setattr(exported, "export", again)
    np.testing.assert_array_equal(run(), first)


@pytest.fixture(scope="module")
def whole() -> bytes:
    return exported.export(stateless(), "fp32")


@pytest.fixture
def exports(whole: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was exported, which takes no time now."""
    done: list[str] = []

    def export(*_: object) -> bytes:
        done.append("two")
        return whole

    monkeypatch.setattr(exported, "export", export)
    return done


def test_a_kept_file_has_its_checksum_beside_it_and_leaves_nothing_else(own_cache: Path, exports: list[str]) -> None:
    exported.onnx_of(stateless(), "fp32", quiet)
    (file,) = own_cache.glob("*.onnx")
    assert sorted(own_cache.iterdir()) == [file, Path(f"{file}.sha256")]
    digest, name = Path(f"{file}.sha256").read_text().split()
    assert (digest, name) == (hashlib.sha256(file.read_bytes()).hexdigest(), file.name)


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no checksum", "binary checksum"])
def test_a_damaged_file_is_made_anew(own_cache: Path, exports: list[str], whole: bytes, damage: str) -> None:
    exported.onnx_of(stateless(), "fp32", quiet)
    (file,) = own_cache.glob("*.onnx")
    checksum = Path(f"{file}.sha256")
    if damage == "cut":
        file.write_bytes(whole[:-9])
    elif damage == "flipped":
        file.write_bytes(bytes([*whole[:40], whole[40] ^ 1, *whole[41:]]))
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "no checksum":
        checksum.unlink()
    else:
        checksum.write_bytes(b"\xff\xfe\x00")
    session = runtime.open(stateless(), "cpu", "fp32", 1, quiet)
    one = np.ones((1, 2, 5, 7), np.float32)
    assert (session.run([one, one])[0] == 3).all()
    assert exports == ["two", "two"]
    assert exported.read(file) == whole


def test_a_cache_that_cannot_be_written_is_no_reason_to_stop(
    tmp_path: Path, exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "rtpipe").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert exported.onnx_of(stateless(), "fp32", quiet)


def test_the_key_is_of_all_that_the_file_depends_on() -> None:
    base = graph(*SIZE)
    others = [
        replace(base, weights="others"),
        replace(base, name="another"),
        replace(base, keep_float32=()),
        replace(base, inputs=(Port("x", base.inputs[0].shape),)),
        replace(base, states=base.states[::-1]),
        graph(SIZE[0] + 1, SIZE[1]),
    ]
    keys = {exported.key(one, "fp32") for one in (base, *others)} | {exported.key(base, "fp16")}
    assert len(keys) == len(others) + 2
    assert exported.key(graph(*SIZE), "fp32") == exported.key(base, "fp32")


def test_a_network_whose_code_changed_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    (tmp_path / "changing_network.py").write_text("def make():\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("changing_network")
    before = exported.key(replace(graph(*SIZE), module=module.make), "fp32")
    (tmp_path / "changing_network.py").write_text("def make():\n    return 2\n")
    assert exported.key(replace(graph(*SIZE), module=module.make), "fp32") != before


def test_states_of_one_shape_are_not_taken_for_one_another() -> None:
    """The trap of exporters: states that start equal. Each state of the file moves the picture in its own way."""
    import onnxruntime
    import torch

    from tests.engines.runtime.recurrent import network

    data = exported.onnx_of(graph(*SIZE), "fp32", quiet)
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    random = np.random.default_rng(1)
    state = [random.standard_normal((1, 8, SIZE[1], SIZE[0])).astype(np.float32) for _ in range(2)]
    (x,) = inputs(*SIZE, 1)
    got = session.run(None, {"events": x, "h": state[0], "c": state[1]})
    with torch.no_grad():
        wanted = network().eval()(*map(torch.from_numpy, (x, *state)))
    for one, other in zip(got, wanted, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=2e-5)


def test_a_network_that_ignores_a_state_is_refused() -> None:
    import torch

    class Forgets(torch.nn.Module):  # type: ignore[misc]
        def forward(self, x: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x * 2

    port = [Port(name, (1, 1, 2, 2)) for name in ("x", "y", "h")]
    forgets = replace(stateless(), inputs=(port[0],), outputs=(port[1],), states=(port[2],), module=Forgets)
    with pytest.raises(WorldError, match="does not use h"):
        exported.export(forgets, "fp32")


WITHOUT_TORCH = """
import sys
from importlib import metadata

ABSENT = ("torch", "onnx", "onnxscript")
found = metadata.version

def version(name):
    if name in ABSENT:
        raise metadata.PackageNotFoundError(name)
    return found(name)

metadata.version = version
for name in ABSENT:
    sys.modules[name] = None

import numpy as np
from engines.runtime import choose
from engines.settings import Learned
from rtpipe.errors import InputError
from tests.engines.runtime.recurrent import graph, inputs

try:
    session = choose.open(graph(37, 26), Learned(threads=1))
except InputError as error:
    sys.exit(str(error))
print(session.facts["runtime"])
np.save(sys.argv[1], [session.run([one])[0].copy() for one in inputs(37, 26, 2)])
"""


def without_torch(out: Path) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).resolve().parents[3]
    return subprocess.run([sys.executable, "-c", WITHOUT_TORCH, out], cwd=root, capture_output=True, text=True)


def test_later_runs_need_no_pytorch(tmp_path: Path) -> None:
    wanted = run()
    done = without_torch(tmp_path / "made.npy")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ONNX Runtime")
    np.testing.assert_array_equal(np.load(tmp_path / "made.npy"), wanted)


def test_without_pytorch_the_first_run_says_what_to_install(own_cache: Path, tmp_path: Path) -> None:
    done = without_torch(tmp_path / "made.npy")
    assert done.returncode == 1
    assert "exporting to ONNX needs onnx, onnxscript, torch, once for each size" in done.stderr
    assert "pip install 'rtpipe[torch]'" in done.stderr
    assert "Traceback" not in done.stderr
