"""The engine benchmark runs what it says: real networks, with random weights where none are installed."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from rtpipe import registry
from rtpipe.bench import engine
from rtpipe.cli import app
from rtpipe.errors import InputError
from rtpipe.weights.made_up import random_weights

SIZE = (32, 24)


@pytest.fixture(autouse=True)
def nothing_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTPIPE_WEIGHTS", str(tmp_path))
    monkeypatch.setattr(engine, "FEWEST_ROUNDS", 2)


def test_a_network_stands_beside_the_plain_one(tmp_path: Path) -> None:
    ours, peer = engine.measure(["firenet"], sizes=[SIZE], runtime="torch", device="cpu", seconds=0.01)
    assert ours.contender.startswith("rtpipe: PyTorch")
    assert ours.contender.endswith("cpu, fp32")
    assert ours.input == peer.input == "32x24"
    assert ours.unit == peer.unit == "ms"
    assert "random weights" in ours.note
    assert ours.ratio_to_best_peer is not None
    assert peer.ratio_to_best_peer is None
    assert peer.contender == "PyTorch, eager, cpu, fp32"
    assert list(tmp_path.iterdir()) == [], "random weights are not left in the store"


@pytest.mark.parametrize("name", engine.networks())
def test_random_weights_are_weights_of_each_network(name: str) -> None:
    network = registry.load("engines", name).NETWORK
    found, properties = network.recognise(random_weights(network.shapes()), {}, {})
    assert properties.network == name
    assert sum(array.size for array in found.values()) >= network.parameters(properties.variant)


def test_every_contender_is_timed_in_every_round() -> None:
    calls: list[str] = []
    times = engine._times({name: lambda name=name: calls.append(name) for name in "ab"}, 0.0)  # type: ignore[misc]
    assert calls == ["a", "b"] * (len(calls) // 2)
    assert len(times["a"]) == len(times["b"]) == len(calls) // 2 - 1


@pytest.mark.parametrize(
    "representation", ["voxel", "two_polarity_voxel", "scer", "count", "time_surface", "stack", "events"]
)
def test_windows_hold_what_engines_take(representation: str) -> None:
    from rtpipe.stage import EngineSpec

    made = engine.window(EngineSpec("any", representation, needs_frame=True, stateful=False), SIZE)
    assert made.frame is not None
    assert made.frame.resolution == SIZE
    assert made.n_events == 384
    if representation == "events":
        assert made.events is not None
        assert len(made.events) == 384
    else:
        assert made.tensor is not None
        assert np.count_nonzero(made.tensor) > 50


def test_what_is_no_network_is_refused_by_name() -> None:
    with pytest.raises(InputError, match=r"edi is no network; networks: .*firenet"):
        engine.measure(["edi"])
    with pytest.raises(InputError, match="no runtime nothing on cpu"):
        engine.measure(["firenet"], runtime="nothing", device="cpu")
    with pytest.raises(InputError, match="fp16 on a CPU"):
        engine.measure(["firenet"], sizes=[SIZE], runtime="torch", device="cpu", precision="fp16")


def test_the_command_prints_rows_as_json(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["bench", "engine", "firenet", "--size", "32x24", "--runtime", "torch", "--device", "cpu", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--seconds", "0.01"])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.stdout)
    assert [row["unit"] for row in rows] == ["ms", "ms"]
    assert all(row["rate"] > 0 for row in rows)
