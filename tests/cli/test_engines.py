"""`rtpipe engines`: what is listed is what there is, and an import says what it brought in."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

from rtpipe import registry
from rtpipe.cli import engines
from rtpipe.errors import InputError
from rtpipe.weights import overview, store
from tests.weights import fake_network

HERE = (
    overview.Runtime("onnxruntime", "1.31", ("cpu",), ""),
    overview.Runtime("torch", "", (), "No module named 'torch'; pip install 'rtpipe[torch]'"),
    overview.Runtime("tensorrt", "10", ("cuda",), ""),
)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with fake_network.installed(tmp_path, monkeypatch):
        monkeypatch.setattr(overview, "runtimes", lambda: HERE)
        yield


def ask(*words: str) -> str:
    result = CliRunner().invoke(engines.app, list(words))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.stdout


def listed(*words: str) -> dict[str, Any]:
    return {each["name"]: each for each in json.loads(ask("list", "--json", *words))["engines"]}


def checkpoint(folder: Path) -> Path:
    save_file(fake_network.tensors(), folder / "Fake-GoPro.safetensors")
    return folder / "Fake-GoPro.safetensors"


def test_every_engine_is_listed_with_what_it_needs(tmp_path: Path) -> None:
    ask("import", "fake", str(checkpoint(tmp_path)))
    found = listed("--size", "1000x500")
    assert set(registry.names("engines")) == set(found)
    assert found["edi"]["model_free"]
    assert found["edi"]["runtimes"] == ["numba on cpu"]
    there, absent = found["fake"]["weights"]
    assert (there["name"], there["found"], there["parameters"]) == ("fake-gopro", True, 76)
    assert there["gflop"] == pytest.approx(76 * 2e-9 * 500_000)
    assert (absent["name"], absent["found"]) == ("fake-night", False)
    assert (absent["parameters"], absent["gflop"]) == (None, None)
    assert absent["get"] == "rtpipe engines import fake Fake-Night.pth"
    assert found["fake"]["runtimes"] == ["onnxruntime on cpu", "tensorrt on cuda"]
    assert found["fakepackaged"]["runtimes"] == ["onnxruntime on cpu"]
    assert "fake_engine_gone" in found["fakebroken"]["problem"]


def test_the_table_tells_what_json_tells(tmp_path: Path) -> None:
    ask("import", "fake", str(checkpoint(tmp_path)))
    (store.directory() / "broken.safetensors").write_bytes(b"?")
    said = ask("list", "--size", "640x480")
    (row,) = [line.split() for line in said.splitlines() if line.startswith("fake ")]
    assert " ".join(row) == "fake fake-gopro found 76 0.0 onnxruntime on cpu, tensorrt on cuda"
    assert "GFLOP at 640x480" in said
    assert "fake-night: rtpipe engines import fake Fake-Night.pth" in said
    assert "torch: not here: No module named 'torch'; pip install 'rtpipe[torch]'" in said
    assert "broken.safetensors: not a whole safetensors file" in said
    assert str(store.directory()) in said


@pytest.mark.parametrize("size", ["346", "346x", "x260", "0x10", "-3x4", "1e3x10", "99999x10", "3x4x5", "²x2"])
def test_sizes_that_are_none_are_refused(size: str) -> None:
    with pytest.raises(InputError, match="--size"):
        ask("list", "--size", size)


def test_an_import_says_what_it_brought(tmp_path: Path) -> None:
    path = checkpoint(tmp_path)
    said = ask("import", "fake", str(path), "--set", "color_order=rgb", "--name", "mine")
    facts = {line[:17].strip(): line[17:].strip() for line in said.splitlines()}
    assert said.splitlines()[0] == "mine"
    assert facts["network"] == "fake gopro"
    assert facts["licence"] == "Apache-2.0"
    assert facts["color order"] == "rgb"
    assert facts["parameters"] == "76 numbers in 3 tensors"
    assert facts["from"].startswith("Fake-GoPro.safetensors, sha256 ")
    assert facts["kept in"] == str(store.directory() / "mine.safetensors")
    again = ask("import", "fake", str(path), "--set", "color_order=rgb", "--name", "mine")
    assert "there already" in again
    assert "--overwrite" in again


def test_a_package_brings_its_own_weights() -> None:
    said = ask("import", "fakepackaged")
    assert "fakepackaged-lite" in said
    assert store.load("fakepackaged-lite").properties.values == {"bins": "5"}
    with pytest.raises(InputError, match="no package: name the checkpoint's file"):
        ask("import", "fake")
    with pytest.raises(InputError, match="--name"):
        ask("import", "fakepackaged", "--name", "x")


@pytest.mark.parametrize("given", ["color_order", "=rgb", "color_order=", " =x"])
def test_properties_are_given_as_pairs(given: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="KEY=VALUE"):
        ask("import", "fake", str(checkpoint(tmp_path)), "--set", given)


def test_on_this_machine_as_a_user_types_it(tmp_path: Path) -> None:
    """The real runtimes and engines; a bad file ends with plain lines and exit code 2."""
    environment = {**os.environ, "RTPIPE_WEIGHTS": str(tmp_path / "none")}
    command = [sys.executable, "-m", "rtpipe", "engines"]
    done = subprocess.run([*command, "list", "--json"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert "cpu" in next(each["devices"] for each in facts["runtimes"] if each["name"] == "onnxruntime")
    assert {each["name"] for each in facts["engines"]} >= {"complementary", "edi", "leaky"}
    (tmp_path / "x.pth").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    done = subprocess.run([*command, "import", "edi", str(tmp_path / "x.pth")], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith("rtpipe: engine 'edi' needs no weights")
    assert "Traceback" not in done.stderr
