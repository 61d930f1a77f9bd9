"""`rtpipe run` on neuromorphic-drivers' own Python, a stand-in camera behind it: what is recorded is what the camera
sent, event by event, whatever befalls it, decoded here or passed on as the camera's bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpipe.formats import open_recording
from rtpipe.types import Events
from tests.drivers.camera import truth
from tests.drivers.camera.faults import Fault
from tests.drivers.camera.running import CameraRun

pytest.importorskip("neuromorphic_drivers")

BACKENDS = {"neuromorphic-drivers": "tests.drivers.backends.neuromorphic_standin_backend"}
KINDS = {
    "DAVIS346": ("davis", "aedat4/davis346_ball_throw.aedat4"),
    "DVXplorer": ("dvxplorer", "aedat4/dvxplorer_person2.aedat4"),
    "EVK4": ("evk4", "prophesee/evt3_nightsky_hd.raw"),
}
AFTER = "after a gap"
TOLERANCE_US = 1_000_000
"""Within which the host's clock places a camera that came back: a busy machine reads late."""


@pytest.fixture
def run(tmp_path: Path, shared: Callable[[str], Path]) -> Iterator[Callable[..., CameraRun]]:
    started: list[CameraRun] = []

    def begin(model: str, *faults: Fault, more: str = "", **script: Any) -> CameraRun:
        driver, file = KINDS[model]
        started.append(
            CameraRun(
                tmp_path,
                shared(f"recordings/{file}"),
                *faults,
                driver=driver,
                backend="neuromorphic-drivers",
                backends=BACKENDS,
                more=more,
                model=model,
                **script,
            )
        )
        return started[-1]

    yield begin
    for each in started:
        each.kill()


def handed_over(done: CameraRun) -> list[dict[str, Any]]:
    """The transfers that came once the pipeline was ready: the last ones with as many events as the driver took. A
    batch holds several."""
    left, transfers, n = done.flows["events"]["taken"], done.truth.transfers, 0
    while left > 0:
        n += 1
        left -= transfers[-n].get("events", 0)
    assert left == 0
    return transfers[len(transfers) - n :]


def compare(done: CameraRun) -> tuple[np.ndarray, np.ndarray]:
    """The recording against everything that was handed over, but for what could not be placed behind a gap, which is
    one run of events and counted; recorded and true times of the same events."""
    transfers = handed_over(done)
    true, _ = done.truth.events(transfers)
    blind = done.flows["events"]["dropped"].get(AFTER, 0)
    if blind:
        at = 0
        for line in transfers:
            if line["lost"]:
                break
            at += line.get("events", 0)
        true = Events(*(np.delete(getattr(true, name), np.s_[at : at + blind]) for name in "txyp"))
    recorded = truth.recorded(done.path)
    for name in ("x", "y", "p"):
        np.testing.assert_array_equal(getattr(recorded, name), getattr(true, name), err_msg=name)
    assert done.flows["events"]["passed"] == len(recorded) > 10_000
    assert (np.diff(recorded.t) >= 0).all()
    return recorded.t, true.t


def assert_offsets(recorded: np.ndarray, true: np.ndarray, epochs: int) -> None:
    """Times are the true ones but for a constant in each epoch, small against what was lost."""
    offsets = recorded - true
    assert 1 <= len(np.unique(offsets)) <= epochs
    assert np.ptp(offsets) < TOLERANCE_US


def fact(done: CameraRun, name: str) -> str:
    return next(each["value"] for each in done.result["facts"] if (each["of"], each["fact"]) == ("camera", name))


CAMERAS = [("DAVIS346", ""), ("DVXplorer", ""), ("EVK4", ""), ("EVK4", ", raw: true")]
SLOW = [pytest.param(*each, marks=pytest.mark.slow) for each in CAMERAS[:3]]


@pytest.mark.parametrize(("model", "more"), [*SLOW, CAMERAS[3]])
def test_what_the_camera_sent_is_recorded_event_by_event(run: Callable[..., CameraRun], model: str, more: str) -> None:
    done = run(model, more=more).flowing().end(2)
    recorded, true = compare(done)
    assert len(np.unique(recorded - true)) == 1
    assert not any(flow["dropped"] for flow in done.flows.values())
    assert fact(done, "back end") == "neuromorphic-drivers"
    with open_recording(done.path) as recording:
        frames, imu = list(recording.frames()), list(recording.imu())
    assert len(frames) == done.flows.get("frames", {}).get("passed", 0)
    assert sum(map(len, imu)) == done.flows.get("imu", {}).get("passed", 0)
    assert bool(frames) == (model == "DAVIS346")
    assert bool(imu) == (model != "EVK4")


