"""The dv-processing back end over a stand-in whose classes are made of the installed package's: what is attached, what
each camera can do, which calls a setting becomes, and what is said when something cannot be."""

import gc
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

import drivers.backends.dv as backend
from drivers.backends.dv_objects import words
from drivers.camera.contract import GoneError
from drivers.camera.settings import Camera, FrameCamera, Frames, Roi
from rtpipe.errors import InputError, WorldError
from tests.drivers.backends import dv_standin
from tests.drivers.camera import faults, truth

dv = pytest.importorskip("dv_processing")
REAL = dv.io.camera

Attach = Callable[..., faults.Script]


@pytest.fixture
def attach(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: Callable[[str], Path]) -> Iterator[Attach]:
    """``attach(model)``: the SDK then finds that camera."""

    def make(model: str = "DAVIS346", **more: Any) -> faults.Script:
        name = "davis346_ball_throw" if model == "DAVIS346" else "dvxplorer_person2"
        script = faults.Script(
            recording=str(shared(f"recordings/aedat4/{name}.aedat4")), log=str(tmp_path / "log"), model=model, **more
        )
        for key, value in faults.environment(tmp_path / "env", script).items():
            monkeypatch.setenv(key, value)
        faults.camera.cache_clear()
        monkeypatch.setattr(dv.io, "camera", dv_standin.Cameras(dv))
        return script

    yield make
    gc.collect()  # cameras are closed when nobody holds them
    faults.camera.cache_clear()


def opened(settings: Camera | None = None) -> backend.Device:
    (camera,) = backend.attached()
    return backend.open(camera, settings or FrameCamera())


def calls(script: faults.Script, name: str = "set") -> list[tuple[str, ...]]:
    """The setters that were called, with their arguments in words."""
    return [(line["name"], *line["given"]) for line in truth.read(script).of("set") if line["name"].startswith(name)]


def test_without_a_camera_nothing_is_attached() -> None:
    assert backend.why_not() == ""
    assert list(backend.attached()) == []


def test_errors_of_the_sdk_come_without_source_lines_and_call_lists() -> None:
    with pytest.raises(RuntimeError) as caught:
        REAL.open("no such serial")
    assert words(caught.value) == "Could not find device with given serial number"
    with pytest.raises(IndexError) as caught_too:
        REAL.DAVIS()
    assert "\n" not in words(caught_too.value)


def test_what_is_attached_is_told_without_opening_it(attach: Attach) -> None:
    attach("DVXplorer Mini")
    (camera,) = backend.attached()
    assert (camera.backend, camera.model, camera.serial, camera.firmware) == (
        "dv-processing",
        "DVXplorer Mini",
        "00000499",
        "6",
    )
    assert camera.problem == ""


def test_an_open_camera_tells_the_rest(attach: Attach) -> None:
    attach()
    about = opened().attached
    assert about.resolution == (346, 260)
    assert about.connection == "USB 3, 5 Gbit/s"
    assert about.firmware == "6, logic 18.1"
    assert about.streams == ("events", "frames", "imu", "triggers")


def drained(device: backend.Device) -> None:
    for _ in range(1000):
        device.read(0.01)


COMMON = {"roi"}
SIGNALS = {"triggers", "trigger_out_us", "sync"}
DVXPLORER = {"ContrastThresholdOn", "ContrastThresholdOff", "GlobalHold", "GlobalReset", "readout_fps"} | {
    "SubSampleHorizontal",
    "SubSampleVertical",
}


@pytest.mark.parametrize(
    ("model", "wanted", "biases"),
    [
        (
            "DAVIS346",
            COMMON
            | SIGNALS
            | {"activity_us", "refractory_us", "imu", "frames.enabled", "frames.exposure_us", "frames.interval_us"},
            {f"{name}.{part}" for name in REAL.DAVIS.Davis346BiasCF.__members__ for part in ("coarse", "fine")}
            | set(REAL.DAVIS.Davis346BiasVDAC.__members__),
        ),
        ("DVXplorer", COMMON | SIGNALS | {"imu"}, DVXPLORER),
        ("DVXplorer Mini", COMMON | {"imu"}, DVXPLORER),
        ("DVS128", COMMON | {"sync"}, set(REAL.DVS128.Bias.__members__)),
    ],
)
def test_each_camera_can_do_what_the_installed_class_has(
    attach: Attach, model: str, wanted: set[str], biases: set[str]
) -> None:
    """A method that a new version renamed is a capability less, and this fails."""
    attach(model)
    found = {capability.name: capability for capability in opened().capabilities}
    assert set(found) == wanted | {f"biases.{name}" for name in biases}
    assert all(capability.where == "hardware" for capability in found.values())


