"""Prophesee cameras through Metavision: the documented bindings' names, data and settings. None of it is the SDK."""

import inspect
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from drivers.backends import metavision
from drivers.backends import metavision_packets as packets
from drivers.camera.contract import GoneError
from drivers.camera.settings import Camera, Roi
from rtpipe import encodings
from rtpipe.errors import InputError, WorldError
from rtpipe.formats import open_recording
from rtpipe.types import Edge, Events, RawEvents, Trigger
from tests.drivers.backends import metavision_standin as standin
from tests.drivers.camera import faults
from tests.drivers.camera.faults import Fault, Script

RECORDING = "recordings/aedat4/davis346_highway.aedat4"


@pytest.fixture
def plugged(
    shared: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Path]]:
    """Plug the stand-in's camera in, with these faults; gives the log of what it sent."""

    def plug(*happens: Fault) -> Path:
        log = tmp_path / "log"
        script = Script(recording=str(shared(RECORDING)), log=str(log), faults=happens, kinds=("events", "triggers"))
        (tmp_path / "script").write_bytes(msgspec.json.encode(script))
        monkeypatch.setenv(faults.VARIABLE, str(tmp_path / "script"))
        faults.camera.cache_clear()
        standin.calls.clear()
        standin.refuse.clear()
        return log

    monkeypatch.setitem(sys.modules, "metavision_hal", standin)
    yield plug
    faults.camera.cache_clear()


def opened(settings: Camera | None = None) -> metavision.Device:
    (camera,) = metavision.attached()
    return metavision.open(camera, settings or Camera())


def read_on(device: metavision.Device) -> None:
    for _ in range(1000):
        device.read(0.01)


def test_without_the_sdk_it_says_where_it_comes_from() -> None:
    assert "not installed" in metavision.why_not()
    with pytest.raises(WorldError, match="--system-site-packages"):
        metavision.attached()


