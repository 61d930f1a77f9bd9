"""The calibrated voxel against golden vectors, and against its definition event by event in float64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engines.nernet.prepare import ROWS, STEPS, table, value
from engines.nernet.weights import representation_shapes
from rtpipe.errors import ConfigError, InputError
from rtpipe.packing import pack
from rtpipe.stage import EngineSpec
from rtpipe.types import Array, Events, Packet, StreamInfo, Window
from rtpipe.window.letc import CHANNELS, Filler, calibrated_voxel, empty
from rtpipe.window.settings import WindowSettings
from rtpipe.window.stage import WindowStage
from tests.engines.nernet_golden import published, tensors

Shared = Callable[[str], Path]

ROUNDING = 2e-6
"""Of float32, as a part of the largest value."""

WORST = 1.2e-4
"""By how much a row of the table may miss an event's contribution, with the published weights."""

GOLDEN = (
    "random", "random-trained", "late1h-trained", "epoch", "epoch-trained", "one", "allsame", "two-trained",
    "lastrowcol-trained", "onepixel-trained",
)  # fmt: skip


@pytest.fixture(scope="module")
def weights(shared: Shared) -> dict[str, dict[str, Array]]:
    """The representation's tensors: the published ones, and the golden ones."""
    return {"letc.pth": published(shared), "golden": tensors(shared, representation_shapes())}


@pytest.fixture(scope="module")
def tables(weights: dict[str, dict[str, Array]]) -> dict[str, Array]:
    return {name: table(tensors) for name, tensors in weights.items()}


def exact(events: Events, tensors: dict[str, Array], resolution: tuple[int, int]) -> Array:
    """By definition: every event through f, five times, in float64."""
    width, height = resolution
    voxel = np.zeros((CHANNELS, height, width))
    span = int(events.t[-1]) - int(events.t[0]) if len(events) else 0
    if span:
        tau = (events.t - events.t[0]) / span * 4
        for b in range(5):
            np.add.at(voxel, (5 * (1 - events.p.astype(int)) + b, events.y, events.x), tau * value(tensors, tau - b))
    return voxel


def some_events(n: int, resolution: tuple[int, int], seed: int = 5, t0: int = 1_700_000_000_000_000) -> Events:
    random = np.random.default_rng(seed)
    width, height = resolution
    return Events(
        np.sort(random.integers(0, 20_000, n)) + t0,
        random.integers(0, width, n).astype(np.uint16),
        random.integers(0, height, n).astype(np.uint16),
        random.integers(0, 2, n).astype(np.uint8),
    )


@pytest.mark.parametrize("name", GOLDEN)
def test_voxels_are_those_published(shared: Shared, tables: dict[str, Array], name: str) -> None:
    with np.load(shared(f"networks/golden/rep-letc-{name}.npz")) as z:
        events, wanted = Events(z["in_t"], z["in_x"], z["in_y"], z["in_p"]), z["out_vox64"]
        resolution, of = (int(z["W"]), int(z["H"])), str(z["weights"])
    voxel = calibrated_voxel(events, tables[of], resolution=resolution)
    counts = np.zeros(wanted.shape[1:], int)
    np.add.at(counts, (events.y, events.x), 1)
    allowed = 1e-5 + ROUNDING * np.abs(wanted).max() + WORST * counts
    assert np.all(np.abs(voxel - wanted) <= allowed)
    assert voxel.any() == wanted.any()


@pytest.mark.parametrize("name", ["trained", "golden"])
def test_f_is_the_published_function(shared: Shared, weights: dict[str, dict[str, Array]], name: str) -> None:
    with np.load(shared(f"networks/golden/rep-letc-{name}-f.npz")) as z:
        tensors = weights["letc.pth" if name == "trained" else "golden"]
        assert np.abs(value(tensors, z["tau"]) - z["f64"]).max() < 1e-12


