"""`rtpipe engines build`: what is built, kept, tried or refused, and what is said of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from engines.runtime import choose
from engines.runtime.graph import Graph
from rtpipe.cli import app, waiting
from rtpipe.errors import InputError, WorldError
from rtpipe.runtimes import Built, Library
from rtpipe.weights import store
from rtpipe.weights.made_up import random_weights

SERVES = Library("TensorRT", "10.3.0")
TRIES = Library("TensorRT for RTX", "1.7.1", "TensorRT needs an NVIDIA GPU, and none is seen here", builds=True)


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FireNet's weights are installed, made of random numbers; nobody else's."""
    from engines import firenet

    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    found, properties = firenet.NETWORK.recognise(random_weights(firenet.NETWORK.shapes()), {}, {})
    store.save(found, properties, {"file": "x.pth"}, name="firenet")


class Machine:
    """One whose TensorRT builds what it is told to; notes what that was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, library: Library, fails: Exception | None = None) -> None:
        self.built: list[tuple[str, tuple[int, ...], str, bool, int]] = []
        self._fails = fails
        monkeypatch.setattr(choose, "tensorrt", lambda: library)
        monkeypatch.setattr(choose, "build", self.build)
        self.title = f"{library.title} {library.version}"

    def build(
        self, graph: Graph, precision: str, *, keep: bool, workspace_mb: int, progress: Callable[[str], None]
    ) -> Built:
        progress("TensorRT: building, 50 % after 62 s")
        if self._fails is not None:
            raise self._fails
        self.built.append((graph.name, graph.inputs[0].shape, precision, keep, workspace_mb))
        path = f"/cache/{graph.name}-{len(self.built)}.plan" if keep else ""
        return Built(path, 3 << 20, 61.7, len(self.built) > 2, self.title, "for Orin" if keep else "44 layers")


def ask(*words: str) -> str:
    done = CliRunner().invoke(app, ["engines", "build", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def test_every_size_is_built_once_and_said_with_its_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, SERVES)
    said = ask("firenet", "--size", "64x48", "--size", "33x21", "--size", "64x48", "--workspace", "512")
    assert [(*each[:1], *each[2:]) for each in machine.built] == [("firenet", "fp16", True, 512)] * 2
    assert machine.built[0][1][-2:] == (48, 64)
    assert said.splitlines() == [
        "firenet 64x48 fp16: built by TensorRT 10.3.0 in 62 s; for Orin",
        "  /cache/firenet-1.plan (3.0 MiB)",
        "firenet 33x21 fp16: built by TensorRT 10.3.0 in 62 s; for Orin",
        "  /cache/firenet-2.plan (3.0 MiB)",
        "the next run with these weights, size and precision starts from the plan",
    ]


def test_a_plan_that_is_there_already_is_said_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, SERVES)
    sizes = [word for size in ("8x8", "16x16", "24x24") for word in ("--size", size)]
    assert "firenet 24x24 fp32: was built before: /cache/firenet-3.plan (3.0 MiB)" in ask(
        "firenet", *sizes, "--precision", "fp32"
    )


def test_json_tells_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, SERVES)
    told = json.loads(ask("firenet", "--size", "64x48", "--json"))
    (plan,) = told.pop("plans")
    assert told == {"network": "firenet", "weights": "firenet", "precision": "fp16"}
    assert (plan["size"], plan["path"], plan["kept_before"]) == ([64, 48], "/cache/firenet-1.plan", False)


def test_where_nothing_can_run_the_reason_is_given_and_the_way_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, TRIES)
    with pytest.raises(InputError, match="none is seen here\n--dry-run parses and builds it all the same"):
        ask("firenet", "--size", "64x48")
    assert machine.built == []
    said = ask("firenet", "--size", "64x48", "--dry-run")
    assert machine.built[0][3] is False
    assert said.splitlines() == [
        "firenet 64x48 fp16: builds with TensorRT for RTX 1.7.1, 3.0 MiB in 62 s; 44 layers",
        "nothing was kept: TensorRT needs an NVIDIA GPU, and none is seen here",
    ]
    Machine(monkeypatch, Library("", "", "tensorrt is not installed: how to get it"))
    with pytest.raises(InputError, match=r"^tensorrt is not installed: how to get it$"):
        ask("firenet", "--size", "64x48", "--dry-run")


def test_networks_without_weights_can_be_tried_with_random_ones_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, TRIES)
    with pytest.raises(InputError, match="there are no weights 'e2vid'"):
        ask("e2vid", "--size", "64x48", "--dry-run")
    with pytest.raises(InputError, match="a plan of random numbers is of no use"):
        ask("e2vid", "--size", "64x48", "--random-weights")
    assert machine.built == []
    assert "e2vid 64x48 fp16: builds" in ask("e2vid", "--size", "64x48", "--random-weights", "--dry-run")


def test_what_fails_ends_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    Machine(monkeypatch, SERVES, WorldError("TensorRT 10.3.0 ran out of GPU memory while building firenet"))
    with pytest.raises(WorldError, match="ran out of GPU memory"):
        ask("firenet", "--size", "64x48")
    with pytest.raises(InputError, match="edi is no network: it needs no TensorRT"):
        ask("edi", "--size", "64x48")


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    monkeypatch.setattr(waiting.time, "monotonic", lambda: now[0])
    with waiting.Waiting() as bar:
        bar.title = "efnet 64x48 fp16"
        for second in range(45):
            now[0] = float(second)
            bar.say(f"building, {second} %")
        bar.line("done")
    told = capsys.readouterr()
    assert told.err.splitlines() == ["efnet 64x48 fp16: building, 20 %", "efnet 64x48 fp16: building, 40 %"]
    assert told.out == "done\n"


def test_the_real_tensorrt_for_rtx_takes_a_network_without_a_gpu() -> None:
    told: Any = json.loads(ask("pienet", "--size", "44x28", "--random-weights", "--dry-run", "--json"))
    (plan,) = told["plans"]
    assert plan["size_bytes"] > 100_000
    assert plan["path"] == ""
    assert plan["library"].startswith("TensorRT for RTX 1.")
    assert "convolutions and products in half" in plan["verified"]
