"""The project file, the exact versions beside it, what a wheel holds and what an installation brings."""

import importlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

tomllib = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.10", "3.11", "3.12", "3.13")
HEAVY = re.compile(r"torch|nvidia|cuda|triton|cudnn|tensorrt")


def project() -> dict[str, Any]:
    table: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return table


def listed(file: str) -> list[Requirement]:
    """The requirements in a file, comments left out."""
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line]


def asked_for(*extras: str) -> list[Requirement]:
    """What the metadata asks for: the base, and these extras."""
    lines = [
        *project()["dependencies"],
        *(line for name in extras for line in project()["optional-dependencies"][name]),
    ]
    return [Requirement(line) for line in lines]


def test_the_base_asks_for_neither_pytorch_nor_cuda() -> None:
    assert [str(part) for part in asked_for("cameras", "demo", "dev") if HEAVY.search(part.name)] == []


def test_pytorch_is_an_extra_with_a_range_and_exact_only_for_the_tests() -> None:
    assert "torch>=2.4" in project()["optional-dependencies"]["torch"]
    assert [str(part) for part in listed("requirements-test.txt") if part.name == "torch"] == ["torch==2.13.0"]
    assert [str(part) for part in listed("constraints.txt") if part.name == "torch"] == ["torch==2.13.0"]


@pytest.mark.parametrize("python", PYTHONS)
def test_every_direct_dependency_is_pinned_within_its_range(python: str) -> None:
    pins: dict[str, str] = {}
    for pin in listed("constraints.txt"):
        if pin.marker is None or pin.marker.evaluate({"python_version": python}):
            name = canonicalize_name(pin.name)
            assert name not in pins, f"{name} is pinned twice for Python {python}"
            (one,) = pin.specifier
            assert one.operator == "==", f"{pin}: an exact version is wanted"
            pins[name] = one.version
    for part in [*asked_for("cameras", "demo", "dev"), *listed("requirements-test.txt")]:
        version = pins.get(canonicalize_name(part.name))
        assert version is not None, f"{part.name} has no exact version in constraints.txt for Python {python}"
        assert part.specifier.contains(version), f"{part}: constraints.txt says {version}"


def test_the_pythons_promised_are_those_that_are_pinned() -> None:
    assert project()["requires-python"] == ">=3.10,<3.14"


def test_the_installed_entry_points_are_those_of_the_project_file() -> None:
    """Where this fails, .venv is older than pyproject.toml: `make test` brings it up to date."""
    from importlib.metadata import distribution

    installed: dict[str, dict[str, str]] = {}
    for point in distribution("rtpipe").entry_points:
        installed.setdefault(point.group, {})[point.name] = point.value
    declared = {f"{group}": dict(points) for group, points in project()["entry-points"].items()}
    assert installed == {**declared, "console_scripts": project()["scripts"]}


def test_the_licence_is_apache_2() -> None:
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert project()["license"] == "Apache-2.0"
    assert "Apache License" in text
    assert "Version 2.0, January 2004" in text
    assert "END OF TERMS AND CONDITIONS" in text


WITHOUT_PYTORCH = """
import sys

class NoPyTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "dv_processing", "eventcv", "rosbags", "skimage"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoPyTorch())
import rtpipe, rtpipe.cli
from rtpipe import registry
for group in registry.GROUPS:
    for name in registry.names(group):
        registry.load(group, name)
        print(group, name)
"""


def test_every_part_imports_without_pytorch_the_extras_and_the_tests_peers() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_PYTORCH], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "engines edi" in done.stdout