def test_an_sdk_that_does_not_load_is_told_from_one_that_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "metavision_hal.py").write_text("raise ImportError('libmetavision_hal.so.5: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    assert "libmetavision_hal.so.5" in metavision.why_not()


def test_an_open_camera_tells_its_model_size_speed_and_firmware(plugged: Callable[..., Path]) -> None:
    plugged()
    (listed,) = metavision.attached()
    assert (listed.model, listed.serial) == ("Metavision camera", "00ca0009")  # the plugin names no model
    device = opened()
    told = device.attached
    assert (told.model, told.serial, told.resolution) == ("EVK4", "00ca0009", faults.camera().resolution)
    assert (told.connection, told.firmware) == ("USB 3, 5 Gbit/s", "3.9.0")
    device.close()
    device.close()


@pytest.mark.parametrize(("version", "raw"), [(5, False), (4, False), (4, True)])
def test_what_arrives_is_what_the_camera_sent_event_by_event(
    plugged: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, version: int, raw: bool
) -> None:
    log = plugged()
    if version == 4:  # its bytes are an array
        monkeypatch.delattr(standin, "RawDataBuffer")
    device = opened(Camera(raw=raw))
    assert device.encoding == ("evt3" if raw else "")
    got: list[Events] = []
    deadline = time.monotonic() + 0.5
    last = -1
    while time.monotonic() < deadline:
        for reading in device.read(0.01).readings:
            if reading.kind == "events":
                assert reading.t_last >= reading.t_first >= last
                last = reading.t_last
                assert isinstance(reading.body, RawEvents if raw else Events | None)
                if isinstance(reading.body, RawEvents):
                    got.append(encodings.decode(reading.body, device.resolution).events)
                elif isinstance(reading.body, Events):
                    got.append(reading.body)
    device.close()
    transfers = [each for line in log.read_text().splitlines() if (each := json.loads(line))["what"] == "transfer"]
    events = Events.concatenate(got)
    assert sum(line.get("events", 0) for line in transfers) - len(events) in range(2000)  # the last may not be read
    with open_recording(Path(faults.camera().script.recording)) as recording:
        expected, begin = recording.events()[: len(events)], recording.t_start
    assert len(events) > 1000
    np.testing.assert_array_equal(events.t, expected.t - begin + faults.camera().script.clock_us)
    if version == 4:  # a row's vectors order events of one instant anew
        order, expected_order = (np.lexsort((e.p, e.x, e.y, e.t)) for e in (events, expected))
    else:
        order = expected_order = np.arange(len(events))
    for name in "xyp":
        np.testing.assert_array_equal(getattr(events, name)[order], getattr(expected, name)[expected_order])


def test_an_unplugged_camera_is_gone_and_comes_back(plugged: Callable[..., Path]) -> None:
    plugged(Fault(what="unplug", at_s=0.05, for_s=0.2))
    device = opened()
    with pytest.raises(GoneError):
        read_on(device)
    device.close()
    assert metavision.attached() == []
    time.sleep(0.3)
    again = opened()
    again.read(0.05)
    again.close()


def test_a_call_that_raises_is_a_camera_that_is_gone(plugged: Callable[..., Path]) -> None:
    plugged(Fault(what="raise", at_s=0.0))
    device = opened()
    with pytest.raises(GoneError, match="transfer was cancelled"):
        read_on(device)
    device.close()


def test_settings_reach_the_facilities_and_only_what_changes_is_set(plugged: Callable[..., Path]) -> None:
    plugged()
    settings = Camera(
        biases={"bias_diff_on": 20},
        roi=Roi(x=10, y=20, width=100, height=80),
        mask=[(3, 4)],
        rate_limit_mev_s=10,
        trail_us=10_000,
        antiflicker_hz=(90, 110),
        sync="master",
        trigger_out_us=1000,
    )
    device = opened(settings)
    names = [name for name, _ in standin.calls]
    assert names.index("start") == len(names) - 1  # synchronisation must be chosen before
    assert ("bias", ("bias_diff_on", 20)) in standin.calls
    assert ("roi.window", (10, 20, 100, 80)) in standin.calls
    assert [call for call in standin.calls if call[0] == "mask"] == [("mask", (3, 4, True)), ("mask", (0, 0, False))]
    assert ("erc.rate", (10_000_000,)) in standin.calls
    assert names.index("trail.threshold") < max(i for i, name in enumerate(names) if name == "trail")
    assert ("antiflicker.band", (90, 110)) in standin.calls
    assert {"master", "period", "duty", "trigger out", "trigger in"} <= set(names)
    standin.calls.clear()
    device.apply(msgspec.structs.replace(settings, roi=None, biases={}))
    assert standin.calls == [("bias", ("bias_diff_on", 0)), ("roi", (False,))]  # as the camera came
    device.close()


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (Camera(biases={"bias_diff_on": 500}), "biases.bias_diff_on: -85 to 140 wanted, not 500"),
        (Camera(biases={"bias_diff": 1}), "this camera has bias_diff_on, bias_diff_off"),
        (Camera(roi=Roi(x=300, y=0, width=100, height=10)), "roi: 100x10 at 300,0 is not on a sensor"),
        (Camera(mask=[(0, 0), (1, 1), (2, 2)]), "up to 2 pixels"),
        (Camera(rate_limit_mev_s=900), "0 to 320 wanted"),
        (Camera(trail_us=10), "trail_us: 1000 to 100000 wanted"),
        (Camera(antiflicker_hz=(110, 90)), "lower frequency first"),
        (Camera(raw=True), "neuromorphic-drivers"),
    ],
)
def test_what_it_cannot_do_is_refused_with_what_it_can(
    plugged: Callable[..., Path], settings: Camera, says: str
) -> None:
    plugged()
    with pytest.raises(InputError, match=says.replace("(", r"\(")):
        opened(settings)
    if not settings.raw:
        device = opened()
        before = list(standin.calls)
        with pytest.raises(InputError):
            device.apply(settings)
        assert standin.calls == before
        device.close()


def test_what_the_sdk_refuses_half_way_is_undone(plugged: Callable[..., Path]) -> None:
    plugged()
    device = opened()
    standin.refuse.add("erc.rate")
    standin.calls.clear()
    with pytest.raises(InputError, match="rate_limit_mev_s: the camera refuses it"):
        device.apply(Camera(roi=Roi(width=10, height=10), rate_limit_mev_s=1))
    assert standin.calls[-2:] == [("roi", (False,)), ("erc", (False,))]
    standin.refuse.clear()
    standin.calls.clear()
    device.apply(Camera(roi=Roi(width=10, height=10)))  # not taken for what it already is
    assert ("roi", (True,)) in standin.calls
    device.close()


def test_each_capability_is_a_setting(plugged: Callable[..., Path]) -> None:
    plugged()
    device = opened()
    fields = set(Camera.__struct_fields__)
    names = [each.name for each in device.capabilities]
    assert {name.partition(".")[0] for name in names} <= fields
    assert "biases.bias_diff" not in names
    assert {"biases.bias_diff_on", "roi", "mask", "rate_limit_mev_s", "trail_us", "antiflicker_hz", "sync"} <= set(
        names
    )
    device.close()