@pytest.mark.slow
def test_hardware_settings_reach_the_camera_and_are_said(run: Callable[..., CameraRun]) -> None:
    more = ", raw: true, roi: {x: 8, y: 16, width: 640, height: 400}, biases: {diff_on: 12}, rate_limit_mev_s: 30"
    started = run("EVK4", more=more).flowing()
    code, text = started.running.control("set", "biases.diff_on", "20")
    assert (code, "hardware" in text) == (0, True), text
    code, text = started.running.control("set", "biases.diff_on", "900")
    assert code != 0
    assert "-100 to 140 wanted, not 900" in text
    code, text = started.running.control("set", "refractory_us", "100")
    assert code != 0
    assert "bytes" in text
    done = started.end(0.5)
    compare(done)
    configured, updated = done.truth.of("configured"), done.truth.of("updated")
    assert "diff_on=12" in configured[0]["text"]
    assert "maximum_events_per_period=6000" in configured[0]["text"]
    assert "diff_on=20" in updated[-1]["text"]
    assert "roi 8,16,640,400 (hardware)" in fact(done, "settings")


@pytest.mark.slow
@pytest.mark.parametrize(("model", "more"), [CAMERAS[0], CAMERAS[3]])
def test_unplugged_and_plugged_in_again(run: Callable[..., CameraRun], model: str, more: str) -> None:
    done = run(model, Fault(what="unplug", at_s=0.5, for_s=1.0), more=more).flowing().end(3.5)
    recorded, true = compare(done)
    assert_offsets(recorded, true, 2)
    opened, plugged = done.truth.of("opened"), done.truth.of("plugged")
    assert len(opened) == 2
    assert opened[1]["at_us"] - plugged[0]["at_us"] < 2_000_000
    assert int(np.diff(recorded).max()) > 900_000


@pytest.mark.slow
@pytest.mark.parametrize(("model", "more"), [CAMERAS[0], CAMERAS[3]])
def test_a_ring_that_overflows_is_counted_and_leaves_a_gap_of_its_length(
    run: Callable[..., CameraRun], model: str, more: str
) -> None:
    done = run(model, Fault(what="overflow", at_s=0.5, n=50), more=more).flowing().end(2)
    recorded, true = compare(done)
    assert done.flows["transfers"]["dropped"] == {"ring overflow": 50}
    assert len(np.unique(recorded - true)) == 1
    assert int(np.diff(recorded).max()) > 45_000


@pytest.mark.slow
@pytest.mark.parametrize(("what", "more"), [("back", ""), ("back", ", raw: true"), ("wrap", ", raw: true")])
def test_a_clock_that_jumps_begins_anew(run: Callable[..., CameraRun], what: Any, more: str) -> None:
    done = run("EVK4", Fault(what=what, at_s=0.5), more=more).flowing().end(2)
    recorded, true = compare(done)
    assert_offsets(recorded, true, 2)
    assert len(done.truth.of("opened")) == 1


@pytest.mark.slow
@pytest.mark.parametrize("what", ["raise", "hang", "stall"])
def test_calls_that_fail_or_hang_cost_a_moment(run: Callable[..., CameraRun], what: Any) -> None:
    fault = Fault(what=what, at_s=0.5, for_s=60.0 if what == "hang" else 0.6)
    done = run("EVK4", fault, more=", raw: true").flowing().end(5 if what == "hang" else 2.5)
    recorded, true = compare(done)
    assert_offsets(recorded, true, 2)
    assert len(done.truth.of("opened")) == (1 if what == "stall" else 2)


@pytest.mark.slow
def test_events_off_the_sensor_are_refused_one_by_one(run: Callable[..., CameraRun]) -> None:
    done = run("EVK4", Fault(what="off_sensor", at_s=0.5, n=5)).flowing().end(1.5)
    recorded, true = compare(done)
    assert done.flows["events"]["dropped"] == {"coordinates": 5}
    assert_offsets(recorded, true, 1)


@pytest.mark.slow
def test_frames_without_an_exposure_are_recorded_without_one(run: Callable[..., CameraRun]) -> None:
    done = run("DAVIS346", Fault(what="no_exposure", at_s=0.5, n=4)).flowing().end(2)
    compare(done)
    with open_recording(done.path) as recording:
        frames = list(recording.frames())
    assert sum(frame.exposure_start is None for frame in frames) == 4