def make(*arguments: str) -> str:
    """What make would do, in its own words."""
    return subprocess.run(["make", "-n", "-B", *arguments], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_make_demo_installs_the_demo_alone() -> None:
    said = make("demo")
    assert "-e '.[demo]'" in said
    assert "rtpipe demo" in said
    assert "requirements-test" not in said


def test_ci_runs_the_targets_that_a_developer_types() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.findall(r"make (test-slow|test|lint)\b", script) == ["test", "test-slow", "lint"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


@pytest.fixture(scope="module")
def check_wheels() -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_wheels", ROOT / "scripts" / "check_wheels.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_wheels"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_wheels_are_asked_for_the_base_and_the_cameras(check_wheels: ModuleType) -> None:
    wanted = check_wheels.requirements((ROOT / "pyproject.toml").read_text(encoding="utf-8"), ["cameras"])
    assert [Requirement(line) for line in wanted] == asked_for("cameras")


def test_wheels_are_asked_for_by_python_and_machine_and_never_built(check_wheels: ModuleType) -> None:
    call = check_wheels.command(["numpy>=2.0"], "3.10", "aarch64", "empty", alone=False)
    assert {"--dry-run", "--only-binary=:all:", "manylinux_2_35_aarch64", "manylinux_2_17_aarch64"} <= set(call)
    assert call[call.index("--python-version") + 1] == "3.10"
    assert "manylinux_2_36_aarch64" not in call
    assert "--no-deps" not in call
    assert call[-1] == "numpy>=2.0"


def test_a_wheel_is_described_by_version_and_system(check_wheels: ModuleType) -> None:
    report = {
        "install": [
            {"metadata": {"name": "dv_processing"}, "download_info": {"url": "https://x/a/dv-2-cp310-cp310-any.whl#h"}}
        ]
    }
    assert check_wheels.wheels(report) == {"dv-processing": "dv-2-cp310-cp310-any.whl"}
    long = "numpy-2.2.6-cp310-cp310-manylinux_2_17_aarch64.manylinux2014_aarch64.whl"
    assert check_wheels.describe(long) == "2.2.6 manylinux_2_17"
    assert check_wheels.describe("rich-15.0.0-py3-none-any.whl") == "15.0.0 pure"


def test_a_missing_wheel_is_named_and_fails(
    check_wheels: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def pip(call: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        if any(part.startswith("dv-processing") for part in call):
            error = "Looking\nERROR: Could not find it\nERROR: No matching distribution found for dv-processing"
            return subprocess.CompletedProcess(call, 1, "", error)
        name = Requirement(call[-1]).name
        url = f"https://x/{name}-1-py3-none-any.whl"
        item = {"metadata": {"name": name}, "download_info": {"url": url}}
        return subprocess.CompletedProcess(call, 0, json.dumps({"install": [item]}), "")

    monkeypatch.setattr(check_wheels.subprocess, "run", pip)
    monkeypatch.setattr(sys, "argv", ["check_wheels.py", "--python", "3.10"])
    assert check_wheels.main() == 1
    said = capsys.readouterr().out
    assert "no aarch64 wheel for Python 3.10: dv-processing>=2.0: No matching distribution" in said
    assert re.search(r"^numpy +1 pure$", said, re.MULTILINE)
    assert re.search(r"^dv-processing +-$", said, re.MULTILINE)
    assert said.count("no aarch64 wheel") == 1


def built_wheel(folder: Path) -> Path:
    call = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run(call, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


@pytest.mark.slow
def test_a_wheel_brings_the_packages_configs_and_licence(tmp_path: Path) -> None:
    names = set(zipfile.ZipFile(built_wheel(tmp_path)).namelist())
    configs = {f"rtpipe/configs/{file.name}" for file in (ROOT / "configs").glob("*.yaml")}
    assert configs
    assert configs <= names
    assert {"rtpipe/py.typed", "rtpipe/types.py", "engines/edi.py", "drivers/replay.py"} <= names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.startswith(("tests", "scripts", "recordings"))]


@pytest.mark.slow
def test_a_clean_installation_runs_and_brings_no_pytorch(tmp_path: Path) -> None:
    """The wheel alone, in a fresh environment and away from the checkout."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    wheel = built_wheel(tmp_path)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--quiet", "-c", str(ROOT / "constraints.txt"), str(wheel)], check=True)
    names = "from importlib.metadata import distributions as d; print(*(each.metadata['Name'] for each in d()))"
    said = subprocess.run([str(python), "-c", names], check=True, capture_output=True, text=True).stdout
    installed = {name.lower() for name in said.split()}
    assert {"rtpipe", "numpy", "onnxruntime"} <= installed
    assert not {name for name in installed if HEAVY.search(name)}
    rtpipe = [str(python.with_name("rtpipe")), "doctor", "--json"]
    done = subprocess.run(rtpipe, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["can_run"] is True
