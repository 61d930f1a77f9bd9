"""The back end over the stand-in of the SDK: listing, opening, reading, settings, losses, and what goes wrong."""

import time
from contextlib import ExitStack
from pathlib import Path

import msgspec
import numpy as np
import pytest

from drivers.backends import neuromorphic
from drivers.camera.contract import Attached, GoneError
from drivers.camera.settings import Camera as Settings
from drivers.camera.settings import FrameCamera, Frames, Roi
from rtpipe.errors import InputError, WorldError
from rtpipe.formats.later import later
from rtpipe.raw import opened
from rtpipe.types import Events, Frame, Imu, RawEvents, Trigger
from tests.drivers.backends import neuromorphic_standin as standin
from tests.drivers.camera.faults import Camera, Fault, Script

pytest.importorskip("neuromorphic_drivers")

FILES = {
    "DAVIS346": "aedat4/davis346_ball_throw.aedat4",
    "DVXplorer": "aedat4/dvxplorer_person2.aedat4",
    "EVK4": "prophesee/evt3_nightsky_hd.raw",
    "EVK3 HD": "prophesee/evt3_nightsky_hd.raw",
}


@pytest.fixture
def plugged(shared, tmp_path):
    """``plugged(model, faults...)``: the camera on the stand-in's USB."""
    with ExitStack() as stack:

        def plug(model, *faults, **more):
            script = Script(
                recording=str(shared(f"recordings/{FILES[model]}")), log=str(tmp_path / "log"), model=model,
                faults=faults, **more,
            )  # fmt: skip
            camera = Camera(script)
            stack.enter_context(standin.standing_in(camera))
            return camera

        yield plug


def found(model):
    [camera] = neuromorphic.attached()
    assert camera.model == model
    return camera


def read(device, seconds):
    batches, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        batches.append(device.read(0.01))
    return batches


def given(batches, kind):
    return [r.body for b in batches for r in b.readings if isinstance(r.body, kind)]


def events_of(batches, size=(1280, 720)):
    parts = []
    for batch in batches:
        for reading in batch.readings:
            if isinstance(reading.body, RawEvents):
                parts.append(opened(reading.body, size, reading.t_first, reading.t_last)[0])
            elif isinstance(reading.body, Events):
                parts.append(reading.body)
    return Events.concatenate(parts)


def begun(camera):
    """Its clock when it was opened."""
    lines = [msgspec.json.decode(line) for line in Path(camera.script.log).read_bytes().splitlines()]
    return camera.script.clock_us + next(line["at_us"] for line in lines if line["what"] == "opened")


def truth(camera, first, last):
    """What the camera saw between two of its own times."""
    by = camera.script.clock_us
    seen = [body for body in camera.seen(first - by, last - by) if isinstance(body, Events)]
    return later(Events.concatenate(seen), by)


def same(a, b):
    return all(np.array_equal(getattr(a, name), getattr(b, name)) for name in "txyp")


@pytest.mark.parametrize(
    ("model", "raw"), [("DAVIS346", False), ("DVXplorer", False), ("EVK4", False), ("EVK4", True), ("EVK3 HD", False)]
)
def test_what_the_camera_saw_is_read_event_by_event(plugged, model, raw):
    camera = plugged(model)
    which = found(model)
    assert (which.serial, which.problem, which.connection) == ("00000499", "", "USB 3.0 SuperSpeed (5.0 Gb/s)")
    device = neuromorphic.open(which, Settings(raw=raw))
    assert device.encoding == ("evt3" if raw else "")
    began = time.monotonic_ns()
    batches = read(device, 0.4)
    device.close()
    device.close()
    events = events_of(batches)
    assert len(events) > 5_000
    first, last = begun(camera), int(max(r.t_last for b in batches for r in b.readings)) + 1
    assert same(events, truth(camera, first, last)[: len(events)])
    assert len(truth(camera, first, int(events.t[-1]))) <= len(events)
    if raw:
        assert not given(batches, Events)
    times = [batch.received_ns for batch in batches if batch.readings]
    assert times == sorted(times)
    assert began - 50_000_000 < times[0] <= time.monotonic_ns()
    for batch in batches:
        for reading in batch.readings:
            assert 1000 * (reading.t_last - first) <= batch.received_ns - began + 60_000_000
    if model == "DAVIS346":
        assert all(frame.exposure_end - frame.exposure_start > 5000 for frame in given(batches, Frame))
        assert len(given(batches, Frame)) > 5
        gravity = np.concatenate([np.linalg.norm(imu.acceleration, axis=1) for imu in given(batches, Imu)])
        assert 9 < np.median(gravity) < 11
        assert given(batches, Trigger)