FACILITIES = [
    *("events_stream", "events_stream_decoder", "event_cd_decoder", "event_ext_trigger_decoder", "hw_identification"),
    *("geometry", "ll_biases", "roi", "digital_event_mask", "erc_module", "event_trail_filter_module"),
    *("antiflicker_module", "trigger_in", "trigger_out", "camera_synchronization"),
]
DOCUMENTED = {
    "DeviceDiscovery": {"list": "", "list_local": "", "open": "serial"},
    "Device": dict.fromkeys((f"get_i_{name}" for name in FACILITIES), ""),
    "I_EventsStream": {"start": "", "stop": "", "poll_buffer": "", "get_latest_raw_data": ""},
    "I_Decoder": {"decode": "RawData", "get_last_timestamp": ""},
    "I_EventDecoder": {"add_event_buffer_callback": "object"},
    "I_HW_Identification": {
        "get_current_data_encoding_format": "",
        "get_serial": "",
        "get_sensor_info": "",
        "get_system_info": "",
    },
    "I_Geometry": {"get_width": "", "get_height": ""},
    "LL_Bias_Info": {"is_modifiable": "", "get_bias_range": ""},
    "I_LL_Biases": {"get_all_biases": "", "get_bias_info": "bias_name", "set": "bias_name bias_value"},
    "I_ROI": {"set_window": "roi", "enable": "enable"},
    "I_PixelMask": {"set_mask": "x y enabled"},
    "I_DigitalEventMask": {"get_pixel_masks": ""},
    "I_ErcModule": {
        "enable": "b",
        "set_cd_event_rate": "events_per_sec",
        "get_min_supported_cd_event_rate": "",
        "get_max_supported_cd_event_rate": "",
    },
    "I_EventTrailFilterModule": {
        "enable": "state",
        "set_trail_filter": "",
        "set_threshold": "threshold",
        "get_min_supported_threshold": "",
        "get_max_supported_threshold": "",
    },
    "I_AntiFlickerModule": {
        "enable": "b",
        "set_filtering_mode": "mode",
        "set_frequency_band": "min_freq max_freq",
        "get_min_supported_frequency": "",
        "get_max_supported_frequency": "",
    },
    "I_TriggerIn": {"enable": "channel", "disable": "channel"},
    "I_TriggerOut": {"enable": "", "disable": "", "set_period": "period_us", "set_duty_cycle": "period_ratio"},
    "I_CameraSynchronization": {"set_mode_standalone": "", "set_mode_master": "", "set_mode_slave": ""},
}
"""The bindings of OpenEB 4 and 5 (its hal/python/bindings), as far as the back end calls them."""


def test_the_stand_in_has_the_documented_names_and_no_others() -> None:
    for name, methods in DOCUMENTED.items():
        there = {
            method: " ".join(each for each in inspect.signature(function).parameters if each != "self")
            for method, function in vars(getattr(standin, name)).items()
            if not method.startswith("_") and not isinstance(function, type)
            for function in [getattr(function, "__func__", function)]
        }
        assert there == methods, name


def test_trigger_edges_and_channels() -> None:
    array = np.array([(1, 10, 0), (0, 12, 6)], standin.EVENT_EXT_TRIGGER)
    found = packets.triggers(array)
    assert found.edge.tolist() == [Edge.RISING, Edge.FALLING]
    assert (found.t.tolist(), found.channel.tolist()) == ([10, 12], [0, 6])


def test_silence_is_a_promise_and_late_knowledge_extends_it() -> None:
    some = Trigger(np.array([5]), np.array([0], np.uint8), np.array([1], np.uint8))
    silent, signal = packets.readings([], [some], 900, ("events", "triggers"))
    assert (silent.kind, silent.t_last, silent.body) == ("events", 900, None)
    assert (signal.t_first, signal.t_last) == (5, 900)
    assert packets.readings([], [some], None, ("events",)) == []


@pytest.mark.parametrize(
    ("listed", "sensor", "information", "model"),
    [
        ("Prophesee:hal_plugin_imx636_evk4:00ca0009", "IMX636", {}, "EVK4"),
        ("Prophesee:hal_plugin_gen31_evk3:1", "Gen3.1", {}, "EVK3 VGA"),
        ("Prophesee:hal_plugin_prophesee:2", "IMX636", {"EVK3 Build Date": "x"}, "EVK3 HD"),
        ("Prophesee:hal_plugin_prophesee:2", "GenX320", {"Name": "EVK3"}, "EVK3 320"),
        ("CenturyArks:silky:3", "IMX636", {}, "Metavision camera"),
    ],
)
def test_models_by_what_the_sdk_tells(listed: str, sensor: str, information: dict[str, str], model: str) -> None:
    known, serial = packets.source(listed)
    assert packets.model(known, sensor, information) == model
    assert model in metavision.MODELS
    assert serial == listed.rsplit(":", 1)[1]
