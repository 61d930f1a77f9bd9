"""Everything that befalls a camera on the USB, through `rtpipe run` with a recorder: it is taken up again by itself,
the ledger is exact, and the recording holds every event that came, event by event, with the true gap."""

import numpy as np
import pytest

from rtpipe.formats import open_recording
from tests.drivers.camera.faults import Fault
from tests.drivers.camera.running import CameraRun


@pytest.fixture
def run(tmp_path, shared):
    """``run(*faults, **script)``: a pipeline that has begun."""
    started = []

    def begin(*faults, **script):
        started.append(CameraRun(tmp_path, shared("recordings/aedat4/davis346_ball_throw.aedat4"), *faults, **script))
        return started[-1]

    yield begin
    for each in started:
        each.kill()


@pytest.mark.slow
def test_nothing_wrong_loses_nothing(run):
    done = run().flowing().end(2)
    recorded, true = done.compare()
    assert len(np.unique(recorded - true)) == 1
    assert not any(flow["dropped"] for flow in done.flows.values())


def test_a_camera_that_is_unplugged_is_taken_up_again(run):
    done = run(Fault(what="unplug", at_s=0.5, for_s=1.0)).flowing().end(3.5)
    recorded, true = done.compare()
    assert_taken_up(done, 2)
    assert_continuous(done, recorded, true, 2)
    with open_recording(done.path) as recording:
        assert any("time jumped 1 times" in note for note in recording.notes)
    gap = int(np.diff(recorded).max())
    assert abs(gap - int(np.diff(true).max())) < tolerance_us(done)
    assert gap > 900_000


@pytest.mark.slow
def test_a_call_that_raises_costs_a_moment(run):
    done = run(Fault(what="raise", at_s=0.5)).flowing().end(2.5)
    recorded, true = done.compare()
    assert len(done.truth.of("opened")) == 2
    assert_continuous(done, recorded, true, 2)


@pytest.mark.slow
def test_a_call_that_hangs_is_given_up(run):
    done = run(Fault(what="hang", at_s=0.5, for_s=60.0)).flowing().end(5)
    recorded, true = done.compare()
    assert len(done.truth.of("opened")) == 2
    assert_continuous(done, recorded, true, 2)


@pytest.mark.slow
def test_a_call_that_never_gives_pythons_lock_back_costs_the_process_not_the_run(run):
    started = run(Fault(what="seize", at_s=0.5, for_s=600)).flowing()
    first = started.running.workers()["camera"]["pid"]
    started.running.workers(lambda now: now["camera"]["pid"] not in (0, first) and now["camera"]["state"] == "running")
    done = started.end(2)
    assert any("SIGALRM" in death for death in done.result["deaths"]["camera"])
    assert len(done.truth.of("opened")) == 2
    with open_recording(done.path) as recording:
        events = recording.events()
        assert any("time jumped 1 times" in note for note in recording.notes)
        sent = [packet.epoch for packet in recording.packets()]
    assert sorted(set(sent)) == [0, 1]
    assert len(events) > done.flows["events"]["passed"] > 0


@pytest.mark.slow
def test_a_camera_that_is_not_there_yet_is_waited_for(run):
    done = run(more=", wait: true", appears_s=3.0).flowing().end(1)
    recorded, true = done.compare()
    assert_continuous(done, recorded, true, 1)


@pytest.mark.slow
def test_what_the_cameras_ring_lost_is_counted(run):
    done = run(Fault(what="overflow", at_s=0.5, n=50)).flowing().end(2)
    recorded, true = done.compare()
    assert done.flows["transfers"]["dropped"] == {"ring overflow": 50}
    assert_continuous(done, recorded, true, 1)


@pytest.mark.slow
def test_a_reader_that_is_held_up_finds_what_the_ring_kept(run):
    done = run(Fault(what="stall", at_s=0.5, for_s=1.0), ring=200).flowing().end(3.5)
    recorded, true = done.compare()
    assert done.flows["transfers"]["dropped"]["ring overflow"] > 200
    assert_continuous(done, recorded, true, 1)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["back", "wrap"])
def test_a_clock_that_jumps_begins_anew_where_the_host_says(run, what):
    done = run(Fault(what=what, at_s=0.5)).flowing().end(2)
    recorded, true = done.compare()
    assert_continuous(done, recorded, true, 2)
    assert len(done.truth.of("opened")) == 1


@pytest.mark.slow
def test_corrupted_events_are_refused_one_by_one(run):
    done = run(Fault(what="off_sensor", at_s=0.5, n=5), Fault(what="disorder", at_s=0.8, n=4)).flowing().end(2)
    recorded, true = done.compare()
    assert done.flows["events"]["dropped"] == {"coordinates": 5, "order": 4}
    assert_continuous(done, recorded, true, 1)


@pytest.mark.slow
def test_frames_without_an_exposure_are_recorded_without_one(run):
    done = run(Fault(what="no_exposure", at_s=0.5, n=4)).flowing().end(2)
    done.compare()
    with open_recording(done.path) as recording:
        frames = list(recording.frames())
    assert sum(frame.exposure_start is None for frame in frames) == 4
    assert len(frames) == done.flows["frames"]["passed"]


@pytest.mark.slow
def test_silence_is_told_while_it_lasts(run):
    done = run(Fault(what="silence", at_s=0.5, for_s=1.0)).flowing().end(2.5)
    recorded, true = done.compare()
    assert_continuous(done, recorded, true, 1)
    with open_recording(done.path) as recording:
        rows = np.concatenate([table for _, table in recording.packet_table("camera/events")])
    marks = rows[rows[:, 4] == 0, 2]  # packets without events
    silent = np.diff(recorded).argmax()
    inside = (marks > recorded[silent]) & (marks < recorded[silent + 1])
    assert inside.sum() > 20


def test_one_thing_after_another(run):
    faults = [Fault(what=what, at_s=0.2 * (1 + k), n=3) for k, what in enumerate(("off_sensor", "raise", "wrap"))]
    faults += [Fault(what=what, at_s=0.2 * (4 + k), n=3) for k, what in enumerate(("overflow", "disorder", "back"))]
    done = run(*faults).flowing().end(2.5)
    recorded, true = done.compare()
    assert done.flows["events"]["dropped"] == {"coordinates": 3, "order": 3}
    assert done.flows["transfers"]["dropped"]["ring overflow"] >= 3
    assert any("ring overflow" in line for line in done.result["losses"])
    assert len(done.truth.of("fault")) == 6
    assert_continuous(done, recorded, true, 4)


def tolerance_us(done):
    """How exactly the host's clock can place what it reads: as late as transfers were handed over on this machine."""
    late = [line["host_ns"] / 1000 - line["stop"] for line in done.truth.of("transfer")]
    return 50_000 + max(late) - min(late)


def assert_taken_up(done, sessions):
    opened, plugged = done.truth.of("opened"), done.truth.of("plugged")
    assert len(opened) == sessions == len(plugged) + 1
    for came, taken in zip(plugged, opened[1:], strict=True):
        assert taken["at_us"] - came["at_us"] < 2_000_000


def assert_continuous(done, recorded, true, epochs):
    """Time never goes back, and is the true one but for a constant in each epoch, small against what was lost."""
    assert (np.diff(recorded) >= 0).all()
    offsets = recorded - true
    assert 1 <= len(np.unique(offsets)) <= epochs
    assert np.ptp(offsets) < tolerance_us(done)