@pytest.mark.parametrize(("model", "raw"), [("DAVIS346", False), ("EVK4", False), ("EVK4", True)])
def test_transfers_that_the_ring_lost_are_counted_where_they_are_missing(plugged, model, raw):
    camera = plugged(model, Fault(what="overflow", at_s=0.15, n=40))
    device = neuromorphic.open(found(model), Settings(raw=raw))
    batches = read(device, 0.4)
    losses = [i for i, batch in enumerate(batches) if batch.lost]
    assert [batches[i].lost for i in losses] == [{"ring overflow": 40}]
    before, after = events_of(batches[: losses[0]]), events_of(batches[losses[0] :])
    assert same(before, truth(camera, begun(camera), int(before.t[-1]) + 1)[: len(before)])
    expected = truth(camera, int(after.t[0]), int(after.t[-1]) + 1)
    assert len(after) <= len(expected)
    assert same(after, expected[len(expected) - len(after) :])
    assert after.t[0] - before.t[-1] > 35_000
    refused = sum(sum(batch.refused.values()) for batch in batches)
    blind = len(expected) - len(after) + refused
    assert blind < 3_000  # what could not be placed right behind the gap


def test_unplugging_is_being_gone_after_what_had_come(plugged):
    plugged("EVK4", Fault(what="unplug", at_s=0.1, for_s=60))
    device = neuromorphic.open(found("EVK4"), Settings())
    with pytest.raises(GoneError, match=r"EVK4 00000499 was unplugged or reset itself: .*NoDevice"):
        read(device, 1)
    device.close()
    with pytest.raises(GoneError):
        device.read(0)
    assert neuromorphic.attached() == []
    with pytest.raises(GoneError, match="is not there any more"):
        neuromorphic.open(Attached(neuromorphic.NAME, "EVK4", "00000499"), Settings())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("Access denied (insufficient permissions)", "this user may not open it: rtpipe doctor --install-udev"),
        ("the device is already used by another program", "another program has it open: close that first"),
        ("Firmware version not supported (neuromorphic-drivers expects version 0.6 or later, the camera runs on 0.3)",
         "its firmware is not one that this back end knows"),
        ("Pipe error", "unplug it and plug it in again .Pipe error."),
    ],
)  # fmt: skip
def test_a_camera_that_cannot_be_opened_says_why_and_what_to_do(plugged, text, says):
    plugged("DAVIS346")
    which = found("DAVIS346")
    standin.opening_fails = text
    with pytest.raises(WorldError, match=f"DAVIS346 00000499 cannot be opened: .*{says}") as caught:
        neuromorphic.open(which, Settings())
    assert not isinstance(caught.value, GoneError)
    standin.listed_error = text
    [listed] = neuromorphic.attached()
    assert says.split(" .")[0] in listed.problem
    standin.listing_fails = text
    with pytest.raises(WorldError):
        neuromorphic.attached()


def test_settings_reach_the_camera_at_the_start_and_live(plugged, tmp_path):
    plugged("EVK4")
    device = neuromorphic.open(found("EVK4"), Settings(biases={"diff_on": 20}, sync="master", rate_limit_mev_s=20))
    log = lambda: (tmp_path / "log").read_text()  # noqa: E731
    assert "diff_on=20" in log()
    assert "maximum_events_per_period=4000" in log()
    assert "INTERNAL_WITH_OUTPUT_ENABLED" in log()
    kept = {"sync": "master", "rate_limit_mev_s": 20}
    device.apply(Settings(biases={"diff_on": -5}, roi=Roi(width=10, height=10), **kept))
    assert "updated" in log()
    assert "diff_on=-5" in log()
    before = log()
    with pytest.raises(InputError, match=r"diff_on: -100 to 140 wanted, not 141"):
        device.apply(Settings(biases={"diff_on": 141}, **kept))
    with pytest.raises(InputError, match=r"rate_limit_mev_s, sync|sync, rate_limit_mev_s"):
        device.apply(Settings(rate_limit_mev_s=5))
    with pytest.raises(InputError, match="masks 64 pixels at the most, not 65"):
        device.apply(Settings(mask=[(i, 0) for i in range(65)], **kept))
    assert log() == before
    words = {capability.name: capability.says for capability in device.capabilities}
    assert words["biases.diff_on"] == "-100 to 140"
    device.close()


def test_a_davis_changes_its_exposure_live_and_refuses_raw(plugged, tmp_path):
    plugged("DAVIS346")
    with pytest.raises(InputError, match="raw: the bytes of a DAVIS346 cannot be passed on"):
        neuromorphic.open(found("DAVIS346"), Settings(raw=True))
    device = neuromorphic.open(found("DAVIS346"), FrameCamera(mask=[(i, 1) for i in range(9)]))
    assert "mask" not in {each.name for each in device.capabilities}
    device.apply(FrameCamera(frames=Frames(exposure_us=8000), mask=[(i, 1) for i in range(9)]))
    assert "exposure_us=8000" in (tmp_path / "log").read_text()
    device.close()


def test_a_bias_that_the_camera_refuses_closes_it_again(plugged):
    camera = plugged("DVXplorer")
    with pytest.raises(InputError, match=r"biases\.on: 0 to 17 wanted, not 18"):
        neuromorphic.open(found("DVXplorer"), Settings(biases={"on": 18}))
    assert camera.open() == 1  # it can be opened again
    with pytest.raises(InputError, match="cannot be said to the camera"):
        neuromorphic.open(found("DVXplorer"), Settings(biases={"on": 300}))
