"""`rtpipe run` with driver `davis` on dv-processing's classes, a stand-in camera at their end: what is recorded is what
the camera sent, event by event, whatever befalls it."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rtpipe.formats import open_recording
from rtpipe.types import Events, Frame
from tests.drivers.backends import dv_standin
from tests.drivers.camera import truth
from tests.drivers.camera.faults import Fault, Script, environment
from tests.pipeline.command_line import Running

PIPELINE = """\
sources:
  camera: {{driver: davis, backend: dv-processing{more}}}
sinks:
  - {{sink: record, dir: {out}, name: run}}
"""
TOLERANCE_US = 250_000
"""Within which the host's clock places a camera that came back: a busy machine reads late."""

CLOCK_US = 1_700_000_000_000_000
"""dv-processing sets a camera's clock to the computer's; it hands over no time before 1970."""


class Run:
    """A run with the camera, from its start to what it recorded."""

    def __init__(self, running: Running, script: Script, path: Path) -> None:
        self.running, self.script, self.path = running, script, path

    def flowing(self) -> Run:
        self.running.workers(lambda w: all(r["processed"]["events"] > 0 for r in w["record"]["received"]))
        Path(self.script.go).touch()
        return self

    def end(self, seconds: float) -> Run:
        """Stop when the camera has sent so much more; a busy machine takes longer."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.sent_s() < seconds:
            time.sleep(0.1)
        self.running.process.send_signal(signal.SIGINT)
        code, self.result, err = self.running.end()
        assert code == 0, (err, self.result)
        self.flows: dict[str, Any] = self.result["stages"]["camera"]
        self.truth = truth.read(self.script)
        return self

    def sent_s(self) -> float:
        known = truth.read(self.script)
        go = known.of("go")
        return (known.of("transfer")[-1]["stop"] - go[0]["at_us"]) / 1e6 if go else -1.0

    def handed_over(self, recorded: Events) -> Events:
        """What the camera sent once the pipeline was ready: as many events in a row as the driver took, up to what
        still waited in the SDK's queue at the end. One read takes several transfers."""
        transfers, taken = self.truth.transfers, self.flows["events"]["taken"]
        ends = np.cumsum([0, *(line.get("events", 0) for line in transfers)])
        for stop in range(len(transfers), max(len(transfers) - 300, 0), -1):
            start = int(np.searchsorted(ends, ends[stop] - taken))
            if ends[start] == ends[stop] - taken:
                true, _ = self.truth.events(transfers[start:stop])
                if np.array_equal(true.x, recorded.x):
                    return true
        raise AssertionError("what is recorded is no run of what was sent")

    def compare(self) -> tuple[np.ndarray, np.ndarray]:
        """The recording against what was handed over; recorded and true times of the same events."""
        recorded = truth.recorded(self.path)
        true = self.handed_over(recorded)
        for name in ("x", "y", "p"):
            np.testing.assert_array_equal(getattr(recorded, name), getattr(true, name), err_msg=name)
        assert self.flows["events"]["passed"] == len(recorded) > 10_000
        assert (np.diff(recorded.t) >= 0).all()
        return recorded.t, true.t


@pytest.fixture
def run(tmp_path: Path, shared: Callable[[str], Path]) -> Iterator[Callable[..., Run]]:
    started: list[Running] = []

    def begin(*faults: Fault, more: str = "", **script: Any) -> Run:
        pytest.importorskip("dv_processing")
        file = tmp_path / "pipeline.yaml"
        file.write_text(PIPELINE.format(out=tmp_path, more=more))
        recording = str(shared("recordings/aedat4/davis346_highway.aedat4"))
        go, log = str(tmp_path / "go"), str(tmp_path / "camera.log")
        made = Script(recording=recording, log=log, go=go, faults=faults, transfer_us=4000, clock_us=CLOCK_US, **script)
        (tmp_path / "r").mkdir()
        known = environment(tmp_path / "env", made)
        dv_standin.put_first(tmp_path / "env")
        running = Running(tmp_path / "r", file, env=known)
        started.append(running)
        return Run(running, made, tmp_path / "run.mcap")

    yield begin
    for each in started:
        each.kill()


def length(frame: Frame) -> int:
    assert frame.exposure_start is not None
    assert frame.exposure_end is not None
    return frame.exposure_end - frame.exposure_start


def assert_offsets(recorded: np.ndarray, true: np.ndarray, epochs: int) -> None:
    """Times are the true ones but for a constant in each epoch, small against what was lost."""
    offsets = recorded - true
    assert 1 <= len(np.unique(offsets)) <= epochs
    assert np.ptp(offsets) < TOLERANCE_US