def test_the_names_of_models_are_those_of_the_installed_package() -> None:
    assert set(backend._CLASSES) <= set(REAL.CameraModel.__members__)
    for _, name in backend._CLASSES.values():
        kinds = [[kind for _, kind, _ in each] for each in dv_standin.signatures(getattr(REAL, name).__init__)]
        assert any("DeviceDescriptor" in kind for given in kinds for kind in given[:1]), name
    speeds = {name.removeprefix("LIBUSB_SPEED_") for name in REAL.libusb_speed.__members__}
    assert set(backend._SPEEDS) == speeds - {"UNKNOWN"}
    fields = {name for name in dir(REAL.USBDevice.DeviceDescriptor) if not name.startswith("_")}
    assert fields == {
        "busNumber", "cameraModel", "devAddress", "deviceType", "firmwareVersion", "pid", "serialNumber"
    }  # fmt: skip
    assert set(dv.io.DataReadHandler.OutputFlag.__members__) == {"CONTINUE", "END_OF_FILE"}
    returned = dv_standin.result(REAL.DAVIS.readNext)
    for name in ("EventStore", "Frame", "ImuVector", "TriggersVector", "OutputFlag"):
        assert name in returned


def test_settings_become_calls(attach: Attach) -> None:
    script = attach()
    settings = FrameCamera(
        roi=Roi(x=10, y=20, width=100, height=80),
        activity_us=2100,
        refractory_us=1,
        frames=Frames(exposure_us=8000, interval_us=40_000),
        biases={"Diff.fine": 55, "ApsOverflowLevel": 20},
        trigger_out_us=1001,
        packet_us=3000,
    )
    opened(settings)
    made = calls(script)
    for wanted in (
        ("setTimeInterval", str(timedelta(microseconds=3000))),
        ("setCropAreaEvents", "(10, 20, 100, 80)"),
        ("setBackgroundActivityFilter", "8"),
        ("setRefractoryPeriodFilter", "1"),
        ("setAutoExposure", "False"),
        ("setExposureDuration", str(timedelta(microseconds=8000))),
        ("setFrameInterval", str(timedelta(microseconds=40_000))),
        ("setFramesRunning", "True"),
        ("setDavis346BiasCoarseFine", "Diff", "4", "55"),
        ("setDavis346BiasVoltage", "ApsOverflowLevel", "20"),
        ("setImuRunningAccelerometer", "True"),
        ("setDetectorRisingEdges", "True"),
        ("setDetectorRunning", "True"),
        ("setGeneratorHighTime", str(timedelta(microseconds=500))),
        ("setGeneratorLowTime", str(timedelta(microseconds=501))),
        ("setGeneratorRunning", "True"),
    ):
        assert wanted in made, wanted
    assert len(calls(script, "setDavis346Bias")) == 2, "what is not asked for stays as it came"


def test_what_is_left_out_again_is_as_it_came(attach: Attach) -> None:
    script = attach()
    device = opened(FrameCamera(roi=Roi(width=100, height=80), biases={"On.coarse": 6}))
    before = len(calls(script))
    device.apply(FrameCamera())
    assert calls(script)[before:] == [
        ("setCropAreaEvents", "(0, 0, 346, 260)"),
        ("setDavis346BiasCoarseFine", "On", "4", "100"),
    ]
    device.apply(FrameCamera())
    assert len(calls(script)) == before + 2, "what does not change is not sent again"


def test_readouts_and_subsampling_of_a_dvxplorer(attach: Attach) -> None:
    script = attach("DVXplorer")
    opened(Camera(biases={"readout_fps": 5000, "SubSampleVertical": 4, "GlobalHold": 1, "ContrastThresholdOn": 17}))
    assert {
        ("setReadoutFPS", "VARIABLE_5000"),
        ("setSubSampleVertical", "EVERY_FOURTH"),
        ("setGlobalHold", "True"),
        ("setContrastThresholdOn", "17"),
    } <= set(calls(script))
    opened(Camera(biases={"readout_fps": -2000}))
    assert ("setReadoutFPS", "CONSTANT_LOSSY_2000") in calls(script)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (FrameCamera(biases={"Diff.fine": 256}), "biases.Diff.fine: 0 to 255 wanted, not 256"),
        (FrameCamera(biases={"Diff.coarse": 8}), "biases.Diff.coarse: 0 to 7 wanted, not 8"),
        (FrameCamera(biases={"ApsOverflowLevel": 64}), "biases.ApsOverflowLevel: 0 to 63 wanted, not 64"),
        (FrameCamera(biases={"Dif": 1}), "biases.Dif: there is none of that name"),
        (FrameCamera(roi=Roi(x=300, width=100, height=80)), "roi: 100x80 at 300,0 is not on a sensor of 346x260"),
        (FrameCamera(activity_us=2_000_000), "activity_us: in steps of 250 µs, to 1,023,750 µs wanted"),
        (FrameCamera(frames=Frames(exposure_us=5_000_000)), "frames.exposure_us: up to 4,194,303 µs wanted"),
        (FrameCamera(sync="secondary"), "sync: by its cable this camera is master: plug the cable into its IN"),
        (FrameCamera(trigger_out_us=1), "trigger_out_us: at least 2 µs wanted"),
        (FrameCamera(raw=True), "raw: dv-processing hands over decoded events"),
    ],
)
def test_a_value_out_of_range_is_refused_with_the_range_and_nothing_changes(
    attach: Attach, settings: FrameCamera, said: str
) -> None:
    script = attach()
    device = opened()
    before = len(calls(script))
    with pytest.raises(InputError) as caught:
        opened(settings) if settings.raw else device.apply(settings)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 500
    assert len(calls(script)) == before


