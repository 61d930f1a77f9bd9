"""The window benchmark measures what it says: every contender makes the same tensor of the same events."""

import json

import numpy as np
import pytest

from rtpipe.bench import calibrated, peers, window
from rtpipe.bench.row import Row, table
from rtpipe.errors import InputError
from rtpipe.types import Events
from rtpipe.window.stack import Stack
from tests.window import slow

RESOLUTION = (20, 15)


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(window, "CACHES_BYTES", 1 << 16)
    monkeypatch.setattr(window, "ROUNDS", 2)


def events(n=900):
    rng = np.random.default_rng(2)
    return slow.make(
        np.sort(rng.integers(0, 5000, n)), rng.integers(0, 20, n), rng.integers(0, 15, n), rng.integers(0, 2, n)
    )


def test_a_row_for_every_contender_and_question(small):
    rows = window.measure(seconds=0.01, sizes=[RESOLUTION])
    wanted = {*window.QUESTIONS.values(), calibrated.WHAT, "voxel grid, 5 bins, from the wire"}
    assert {row.what for row in rows} == wanted
    assert all(row.rate > 0 and row.unit == "Mev/s" for row in rows)
    ours = [row for row in rows if row.contender.startswith("rtpipe")]
    assert all(row.ratio_to_best_peer is None for row in rows if row not in ours)
    compared = {row.what for row in ours if row.ratio_to_best_peer is not None}
    questions = ("voxel", "two_polarity", "count", "stack")
    assert compared == {calibrated.WHAT, *(window.QUESTIONS[question] for question in questions)}


SLOW = {
    "voxel": lambda w: slow.voxel(w, 5, RESOLUTION, int(w.t[0]), int(w.t[-1])),
    "two_polarity": lambda w: slow.two_polarity(w, 5, RESOLUTION, int(w.t[0]), int(w.t[-1])),
    "count": lambda w: slow.count(w, RESOLUTION),
    "stack": lambda w: slow.stack(w, 5, RESOLUTION, int(w.t[0]), int(w.t[-1]))[0],
    "surface": lambda w: slow.time_surface(w, RESOLUTION, int(w.t[-1]), 30_000.0),
}


@pytest.mark.parametrize("question", SLOW)
def test_every_contender_makes_the_same_tensor(question):
    windows = [events(), events(400)]
    wanted = [SLOW[question](w) for w in windows]
    works = {name: make(windows, RESOLUTION) for name, (make, _) in peers.installed(question).items()}
    works.pop("eventcv", None)  # has definitions of its own
    works["rtpipe"] = window._function(question, windows, RESOLUTION)
    works["packed"] = window._filler(question, [window.pack(w) for w in windows], RESOLUTION)
    if question == "voxel":
        works["wire"] = window._from_wire([window.pack(w) for w in windows], RESOLUTION)
    for name, work in works.items():
        for call, tensor in zip(work, wanted, strict=True):
            made = call()
            made = made.frames if isinstance(made, Stack) else np.asarray(made)
            np.testing.assert_allclose(made, tensor, atol=2e-5, err_msg=name)


def test_the_published_way_to_a_calibrated_voxel_is_what_it_says():
    """Each event's five products of the network, by NumPy."""
    torch = pytest.importorskip("torch")
    part = events()
    ((call, n),) = calibrated.by_network([part], RESOLUTION)
    generator = torch.Generator().manual_seed(0)
    layers = []
    for a, b in zip(calibrated.WIDTHS[:-1], calibrated.WIDTHS[1:], strict=True):
        layers.append((torch.randn((b, a), generator=generator).numpy() / a**0.5, torch.randn(b, generator=generator)))
    tau = (part.t - part.t[0]) / (part.t[-1] - part.t[0]) * 4
    wanted = np.zeros((10, 15, 20))
    for b in range(5):
        value = (tau - b)[:, None]
        for k, (weight, bias) in enumerate(layers):
            value = value @ weight.T + bias.numpy()
            value = value if k == 3 else np.where(value > 0, value, 0.1 * value)
        np.add.at(wanted, (5 * (1 - part.p.astype(int)) + b, part.y, part.x), tau * value[:, 0])
    np.testing.assert_allclose(call().numpy().reshape(10, 15, 20), wanted, rtol=1e-4, atol=1e-3)
    assert n == 900


@pytest.mark.parametrize("question", ["voxel", "count"])
def test_eventcv_takes_all_events_of_a_window(question):
    if "eventcv" not in peers.installed(question):
        pytest.skip("eventcv is not installed")
    on = slow.make(np.arange(0, 900_000, 1000), np.arange(900) % 20, np.arange(900) % 15, np.ones(900))
    (call,) = peers.installed(question)["eventcv"][0]([on], RESOLUTION)
    assert np.asarray(call().numpy()).sum() == pytest.approx(900)


def test_windows_are_distinct_and_fill_the_memory_that_was_asked_for():
    windows = window.windows_of(events(), 250, 100_000)
    assert {len(each) for each in windows} == {250}
    assert sum(each.t.nbytes + each.x.nbytes + each.y.nbytes + each.p.nbytes for each in windows) >= 100_000
    addresses = {each.t.ctypes.data for each in windows}
    assert len(addresses) == len(windows)
    assert {int(each.t[0]) for each in windows[:3]} == {int(events().t[i]) for i in (0, 250, 500)}
    assert len(window.windows_of(events(), 10**6, 10)[0]) == 900


def test_a_recording_without_events_is_refused(monkeypatch, tmp_path):
    class Empty:
        resolution = RESOLUTION

        def event_chunks(self):
            yield Events.empty()

        def close(self):
            pass

    monkeypatch.setattr("rtpipe.open", lambda path: Empty(), raising=False)
    with pytest.raises(InputError, match="holds no events"):
        window.measure([tmp_path / "empty.h5"])


def test_rows_become_a_table_and_json(small, capsys, monkeypatch):
    rows = [
        Row("voxel grid", "rtpipe", "a", 412.4, 2.5),
        Row("voxel grid", "torch", "a", 16.25, note="scatter"),
        Row("latency", "rtpipe", "a", 0.0419, unit="ms"),
    ]
    shown = table(rows)
    first, figures, ratios, notes = (list(column.cells) for column in shown.columns)
    assert first == ["[bold]voxel grid[/bold], a", "  rtpipe", "  torch", "[bold]latency[/bold], a", "  rtpipe"]
    assert figures == ["", "412 Mev/s", "16.2 Mev/s", "", "0.0419 ms"]
    assert ratios == ["", "2.50", "", "", ""]
    assert notes[2] == "scatter"
    monkeypatch.setattr(window, "measure", lambda files, seconds: rows)
    window.main(json=True)
    assert [row["rate"] for row in json.loads(capsys.readouterr().out)] == [412.4, 16.25, 0.0419]
    window.main()
    assert "voxel grid" in capsys.readouterr().out
