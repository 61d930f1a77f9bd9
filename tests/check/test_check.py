"""`rtpipe engines check`: what is right passes; what is wrong, crashes or is not there is named, in words and JSON."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from rtpipe.check import apart, check
from rtpipe.check.apart import run_apart, run_here
from rtpipe.check.check import Checked
from rtpipe.check.one import RESET, Task, take
from rtpipe.check.scene import SILENT, STEPS, Scene
from rtpipe.cli import app, engines_check
from rtpipe.errors import InputError, WorldError
from rtpipe.stage import EngineSpec
from rtpipe.weights.made_up import weights_for
from tests.check import fake_runtime

SIZE = (43, 29)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))


def checked(precision: str = "auto", **more: Any) -> check.Report:
    return check.check("firenet", [SIZE], precision=precision, seconds=0.0, threads=1, run=run_here, **more)


def of(report: check.Report, runtime: str, device: str, precision: str) -> Checked:
    (found,) = [w for w in report.ways if (w.runtime, w.device, w.precision) == (runtime, device, precision)]
    return found


def test_the_scene_is_the_same_wherever_it_is_made_and_has_what_a_network_must_stand() -> None:
    spec = EngineSpec("any", "voxel", needs_frame=True, stateful=True, bins=5)
    one, other = Scene(spec, SIZE), Scene(spec, SIZE)
    counts = []
    for step in range(STEPS):
        a, b = one.window(step), other.window(step)
        assert a.tensor is not None
        assert b.tensor is not None
        assert a.frame is not None
        assert (a.tensor == b.tensor).all()
        assert a.frame.resolution == SIZE
        assert a.frame.image.std() > 10, "a picture with contrast"
        assert a.frame.exposure_start == a.t_start
        counts.append(a.n_events)
    assert counts[SILENT] == 0
    assert min(n for step, n in enumerate(counts) if step != SILENT) > SIZE[0] * SIZE[1] / 4


def test_runtimes_of_this_machine_agree_and_the_others_say_why_they_are_not_here() -> None:
    report = checked()
    assert report.right
    assert report.random
    reference, other = of(report, "torch", "cpu", "fp32"), of(report, "onnxruntime", "cpu", "fp32")
    assert reference.reference
    assert (other.state, other.reference) == ("right", False)
    assert other.max_error is not None
    assert other.max_error < 1e-5
    assert other.network_p50_ms is not None
    assert other.picture_p50_ms is not None
    assert 0 < other.network_p50_ms <= other.picture_p50_ms
    absent = {(w.runtime, w.device): w.says for w in report.ways if w.state == "absent"}
    for runtime in ("onnxruntime", "torch"):
        if (runtime, "cuda") in absent:
            assert "NVIDIA driver" in absent[runtime, "cuda"]


@pytest.mark.parametrize(
    ("fault", "precision", "state", "says"),
    [
        ({}, "fp32", "right", ""),
        ({"spoil": fake_runtime.rounded}, "fp16", "right", ""),
        ({}, "fp16", "right", "as exact as single precision: is it half?"),
        ({"spoil": fake_runtime.rounded}, "fp32", "wrong", "wrong"),
        ({"forgets": True}, "fp16", "wrong", "right in the first step, wrong from step 1 on: its states differ"),
        ({"remembers": True}, "fp32", "wrong", "wrong"),
        ({"spoil": lambda step, made: [one * np.nan for one in made]}, "fp16", "failed", "not finite numbers"),
        ({"spoil": lambda step, made: [one[..., ::-1] for one in made]}, "fp16", "wrong", "wrong in every step"),
        ({"fails": RuntimeError("no memory\nmore")}, "fp16", "failed", "TensorRT on cuda failed: no memory"),
        ({"fails": ImportError("gone")}, "fp16", "failed", "TensorRT on cuda failed: gone"),
    ],
)
def test_a_tensorrt_that_is_wrong_is_found_and_one_that_rounds_is_not(
    monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], precision: str, state: str, says: str
) -> None:
    fake_runtime.install(monkeypatch, **fault)
    told: list[str] = []
    report = checked(precision, progress=told.append)
    found = of(report, "tensorrt", "cuda", precision)
    assert found.state == state, found
    assert says in found.says
    assert bool(says) == bool(found.says)
    assert report.right == (state == "right")
    assert found.version == "10.3.0"
    assert f"tensorrt on cuda, {precision}, 43x29: TensorRT: building firenet, 50 % after 3 s" in told
    if state == "right":
        assert found.facts["runtime"] == f"TensorRT 10.3.0, cuda, {precision}, captured graph"


@pytest.mark.parametrize("mixes", [False, True])
def test_steps_that_overlap_are_timed_and_held_to_single_ones(monkeypatch: pytest.MonkeyPatch, mixes: bool) -> None:
    fake_runtime.install(monkeypatch, overlaps=True, mixes=mixes)
    found = of(checked("fp32"), "tensorrt", "cuda", "fp32")
    assert found.state == ("failed" if mixes else "right")
    assert ("steps that overlap give other outputs" in found.says) == mixes
    assert (found.overlapped_ms is None) == mixes


def test_a_runtime_without_overlap_has_no_time_for_it() -> None:
    assert of(checked("fp32"), "onnxruntime", "cpu", "fp32").overlapped_ms is None


def test_both_precisions_are_checked_on_a_gpu_unless_one_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runtime.install(monkeypatch)
    ran = [(w.runtime, w.precision) for w in checked().ways if w.state != "absent" and w.device == "cuda"]
    assert ran == [("tensorrt", "fp16"), ("tensorrt", "fp32")]


def test_without_a_reference_nothing_is_called_right() -> None:
    def run(task: Task, folder: Path, progress: Any) -> apart.Outcome:
        return apart.Outcome(failure="broken")

    with pytest.raises(WorldError, match="nothing to compare with"):
        check.check("firenet", [SIZE], run=run)


def test_where_pytorch_fails_onnx_runtime_is_the_reference() -> None:
    def run(task: Task, folder: Path, progress: Any) -> apart.Outcome:
        return apart.Outcome(failure="broken") if task.runtime == "torch" else run_here(task, folder, progress)

    report = check.check("firenet", [SIZE], seconds=0.0, threads=1, run=run)
    assert of(report, "onnxruntime", "cpu", "fp32").reference
    assert (of(report, "torch", "cpu", "fp32").state, report.right) == ("failed", False)


def test_what_is_no_network_or_has_no_weights_is_refused() -> None:
    with pytest.raises(InputError, match="edi is no network"):
        check.check("edi")
    with pytest.raises(InputError, match="there are no weights 'mine'"):
        check.check("firenet", [SIZE], weights="mine")


@pytest.fixture
def task(tmp_path: Path) -> Iterator[Task]:
    from rtpipe import registry

    with weights_for("firenet", registry.load("engines", "firenet")) as stored:
        yield Task("firenet", str(stored.path), SIZE, "onnxruntime", "cpu", "fp32", 0.0, 1)


def test_apart_and_here_give_the_same_bits(task: Task, tmp_path: Path) -> None:
    taken, here = take(task, lambda text: None)
    told: list[str] = []
    outcome = run_apart(task, tmp_path, told.append)
    assert outcome.failure == ""
    assert outcome.taken is not None
    assert outcome.taken.facts["weights"] == "firenet-random"
    assert set(outcome.arrays) == set(here) == {f"{step}.0.0" for step in range(STEPS)} | {f"{RESET}.0.0", "picture"}
    for name, array in here.items():
        np.testing.assert_array_equal(outcome.arrays[name], array)
    np.testing.assert_array_equal(here["0.0.0"], here[f"{RESET}.0.0"])
    assert len(taken.picture_ms) == len(taken.network_ms) >= 10
    assert told[-1] == "timing"


def test_what_a_runtime_refuses_comes_back_in_words(task: Task, tmp_path: Path) -> None:
    import msgspec

    refused = msgspec.structs.replace(task, precision="fp16")
    assert "fp16 on a CPU saves no time" in run_apart(refused, tmp_path, lambda text: None).failure


CRASHES = {
    "segfault": ("os.kill(os.getpid(), 11)", "its process died of SIGSEGV (loading); it printed: about to"),
    "exit": ("os._exit(7)", "its process ended with exit code 7 (loading); it printed: about to"),
    "hang": ("time.sleep(60)", "its process said nothing for 2 s and was ended (loading); it printed: about to"),
}


@pytest.mark.parametrize("how", CRASHES)
def test_a_process_that_dies_or_hangs_is_a_line_of_the_report(
    task: Task, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    code, says = CRASHES[how]
    fake = tmp_path / "python"
    fake.write_text(
        f"#!{sys.executable}\nimport os, sys, time\nsys.stderr.write('about to\\n\\n'); sys.stderr.flush()\n"
        f"print('{{\"progress\": \"loading\"}}', flush=True)\nprint('noise', flush=True)\n{code}\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(apart.sys, "executable", str(fake))
    began = time.monotonic()
    outcome = run_apart(task, tmp_path, lambda text: None, patience_s=2.0)
    assert outcome.taken is None
    assert outcome.failure == says
    assert time.monotonic() - began < 30


def ask(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["engines", "check", "firenet", "--size", "43x29", "--seconds", "0", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check.check, "__kwdefaults__", {**check.check.__kwdefaults__, "run": run_here, "threads": 1})


@pytest.mark.usefixtures("here")
def test_the_table_shows_verdicts_errors_and_times_side_by_side(monkeypatch: pytest.MonkeyPatch) -> None:
    fake_runtime.install(monkeypatch, forgets=True)
    code, said = ask("--precision", "fp16")
    assert code == 1
    rows = {line[: line.index("  ")]: line for line in said.splitlines() if ", " in line and "  " in line}
    assert "reference" in rows["PyTorch, CPU, fp32"]
    assert "right" in rows["ONNX Runtime, CPU, fp32"]
    assert "wrong: right in the first step, wrong from step 1 on" in rows["TensorRT, GPU, fp16"]
    assert "random numbers for weights" in said
    assert "NOT RIGHT: TensorRT, GPU, fp16 at 43x29" in said
    assert "not here: PyTorch, GPU: needs an NVIDIA driver" in said or "PyTorch, GPU" in rows


@pytest.mark.usefixtures("here")
def test_the_report_is_the_json_with_what_one_must_know_of_the_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fake_runtime.install(monkeypatch)
    code, said = ask("--precision", "fp32", "--json", "--report", str(tmp_path / "report.json"))
    assert code == 0
    told = json.loads(said)
    assert json.loads((tmp_path / "report.json").read_text()) == told
    assert (told["network"], told["random"], told["right"]) == ("firenet", True, True)
    assert {"processor", "GPU", "TensorRT", "ONNX Runtime"} <= {fact["part"] for fact in told["machine"]}
    (way,) = [way for way in told["ways"] if way["runtime"] == "tensorrt"]
    assert (way["state"], way["version"], way["size"], way["timed"] >= 10) == ("right", "10.3.0", [43, 29], True)


def test_a_report_that_cannot_be_written_is_said_before_anything_runs(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a folder; a file is wanted"):
        ask("--report", str(tmp_path))
    with pytest.raises(InputError, match="not both"):
        ask("--random-weights", "--weights", "x")


def test_errors_that_are_no_numbers_are_json_all_the_same() -> None:
    import msgspec

    way = Checked("tensorrt", "cuda", "fp16", SIZE, "wrong", max_error=float("inf"), psnr_db=float("nan"))
    assert json.loads(msgspec.json.encode(way))["max_error"] is None
    assert engines_check.table([way], "43x29").row_count == 1


def test_a_network_that_comes_as_onnx_is_held_to_onnx_runtime() -> None:
    report = check.check("pienet", [(44, 28)], seconds=0.0, threads=1, run=run_here)
    assert report.random
    assert of(report, "onnxruntime", "cpu", "fp32").reference
    assert of(report, "torch", "", "").says == "it cannot run this network, which comes as an ONNX file"