def test_what_the_camera_sent_is_recorded_event_by_event(run: Callable[..., Run]) -> None:
    done = run(more=", frames: {exposure_us: 8000}, roi: {width: 100, height: 80}").flowing().end(2)
    recorded, true = done.compare()
    assert len(np.unique(recorded - true)) == 1
    assert not any(flow["dropped"] for flow in done.flows.values())
    with open_recording(done.path) as recording:
        frames, imu, triggers = list(recording.frames()), list(recording.imu()), list(recording.triggers())
    assert len(frames) == done.flows["frames"]["passed"] > 5
    with open_recording(done.script.recording) as recording:
        seen = {frame.image.tobytes(): length(frame) for frame in recording.frames()}
    assert all(seen[frame.image.tobytes()] == length(frame) for frame in frames)
    acceleration = np.concatenate([run.acceleration for run in imu])
    assert len(acceleration) == done.flows["imu"]["passed"] > 500
    assert 9 < np.linalg.norm(acceleration, axis=1).mean() < 11
    assert {int(channel) for run in triggers for channel in run.channel} <= {2, 3}
    assert ["setCropAreaEvents", "(0, 0, 100, 80)"] in [
        [line["name"], *line["given"]] for line in done.truth.of("set")
    ], "the camera's own ROI was asked for"
    facts = {each["fact"]: each["value"] for each in done.result["facts"] if each["of"] == "camera"}
    assert facts["settings"] == "roi 0,0,100,80 (hardware), frames.exposure_us 8000 (hardware)"
    assert (facts["back end"], facts["connection"]) == ("dv-processing", "USB 3, 5 Gbit/s")


@pytest.mark.slow
def test_a_camera_that_is_unplugged_is_taken_up_again(run: Callable[..., Run]) -> None:
    done = run(Fault(what="unplug", at_s=0.5, for_s=1.0)).flowing().end(3.5)
    recorded, true = done.compare()
    assert_offsets(recorded, true, 2)
    opened, plugged = done.truth.of("opened"), done.truth.of("plugged")
    assert len(opened) == 2
    assert opened[1]["at_us"] - plugged[0]["at_us"] < 2_000_000
    assert int(np.diff(recorded).max()) > 900_000


@pytest.mark.slow
def test_a_call_that_raises_costs_a_moment(run: Callable[..., Run]) -> None:
    done = run(Fault(what="raise", at_s=0.5)).flowing().end(2.5)
    recorded, true = done.compare()
    assert len(done.truth.of("opened")) == 2
    assert_offsets(recorded, true, 2)


@pytest.mark.slow
def test_a_call_that_hangs_is_given_up(run: Callable[..., Run]) -> None:
    done = run(Fault(what="hang", at_s=0.5, for_s=60.0)).flowing().end(5)
    recorded, true = done.compare()
    assert len(done.truth.of("opened")) == 2
    assert_offsets(recorded, true, 2)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["back", "wrap"])
def test_a_clock_that_jumps_begins_anew(run: Callable[..., Run], what: Any) -> None:
    done = run(Fault(what=what, at_s=0.5)).flowing().end(2)
    recorded, true = done.compare()
    assert_offsets(recorded, true, 2)
    assert len(done.truth.of("opened")) == 1


@pytest.mark.slow
def test_corrupted_events_are_refused_one_by_one(run: Callable[..., Run]) -> None:
    done = run(Fault(what="off_sensor", at_s=0.5, n=5), Fault(what="disorder", at_s=0.8, n=4)).flowing().end(2)
    recorded, true = done.compare()
    assert done.flows["events"]["dropped"] == {"coordinates": 5, "order": 4}
    assert_offsets(recorded, true, 1)


@pytest.mark.slow
def test_frames_without_an_exposure_are_recorded_without_one(run: Callable[..., Run]) -> None:
    done = run(Fault(what="no_exposure", at_s=0.5, n=4)).flowing().end(2)
    done.compare()
    with open_recording(done.path) as recording:
        frames = list(recording.frames())
    assert sum(frame.exposure_start is None for frame in frames) == 4


@pytest.mark.slow
def test_what_the_sdk_loses_without_a_word_leaves_a_gap_and_no_wrong_event(run: Callable[..., Run]) -> None:
    """dv-processing does not tell what it dropped: what came is exact, and time shows the gap."""
    done = run(Fault(what="overflow", at_s=0.5, n=50)).flowing().end(2)
    recorded, true = done.compare()
    assert len(np.unique(recorded - true)) == 1
    assert int(np.diff(recorded).max()) > 40_000
