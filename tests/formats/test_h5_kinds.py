"""HDF5 files of every kind: one format says yes to each, and damaged copies are read soundly or refused."""

import json
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from rtpipe import registry
from rtpipe.errors import FormatError
from rtpipe.formats import HEAD_BYTES, open_recording, rled_h5
from rtpipe.types import Events, Frame
from tests.formats import test_dsec_h5, test_efnet_h5

KINDS = ("rled", "columns", "efnet", "dsec", "dsec folder")


def make(kind: str, folder: Path) -> Path:
    """A small good recording of this kind."""
    rng = np.random.default_rng(0)
    n = 5000
    t = np.sort(rng.integers(0, 400_000, n))
    events = Events(t, rng.integers(0, 64, n), rng.integers(0, 48, n), rng.integers(0, 2, n))
    path = folder / f"{kind.replace(' ', '_')}.h5"
    if kind == "rled":
        with rled_h5.Writer(path, (64, 48)) as writer:
            writer.add_events(events)
            for k in range(4):
                writer.add_frame(Frame(rng.integers(0, 255, (48, 64), np.uint8), (k + 1) * 80_000))
    elif kind == "columns":  # many small chunks, which are read without HDF5
        with h5py.File(path, "w") as file:
            for name, values in (("ts", t * 1e-6), ("xs", events.x), ("ys", events.y), ("ps", events.p)):
                gzip = {"compression": "gzip", "shuffle": True} if name != "ys" else {}
                file.create_dataset(f"events/{name}", data=values, chunks=(300,), **gzip)
            file.attrs["sensor_resolution"] = (48, 64)
    elif kind == "efnet":
        test_efnet_h5.make(path)
    elif kind == "dsec":
        test_dsec_h5.make(path)
    else:
        path = folder / "sequence"
        test_dsec_h5.make(path / "events/left/events.h5")
        test_dsec_h5.make(path / "events/right/events.h5")
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_one_format_alone_says_yes(tmp_path: Path, kind: str) -> None:
    path = make(kind, tmp_path)
    head = b"" if path.is_dir() else path.read_bytes()[:HEAD_BYTES]
    yes = [name for name in registry.names("formats") if registry.load("formats", name).probe(path, head)]
    assert len(yes) == 1, yes


def test_events_in_other_layouts_are_refused_in_plain_words(tmp_path: Path) -> None:
    table = np.zeros(10, [("x", "u2"), ("y", "u2"), ("t", "i8"), ("p", "u1")])
    for values in (table, np.zeros((10, 4))):
        with h5py.File(tmp_path / "table.h5", "w") as file:
            file["events"] = values
        with pytest.raises(FormatError, match=r"table\.h5: events is a table of its own .*columns events/ts"):
            open_recording(tmp_path / "table.h5")
    with h5py.File(tmp_path / "mvsec.h5", "w") as file:
        file["davis/left/events"] = np.zeros((10, 4))
    with pytest.raises(FormatError, match="not a recording that rtpipe knows"):
        open_recording(tmp_path / "mvsec.h5")


def test_plain_columns_by_their_short_names_are_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "plain.h5", "w") as file:
        for name, values in (("t", np.arange(5000) * 100), ("x", np.arange(5000) % 60), ("y", np.arange(5000) % 40)):
            file[f"events/{name}"] = values
        file["events/p"] = np.arange(5000) % 2
    with open_recording(tmp_path / "plain.h5", resolution=(64, 48)) as reader:
        assert reader.events().t.tolist() == list(range(0, 500_000, 100))


def survive(recording: Path, seed: int, n: int) -> dict[str, int]:
    script = Path(__file__).with_name("read_mutated.py")
    command = [sys.executable, str(script), str(recording), str(seed), "0", str(n)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stderr[-3000:]}"
    outcome: dict[str, int] = json.loads(done.stdout)
    return outcome


@pytest.mark.parametrize("kind", KINDS[:-1])
def test_some_mutations_are_survived(tmp_path: Path, kind: str) -> None:
    outcome = survive(make(kind, tmp_path), 1, 150)
    assert outcome["read"] + outcome["refused"] == 150
    assert outcome["refused"] > 20  # the mutations do reach something


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_mutations_are_survived(tmp_path: Path, kind: str) -> None:
    outcome = survive(make(kind, tmp_path), 2, 1000)
    assert outcome["read"] + outcome["refused"] == 1000
