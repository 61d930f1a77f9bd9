"""The replay benchmark measures what it says: every contender makes the same windows of the same file."""

from pathlib import Path

import numpy as np
import pytest

from rtpipe.bench import peers, replay
from rtpipe.bench.row import Row
from rtpipe.errors import InputError
from rtpipe.formats import rled_h5
from rtpipe.formats.ecm_h5 import Writer
from rtpipe.types import Events

N = 10_000


def make(path: Path, module: type = Writer) -> Path:
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 300_000, N)) + 5_000_000
    with module(path, (40, 30)) as writer:
        writer.add_events(Events(t, rng.integers(0, 40, N), rng.integers(0, 30, N), rng.integers(0, 2, N)))
    return path


@pytest.mark.parametrize("module", [Writer, rled_h5.Writer], ids=["seconds", "microseconds"])
def test_contenders_fill_the_same_windows(tmp_path: Path, module: type, monkeypatch: pytest.MonkeyPatch) -> None:
    known = replay._known(make(tmp_path / "a.h5", module))
    assert (known.resolution, known.n, known.windows) == ((40, 30), 1200, 8)
    assert replay.rtpipe_windows(known) == 9600
    ours: list[np.ndarray] = []
    theirs: list[np.ndarray] = []
    filled = replay._filled
    monkeypatch.setattr(
        replay, "_filled", lambda p: (ours.extend(w.body.tensor.copy() for w in p if w.body), filled(p))[1]
    )
    replay.rtpipe_windows(known)

    def numpy_peer(windows, resolution):
        (work,) = peers.numpy_voxel(windows, resolution)
        return [lambda: theirs.append(work().copy())]

    assert replay.peer_windows(known, numpy_peer) == 9600
    assert len(theirs) == 8
    for a, b in zip(ours, theirs, strict=False):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_a_row_for_every_contender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "ROUNDS", 1)
    monkeypatch.setattr(replay, "SYNTHETIC", (40, 30))
    monkeypatch.setattr(replay, "SYNTHETIC_EVENTS", 5000)
    for files, inputs in (([make(tmp_path / "a.h5")], 1), ([], 2)):
        rows = replay.measure(files, seconds=0.01)
        assert len({row.input for row in rows}) == inputs
        assert all(isinstance(row, Row) and row.rate > 0 for row in rows)
        assert {row.contender for row in rows} == {"rtpipe", *(f"h5py + {name}" for name in peers.installed("voxel"))}
        assert [row.ratio_to_best_peer is not None for row in rows if row.contender == "rtpipe"] == [True] * inputs


def test_what_cannot_be_measured_is_refused(tmp_path: Path) -> None:
    with Writer(tmp_path / "few.h5", (640, 480)) as writer:
        writer.add_events(Events(np.arange(50) * 100, np.arange(50), np.arange(50), np.arange(50) % 2))
    with pytest.raises(InputError, match="50 events; at least one window of 307200"):
        replay.measure([tmp_path / "few.h5"])
