"""`rtpipe engines build`, `check`, `bench engine` and `run` as a user types them on a machine with a GPU and TensorRT.

The GPU is a stand-in of threads (tests/engines/runtime/standin), its TensorRT a package that parses and builds by the
real TensorRT for RTX and computes by ONNX Runtime: every process is real, and so is every plan in the cache.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from engines import firenet
from rtpipe.weights import store
from rtpipe.weights.made_up import random_weights
from tests.engines.runtime.standin.gpu import build

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = """
import os
from pathlib import Path

import numpy as np
import tensorrt_rtx as rtx
from tensorrt_rtx import (
    BuilderFlag, DataType, ILogger, IProgressMonitor, MemoryPoolType, NetworkDefinitionCreationFlag,
    init_libnvinfer_plugins,
)
from tests.engines.runtime.standin import tensorrt as standin
from tests.engines.runtime.standin.gpu import Gpu

__version__ = "11.4.0.106"
standin.gpu = Gpu(Path(os.environ["STANDIN_GPU"]))
standin.gpu.restore()
standin.KINDS = {np.float32: DataType.FLOAT, np.float16: DataType.HALF, np.int64: DataType.INT64}
TensorIOMode, TensorLocation, TensorFormat = standin.TensorIOMode, standin.TensorLocation, standin.TensorFormat
Runtime = standin.Runtime
parsed = []


class OnnxParser(rtx.OnnxParser):
    def parse(self, model):
        parsed[:] = [bytes(model)]
        return super().parse(model)


class Timing:
    def serialize(self):
        return b"measured"


class Config:
    def __init__(self, inner):
        self.__dict__["inner"] = inner

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def __setattr__(self, name, value):
        setattr(self.inner, name, value)

    def create_timing_cache(self, data):
        return Timing()

    def set_timing_cache(self, cache, ignore_mismatch):
        return True


class Builder(rtx.Builder):
    def create_builder_config(self):
        return Config(super().create_builder_config())

    def build_serialized_network(self, network, config):
        if os.environ.get("STANDIN_DIES"):
            os.abort()
        assert super().build_serialized_network(network, config.inner) is not None
        return parsed[0]
"""


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """The environment of its processes; FireNet's weights are installed, made of random numbers."""
    if shutil.which("cc") is None:
        reason = "needs a C compiler as `cc`"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("machine")
    (folder / "driver").mkdir()
    build(folder / "driver")
    (folder / "site" / "tensorrt").mkdir(parents=True)
    (folder / "site" / "tensorrt" / "__init__.py").write_text(PACKAGE)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(folder / "driver"),
        "STANDIN_GPU": str(folder / "driver" / "libcuda.so.1"),
        "PYTHONPATH": os.pathsep.join([str(folder / "site"), str(ROOT)]),
        "RTPIPE_WEIGHTS": str(folder / "weights"),
        "XDG_CACHE_HOME": str(folder / "cache"),
        "XDG_RUNTIME_DIR": str(folder),
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RTPIPE_WEIGHTS", environment["RTPIPE_WEIGHTS"])
        found, properties = firenet.NETWORK.recognise(random_weights(firenet.NETWORK.shapes()), {}, {})
        store.save(found, properties, {"file": "x.pth"}, name="firenet")
    return environment


def rtpipe(machine: Mapping[str, str], *words: str, **more: str) -> tuple[int, str, str]:
    one = min(os.sched_getaffinity(0))  # PyTorch's threads wait for each other in circles where other tests run too
    command = ["taskset", "-c", str(one), sys.executable, "-m", "rtpipe", *words]
    done = subprocess.run(command, capture_output=True, text=True, env={**machine, **more}, timeout=250, check=False)
    return done.returncode, done.stdout, done.stderr


