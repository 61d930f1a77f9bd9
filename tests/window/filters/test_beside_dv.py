"""Beside dv-processing on real recordings: the same events where it means the same; what differs where not."""

from datetime import timedelta

import numpy as np
import pytest

import rtpipe
from rtpipe.packing import pack, unpack
from rtpipe.window.filters import undistort
from rtpipe.window.filters.calibration import Calibration
from rtpipe.window.filters.chain import make
from tests.window.filters import slow

dv = pytest.importorskip("dv_processing")

RECORDINGS = ["davis346_ball_throw", "dvxplorer_person2"]


@pytest.fixture(scope="module", params=RECORDINGS)
def recorded(request, shared):
    """(events by our reader, the same by theirs, resolution)."""
    path = shared(f"recordings/aedat4/{request.param}.aedat4")
    with rtpipe.open(path) as recording:
        events, resolution = recording.events(), recording.resolution
    theirs, store = dv.io.MonoCameraRecording(str(path)), dv.EventStore()
    while theirs.isRunning():
        batch = theirs.getNextEventBatch()
        if batch is not None:
            store.add(batch)
    assert store.size() == len(events)
    return events, store, resolution


def ours(choice, events, resolution, packet=7919):
    (filter_,) = make([choice])
    filter_.open(resolution)
    packed = pack(events)
    return rtpipe.Events.concatenate(
        unpack(filter_.apply(packed[first : first + packet])) for first in range(0, len(packed), packet)
    )


def equal(events, store):
    assert len(events) == store.size()
    rows = store.numpy()
    for mine, name in ((events.t, "timestamp"), (events.x, "x"), (events.y, "y"), (events.p, "polarity")):
        np.testing.assert_array_equal(mine, rows[name])


@pytest.mark.parametrize("duration_us", [100, 2000, 50_000])
def test_background_activity_keeps_the_same_events(recorded, duration_us):
    events, store, resolution = recorded
    theirs = dv.noise.BackgroundActivityNoiseFilter(resolution, timedelta(microseconds=duration_us))
    theirs.accept(store)
    kept = ours({"filter": "background", "duration_us": duration_us}, events, resolution)
    assert 0 < len(kept) < len(events)
    equal(kept, theirs.generateEvents())


def test_a_region_keeps_the_same_events(recorded):
    events, store, resolution = recorded
    theirs = dv.EventRegionFilter((31, 20, 150, 99))
    theirs.accept(store)
    box = {"x": 31, "y": 20, "width": 150, "height": 99}
    equal(ours({"filter": "roi", **box, "crop": False}, events, resolution), theirs.generateEvents())


@pytest.mark.parametrize("factor", [2, 5])
def test_downsampling_divides_the_same(recorded, factor):
    """Theirs keeps what lies beyond the last whole block, in a row or column of its own; ours removes it."""
    events, store, (width, height) = recorded
    kept = ours({"filter": "downsample", "factor": factor}, events, (width, height))
    rows = dv.scale(store, factor, factor).numpy()
    rows = rows[(rows["x"] < width // factor) & (rows["y"] < height // factor)]
    assert len(rows) == len(kept)
    for mine, name in ((kept.t, "timestamp"), (kept.x, "x"), (kept.y, "y"), (kept.p, "polarity")):
        np.testing.assert_array_equal(mine, rows[name])


def test_undistortion_agrees_but_for_the_rounding(recorded):
    """Theirs cuts the fraction off, which moves the picture by half a pixel to the corner and brings in events from
    beyond the edge; ours is the nearest pixel. With its rounding, our places are theirs."""
    events, store, resolution = recorded
    width, height = resolution
    distortion, matrix = (-0.3, 0.1, 0.001, -0.002, 0.0), (0.8 * width, 0.81 * width, width / 2 - 2.3, height / 2 + 1.7)
    model = dv.camera.DistortionModel.RADIAL_TANGENTIAL
    theirs = dv.camera.CameraGeometry(list(distortion), *matrix, resolution, model).undistortEvents(store).numpy()
    places = undistort.places(Calibration(matrix, distortion), resolution)[events.y, events.x]
    cut = np.trunc(places)
    inside = ((cut >= 0) & (cut < resolution)).all(axis=1)
    assert abs(int(inside.sum()) - len(theirs)) < 1e-3 * len(events)
    at = {}
    for t, x, y in zip(theirs["timestamp"].tolist(), theirs["x"].tolist(), theirs["y"].tolist(), strict=True):
        at.setdefault(t, set()).add((x, y))
    mine = zip(events.t[inside].tolist(), cut[inside].astype(int).tolist(), strict=True)
    agree = sum((x, y) in at.get(t, ()) for t, (x, y) in mine)
    assert agree > 0.998 * inside.sum()
    kept = ours({"filter": "undistort", "matrix": matrix, "distortion": distortion}, events, resolution)
    nearest = np.rint(places)
    here = ((nearest >= 0) & (nearest < resolution)).all(axis=1)
    np.testing.assert_array_equal(np.stack([kept.x, kept.y], axis=1), nearest[here])


def test_near_time_zero_theirs_keeps_what_nothing_announced():
    """Its pixels begin as if each had fired at time 0: within the first duration every event passes."""
    store = dv.EventStore()
    store.push_back(5, 50, 50, True)
    theirs = dv.noise.BackgroundActivityNoiseFilter((100, 100), timedelta(microseconds=2000))
    theirs.accept(store)
    assert theirs.generateEvents().size() == 1
    assert len(ours({"filter": "background"}, slow.events_of([(5, 50, 50, 1)]), (100, 100))) == 0


def test_refractory_period_is_that_of_the_slow_version_on_real_events(recorded):
    """dv-processing 2.0 has none for Python."""
    events, _, resolution = recorded
    few = events[:60_000]
    for after in ("kept", "any"):
        kept = ours({"filter": "refractory", "period_us": 3000, "after": after}, few, resolution)
        assert slow.rows(kept) == slow.refractory(slow.rows(few), resolution, 3000, after)
        assert 0 < len(kept) < len(few)
