"""`rtpipe doctor`: true facts about this machine and about machines that are described to it, whatever is broken."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
from typer import Typer
from typer.testing import CliRunner

from rtpipe import registry
from rtpipe.cli import doctor
from rtpipe.errors import InputError
from rtpipe.machine import base, extras
from rtpipe.machine.examine import Probe, examine
from rtpipe.machine.fact import Fact, mend_import

INTEL = "processor : 0\nmodel name\t: Core i7\nflags\t\t: fpu sse2 avx2 avx512f\n"
JETSON = "processor : 0\nFeatures\t: fp asimd crc32\n"


def test_the_processor_and_its_vector_units_are_read() -> None:
    assert base.processor(INTEL, 8) == Fact("machine", "processor", "ok", "Core i7, 8 cores, avx2, avx512f")
    assert base.processor(JETSON, 6).says.endswith("6 cores, asimd")
    assert base.processor(INTEL, 1).state == "note"


def test_little_memory_is_noted() -> None:
    plenty = "MemTotal: 8388608 kB\nMemFree: 1 kB\nMemAvailable: 4194304 kB\n"
    assert base.memory(plenty) == Fact("machine", "memory", "ok", "4.0 of 8.0 GiB free")
    assert base.memory(plenty.replace("4194304", "1048576")).state == "note"


def test_recordings_go_where_something_can_be_written(tmp_path: Path) -> None:
    fact = base.recordings(tmp_path / "not" / "there")
    assert "GiB free" in fact.says
    assert not (tmp_path / "not").exists()


def test_a_recordings_directory_that_cannot_be_written_is_said() -> None:
    fact = base.recordings(Path("/proc/recordings"))  # where not even root makes files
    assert fact.state == "note"
    assert "cannot be written" in fact.says


def test_base_packages_are_those_of_the_metadata() -> None:
    names = {name.lower() for name in base.base_packages()}
    assert {"numpy", "pyyaml", "pyzmq", "onnxruntime"} <= names
    assert not {"torch", "pytest", "scikit-image"} & names


def test_a_package_that_does_not_import_is_a_fact_with_its_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_part.py").write_text("raise ImportError('libGL.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    fact = base.package("broken-part")
    assert (fact.state, fact.required, fact.mend) == ("missing", True, "sudo apt-get install libgl1")
    assert "libGL.so.1" in fact.says
    absent = base.package("no-such-part")
    assert (absent.state, absent.mend) == ("missing", "pip install 'no-such-part'")


def test_a_broken_package_is_installed_anew_and_an_absent_one_installed() -> None:
    assert mend_import(ImportError("undefined symbol"), "av") == "pip install --force-reinstall 'av'"
    assert mend_import(ModuleNotFoundError("No module named 'av'"), "av") == "pip install 'av'"


def test_a_jetson_and_a_workstation_are_told_from_a_machine_without_gpu(tmp_path: Path) -> None:
    assert extras.nvidia_gpu(tmp_path) == ""
    driver = tmp_path / "proc" / "driver" / "nvidia" / "version"
    driver.parent.mkdir(parents=True)
    driver.write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.1\n")
    assert extras.nvidia_gpu(tmp_path).startswith("NVRM version")
    release = tmp_path / "etc" / "nv_tegra_release"
    release.parent.mkdir()
    release.write_text("# R38 (release), REVISION: 2.0\nmore")
    assert extras.nvidia_gpu(tmp_path) == "# R38 (release), REVISION: 2.0", "Thor's driver has both files"


def test_both_onnx_runtimes_at_once_are_noted_with_the_one_in_charge(monkeypatch: pytest.MonkeyPatch) -> None:
    runtime = ModuleType("onnxruntime")
    runtime.__version__ = "1.9"  # type: ignore[attr-defined]
    runtime.get_available_providers = lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    monkeypatch.setattr(extras.metadata, "version", lambda name: "1.9")
    fact = extras.onnx_runtime()
    assert fact.state == "note"
    assert "onnxruntime-gpu 1.9 is in charge, runs on CUDA, CPU" in fact.says
    assert fact.mend.startswith("pip uninstall -y onnxruntime onnxruntime-gpu")


def test_parts_that_do_not_import_are_named_beside_those_that_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(group: str, name: str) -> ModuleType:
        absent = {"needs_sdk": "dv_processing", "needs_ours": "rtpipe.gone"}.get(name)
        if absent:
            raise InputError("not installed") from ModuleNotFoundError(f"No module named {absent!r}", name=absent)
        if name == "broken":
            raise SyntaxError("invalid syntax")
        return ModuleType(name)

    monkeypatch.setattr(registry, "names", lambda group: ("good", "needs_sdk", "needs_ours", "broken"))
    monkeypatch.setattr(registry, "load", load)
    good, needs_sdk, needs_ours, broken = base.parts("drivers")
    assert (good.part, good.says) == ("drivers", "good")
    assert (needs_sdk.part, needs_sdk.state, needs_sdk.required) == ("driver needs_sdk", "note", False)
    assert needs_sdk.mend == "pip install 'rtpipe[cameras]'"
    assert (needs_ours.state, needs_ours.required) == ("missing", True)
    assert (broken.state, broken.required) == ("missing", True)


def crash() -> Fact:
    os.kill(os.getpid(), signal.SIGKILL)
    return Fact("base", "crash", "ok", "")


def hang() -> Fact:
    time.sleep(30)
    return Fact("base", "hang", "ok", "")


def raise_() -> Fact:
    raise OSError("no such thing")


def noisy() -> list[Fact]:
    os.write(1, b"noise")
    print("noise")
    return [Fact("base", "noisy", "ok", "first"), Fact("base", "noisy", "note", "second")]


def test_a_probe_that_crashes_hangs_or_raises_is_a_fact_and_the_rest_is_told(capfd: pytest.CaptureFixture[str]) -> None:
    probes = [
        Probe("base", "crash", crash, required=True),
        Probe("base", "hang", hang),
        Probe("base", "raise", raise_),
        Probe("base", "noisy", noisy),
    ]
    facts = examine(probes, patience_s=1.0)
    assert [(fact.part, fact.state) for fact in facts] == [
        ("crash", "missing"),
        ("hang", "missing"),
        ("raise", "missing"),
        ("noisy", "ok"),
        ("noisy", "note"),
    ]
    assert [fact.says for fact in facts[:3]] == [
        "the process that tried it died of SIGKILL",
        "did not answer within 1 s",
        "OSError: no such thing",
    ]
    assert facts[0].required
    assert "noise" not in capfd.readouterr().out


def ask(monkeypatch: pytest.MonkeyPatch, *facts: Fact, options: tuple[str, ...] = ()) -> tuple[int, str]:
    """Exit code and output of the verb on a machine with these facts."""
    monkeypatch.setattr(doctor, "probes", lambda: [Probe("base", "all", lambda: list(facts))])
    app = Typer()
    app.command()(doctor.doctor)
    result = CliRunner().invoke(app, list(options))
    return result.exit_code, result.stdout


def test_exit_code_1_only_if_a_required_part_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    optional = Fact("cameras", "dv-processing", "missing", "broken", "pip install 'rtpipe[cameras]'")
    needed = Fact("base", "av", "missing", "broken", "pip install av", required=True)
    code, said = ask(monkeypatch, optional)
    assert code == 0
    assert "pip install 'rtpipe[cameras]'" in said
    code, said = ask(monkeypatch, optional, needed)
    assert code == 1
    assert "cannot run here" in said


def test_json_tells_what_the_table_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    facts = (Fact("machine", "memory", "note", "1 GiB [free]"), Fact("base", "av", "missing", "x", "y", required=True))
    code, said = ask(monkeypatch, *facts, options=("--json",))
    assert code == 1
    told = json.loads(said)
    assert told["can_run"] is False
    assert [Fact(**fact) for fact in told["facts"]] == list(facts)
    _, table = ask(monkeypatch, *facts)
    assert all(word in table for word in ("machine", "memory", "1 GiB [free]", "base", "av", "→ y"))


def test_this_machine_can_run_rtpipe() -> None:
    """The whole examination, as a user types it."""
    done = subprocess.run([sys.executable, "-m", "rtpipe", "doctor", "--json"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    facts = [Fact(**fact) for fact in json.loads(done.stdout)["facts"]]
    working = {fact.part for fact in facts if fact.state == "ok"}
    assert {"Python", "kernels", "transport", "video", "drivers", "engines", "sinks", "formats"} <= working
    assert set(base.base_packages()) <= working
    assert {fact.group for fact in facts} == {"machine", "base", "accelerators", "cameras", "parts"}