def test_what_the_camera_refuses_is_said_in_its_words_and_undone(attach: Attach) -> None:
    script = attach()
    device = opened(FrameCamera(frames=Frames(exposure_us=5000)))
    before = len(calls(script))
    with pytest.raises(InputError) as caught:
        device.apply(FrameCamera(roi=Roi(width=101, height=80), frames=Frames(exposure_us=9000)))
    assert "roi: the camera refused: InvalidArgument: The events crop area is invalid." in str(caught.value)
    assert calls(script)[before:] == [("setCropAreaEvents", "(0, 0, 346, 260)")]
    device.apply(FrameCamera(frames=Frames(exposure_us=5000)))
    assert len(calls(script)) == before + 1, "it is still as it was"


def test_exposure_left_out_is_automatic_again(attach: Attach) -> None:
    script = attach()
    device = opened(FrameCamera(frames=Frames(exposure_us=5000)))
    device.apply(FrameCamera())
    assert calls(script, "setAutoExposure") == [("setAutoExposure", "False"), ("setAutoExposure", "True")]


def test_streams_that_are_left_out_are_not_sent(attach: Attach) -> None:
    script = attach()
    device = opened(FrameCamera(frames=Frames(enabled=False), imu=False, triggers=False))
    assert list(device.kinds) == ["events"]
    assert ("setFramesRunning", "True") not in calls(script)
    device.apply(FrameCamera(frames=Frames(enabled=True)))
    assert ("setFramesRunning", "True") in calls(script)


def test_a_part_that_the_cameras_logic_lacks_is_no_capability(attach: Attach, monkeypatch: pytest.MonkeyPatch) -> None:
    attach()

    def absent(self: Any) -> int:
        raise RuntimeError("x.hpp(3): f()\nRuntimeError: Background Activity filter feature not available.")

    monkeypatch.setattr(dv.io.camera.DAVIS, "getBackgroundActivityFilter", absent)
    names = {capability.name for capability in opened().capabilities}
    assert "activity_us" not in names
    assert "refractory_us" in names


def test_a_camera_that_was_unplugged_is_gone(attach: Attach) -> None:
    attach(faults=(faults.Fault(what="unplug", at_s=0.1, for_s=60.0),))
    device = opened()
    with pytest.raises(GoneError, match="DAVIS346 00000499 was unplugged, or stopped answering"):
        drained(device)
    with pytest.raises(GoneError):
        device.apply(FrameCamera(roi=Roi(width=101, height=80)))
    assert list(backend.attached()) == []


def test_a_camera_that_is_not_there_any_more_cannot_be_opened(attach: Attach) -> None:
    attach()
    (camera,) = backend.attached()
    with pytest.raises(GoneError, match="DAVIS346 00000499 is not there any more"):
        backend.open(replace(camera, address="9:9"), FrameCamera())


@pytest.mark.parametrize(
    ("says", "kind", "said"),
    [
        ("Failed to open USB device. This usually happens due to permissions or driver issues, or because the device "
         "is already in use by another running program.", WorldError, "rtpipe doctor --install-udev"),
        ("Device firmware version incorrect. You have version 5; but version 6 is required. Please update by following "
         "the Flashy documentation at 'x'.", WorldError, "version 6 is required"),
        ("Failed to verify serial number (expected: 'A', found: 'B').", GoneError, "not there any more"),
        ("Could not find a device with VID=152A, PID=841A and USB Bus Address=2:1.", GoneError, "not there any more"),
    ],
)  # fmt: skip
def test_a_camera_that_cannot_be_opened_says_why(
    attach: Attach, monkeypatch: pytest.MonkeyPatch, says: str, kind: type, said: str
) -> None:
    attach()

    def refuse(self: Any, *given: Any) -> None:
        raise RuntimeError(
            f"/project/usb_device.hpp(88): USBDevice()\nRuntimeError: {says}\nStacktrace:\n 0# 0x0 in x\n"
        )

    monkeypatch.setattr(dv.io.camera.DAVIS, "__init__", refuse)
    with pytest.raises(kind) as caught:
        opened()
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500
    assert type(caught.value) is kind


def test_a_closed_device_is_let_go(attach: Attach) -> None:
    script = attach()
    device = opened()
    device.close()
    device.close()
    assert len(truth.read(script).of("closed")) == 1


def test_reading_gives_what_the_camera_sent(attach: Attach) -> None:
    attach()
    device = opened()
    kinds = set()
    n = 0
    for _ in range(200):
        batch = device.read(0.05)
        kinds |= {reading.kind for reading in batch.readings}
        n += sum(len(reading.body) for reading in batch.readings if reading.kind == "events")  # type: ignore[arg-type]
        if kinds == {"events", "frames", "imu", "triggers"} and n > 1000:
            break
    assert kinds == {"events", "frames", "imu", "triggers"}
    assert n > 1000