def test_no_contribution_is_off_by_more_than_the_bound(
    weights: dict[str, dict[str, Array]], tables: dict[str, Array]
) -> None:
    """At instants between the rows, for the real weights: an event alone in its pixel, and its row."""
    n = 60_001
    tau = np.linspace(0, 4, n)
    ours = tables["letc.pth"][np.floor(tau * STEPS + 0.5).astype(int)]
    true = np.stack([tau * value(weights["letc.pth"], tau - b) for b in range(5)], axis=1)
    assert len(tables["letc.pth"]) == ROWS >= 8192
    assert np.abs(ours - true).max() < WORST < 1e-4 * np.abs(true).max() * 1.5

    events = Events(np.arange(n), np.arange(n) % 500, np.arange(n) // 500, np.ones(n, np.uint8))
    voxel = calibrated_voxel(events, tables["letc.pth"], resolution=(500, 301))
    assert np.abs(voxel[:5].reshape(5, -1)[:, :n].T - true).max() < WORST


@pytest.mark.parametrize("resolution", [(346, 260), (61, 7), (1280, 720)])
def test_many_events_add_up_to_the_definition(
    weights: dict[str, dict[str, Array]], tables: dict[str, Array], resolution: tuple[int, int]
) -> None:
    events = some_events(60_000, resolution)
    for packed in (events, pack(events)):
        voxel = calibrated_voxel(packed, tables["letc.pth"], resolution=resolution)
        wanted = exact(events, weights["letc.pth"], resolution)
        most = np.bincount(events.y.astype(int) * resolution[0] + events.x).max()
        assert np.abs(voxel - wanted).max() < 1e-5 + WORST * most
    assert voxel.transpose(1, 2, 0).flags.c_contiguous


def test_the_same_bits_however_events_are_cut_into_packets(tables: dict[str, Array]) -> None:
    resolution, events = (40, 30), some_events(5000, (40, 30))
    whole = calibrated_voxel(events, tables["letc.pth"], resolution=resolution)
    filler, out = Filler(resolution, 5, tables["letc.pth"]), empty(resolution)
    out[:] = 7
    filler.open(out, int(events.t[0]), int(events.t[-1]))
    for first, last in ((0, 1), (1, 30), (30, 4990), (4990, 5000)):
        filler.add(pack(events[first:last]))
    filler.close()
    assert np.array_equal(out, whole)


@pytest.mark.parametrize("n", [0, 1, 40])
def test_windows_without_a_span_are_zeros(tables: dict[str, Array], n: int) -> None:
    column = np.arange(n, dtype=np.uint16) % 8
    events = Events(np.full(n, 123), column, column, np.ones(n, np.uint8))
    assert not calibrated_voxel(events, tables["letc.pth"], resolution=(8, 8), out=empty((8, 8))).any()


def test_edges_that_are_given_are_what_time_is_measured_against(tables: dict[str, Array]) -> None:
    rows = tables["letc.pth"]
    events = Events([500, 1000, 2000], [0, 1, 2], [0, 0, 0], [1, 0, 1])
    voxel = calibrated_voxel(events, rows, resolution=(4, 1), t0=0, t1=2000)
    assert np.array_equal(voxel[:5, 0, 0], rows[STEPS])
    assert np.array_equal(voxel[5:, 0, 1], rows[2 * STEPS])
    assert not voxel[:, 0, 2:].any()


def test_what_does_not_fit_is_refused(tables: dict[str, Array]) -> None:
    events, good = Events([0, 1], [0, 9], [0, 0], [1, 1]), tables["letc.pth"]
    with pytest.raises(InputError, match="8x4"):
        calibrated_voxel(events, good, resolution=(8, 4))
    for bad in (good[:1], good[:, :4], np.full((9, 5), np.nan, np.float32), good.reshape(-1)):
        with pytest.raises(InputError, match="table"):
            calibrated_voxel(events, bad, resolution=(16, 4))
    with pytest.raises(InputError, match="innermost"):
        calibrated_voxel(events, good, resolution=(16, 4), out=np.empty((10, 4, 16), np.float32))
    with pytest.raises(InputError, match="bins"):
        Filler((16, 4), 4, good)


def windows(spec: EngineSpec, events: Events, resolution: tuple[int, int], **settings: Any) -> list[Window]:
    stage = WindowStage(WindowSettings(by="time", length_us=20_000, hop_us=40_000, **settings), spec)
    stage.open([StreamInfo("camera/events", resolution)])
    made = []
    step = 1234
    for seq, first in enumerate(range(0, len(events), step)):
        part = pack(events[first : first + step])
        end = first + step >= len(events)
        last = int(events.t[min(first + step, len(events)) - 1])
        packets = stage.process(Packet("camera/events", seq, part.t0, last, 0, part, end=end))
        for packet in packets:
            if isinstance(packet.body, Window) and packet.body.tensor is not None:
                tensor = packet.body.tensor
                assert tensor.transpose(1, 2, 0).flags.c_contiguous
                made.append(Window(packet.body.t_start, packet.body.t_end, packet.body.n_events, tensor.copy()))
    return made


def test_the_window_stage_gives_engines_what_their_table_says(tables: dict[str, Array]) -> None:
    resolution = (64, 48)
    random = np.random.default_rng(3)
    n = 20_000
    events = Events(
        np.sort(random.integers(0, 400_000, n)) + 1_000_000,
        random.integers(0, 64, n).astype(np.uint16),
        random.integers(0, 48, n).astype(np.uint16),
        random.integers(0, 2, n).astype(np.uint8),
    )
    spec = EngineSpec("test", "calibrated_voxel", False, True, 5, tables["letc.pth"])
    for mode in ("trained", "edges"):
        made = windows(spec, events, resolution, mode=mode)
        assert len(made) > 7
        for window in made:
            inside = events.between(window.t_start, window.t_end)
            assert window.n_events == len(inside) > 500
            edges = {"t0": window.t_start, "t1": window.t_end} if mode == "edges" else {}
            wanted = calibrated_voxel(inside, tables["letc.pth"], resolution=resolution, **edges)
            assert np.array_equal(window.tensor, wanted)


def test_a_learned_representation_needs_an_engine_that_brings_its_table() -> None:
    with pytest.raises(ConfigError, match=r"calibrated_voxel.*learned.*other has none"):
        WindowStage(
            WindowSettings(by="time", length_us=1, representation="calibrated_voxel"),
            EngineSpec("other", "", False, False),
        )