def test_a_plan_is_built_once_and_found_again_and_a_damaged_one_is_not(machine: Mapping[str, str]) -> None:
    command = ("engines", "build", "firenet", "--size", "40x28", "--json")
    code, said, error = rtpipe(machine, *command)
    assert code == 0, error
    (plan,) = json.loads(said)["plans"]
    path = Path(plan["path"])
    assert path.is_relative_to(machine["XDG_CACHE_HOME"])
    assert (plan["kept_before"], plan["library"]) == (False, "TensorRT 11.4.0.106")
    _, said, _ = rtpipe(machine, *command)
    (again,) = json.loads(said)["plans"]
    assert (again["kept_before"], again["path"]) == (True, plan["path"])
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)
    _, said, error = rtpipe(machine, *command)
    assert json.loads(said)["plans"][0]["kept_before"] is False
    assert "is damaged or not what it should be" in error


@pytest.mark.slow
def test_check_holds_tensorrt_to_the_reference_in_both_precisions(machine: Mapping[str, str]) -> None:
    code, said, error = rtpipe(machine, "engines", "check", "firenet", "--size", "40x28", "--seconds", "0", "--json")
    told = json.loads(said)
    assert (code, [way["says"] for way in told["ways"] if way["state"] in ("wrong", "failed")]) == (0, []), error
    ways = {(way["runtime"], way["precision"]): way for way in told["ways"] if way["state"] != "absent"}
    assert set(ways) == {("torch", "fp32"), ("onnxruntime", "fp32"), ("tensorrt", "fp32"), ("tensorrt", "fp16")}
    single, half = ways["tensorrt", "fp32"], ways["tensorrt", "fp16"]
    assert single["state"] == half["state"] == "right"
    assert single["max_error"] < 1e-5 < half["max_error"]
    assert "CUDA graph launches" in half["facts"]["runtime"]
    assert half["gpu_mib"] is not None
    assert told["gpu"]["compute_capability"]
    facts = {fact["part"]: fact["says"] for fact in told["machine"]}
    assert "compute capability" in facts["GPU"]
    assert facts["TensorRT"] == "TensorRT 11.4.0.106 serves this GPU"
    assert facts["networks"].startswith("TensorRT 11.4.0.106 takes firenet")


@pytest.mark.slow
def test_a_build_that_crashes_is_a_line_of_the_report(machine: Mapping[str, str]) -> None:
    words = ("engines", "check", "firenet", "--size", "44x28", "--seconds", "0", "--precision", "fp32")
    code, said, _ = rtpipe(machine, *words, STANDIN_DIES="1")
    assert code == 1
    (row,) = [line for line in said.splitlines() if line.startswith("TensorRT, GPU, fp32")]
    assert "failed" in row
    assert "NOT RIGHT: TensorRT, GPU, fp32 at 44x28" in said
    assert "ONNX Runtime, CPU, fp32" in said


@pytest.mark.slow
def test_a_run_takes_tensorrt_by_itself_and_says_so(machine: Mapping[str, str], tmp_path: Path) -> None:
    config = tmp_path / "pipeline.yaml"
    config.write_text(
        "sources:\n  camera: {driver: synthetic, rate_mev_s: 0.05, seconds: 0.3, width: 40, height: 28}\n"
        "window: {of: camera, by: time, length_us: 20000}\nengine: {network: firenet}\n"
        f"sinks:\n  - {{sink: record, dir: {tmp_path}, name: run, streams: [output]}}\n"
    )
    code, said, error = rtpipe(machine, "run", str(config), "--json")
    assert code == 0, error
    facts = {fact["fact"]: fact["value"] for fact in json.loads(said)["facts"] if fact["of"] == "engine"}
    assert facts["runtime"].startswith("TensorRT 11.4.0.106, cuda, fp16, ")
    assert facts["chosen"] == "it is the first choice"


@pytest.mark.slow
def test_the_benchmark_has_tensorrt_beside_the_others(machine: Mapping[str, str]) -> None:
    words = ("bench", "engine", "firenet", "--size", "40x28", "--seconds", "0.01", "--json")
    code, said, error = rtpipe(machine, *words)
    assert code == 0, error
    (row,) = json.loads(said)
    assert row["contender"] == "rtpipe: TensorRT 11.4.0.106, cuda, fp16"
    assert row["rate"] > 0
