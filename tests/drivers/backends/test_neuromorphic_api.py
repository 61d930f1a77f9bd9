"""The stand-in and the back end against the package that is installed: a name, an argument or a field that changed
fails here, before a camera finds it."""

import ast
import dataclasses
import inspect
import typing
from pathlib import Path

import pytest

from drivers.backends import neuromorphic, neuromorphic_settings
from tests.drivers.backends import neuromorphic_standin as standin

nd = pytest.importorskip("neuromorphic_drivers")
extension = pytest.importorskip("neuromorphic_drivers.neuromorphic_drivers")


def arguments(signature: str) -> list[str]:
    return [name.strip(" $()") for name in signature.strip("()").split(",") if name.strip(" $()/") not in ("", "self")]


def test_the_compiled_half_is_made_and_listed_with_the_arguments_of_the_stand_in():
    ours = [name for name in inspect.signature(standin.Device.__new__).parameters if name != "cls"]
    assert arguments(extension.Device.__text_signature__) == ours
    assert arguments(extension.list_devices.__text_signature__) == []
    assert list(inspect.signature(standin.list_devices).parameters) == []


METHODS = [name for name in vars(standin.Device) if name in dir(extension.Device)]


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("__module__", "__doc__", "__new__")])
def test_each_method_of_the_stand_in_is_the_compiled_halfs(name):
    theirs = getattr(extension.Device, name)
    ours = [each for each in inspect.signature(getattr(standin.Device, name)).parameters if each != "self"]
    assert arguments(theirs.__text_signature__) == ours


def test_opening_takes_what_the_back_end_gives():
    parameters = inspect.signature(nd.open).parameters
    source = ast.parse(inspect.getsource(neuromorphic))
    calls = [n for n in ast.walk(source) if isinstance(n, ast.Call) and ast.unparse(n.func) == "sdk.open"]
    assert calls
    for call in calls:
        assert {keyword.arg for keyword in call.keywords} <= set(parameters)
        assert len(call.args) == 1
        assert next(iter(parameters)) == "configuration"


def test_every_call_on_an_open_device_is_one_of_its_methods():
    source = ast.parse(inspect.getsource(neuromorphic))
    called = set()
    for node in ast.walk(source):
        on = node.func if isinstance(node, ast.Call) else None
        if isinstance(on, ast.Attribute) and ast.unparse(on.value) in ("self._device", "device"):
            called.add(on.attr)
    assert {"update_configuration", "close", "biases_bounds", "serial", "connection", "properties"} <= called
    protocol = nd.GenericDeviceRawOptional
    for name in called:
        assert hasattr(protocol, name)
        assert hasattr(nd.device.Device, name)


def test_status_and_packets_have_the_fields_that_are_read():
    raw, decoded = (
        {field.name for field in dataclasses.fields(kind)} for kind in (nd.status.RawRingStatus, nd.status.RingStatus)
    )
    assert {"system_time", "backlog", "dropped_packets", "overflow_indices"} <= raw
    assert {"system_time", "backlog", "dropped_packets", "current_t"} <= decoded
    assert {"system_time", "ring"} <= {field.name for field in dataclasses.fields(nd.status.RawStatus)}
    common = {"polarity_events", "trigger_events", "polarity_events_overflow_indices"}
    for kind, more in (
        ("Davis346Packet", {"imu_events", "frames"}),
        ("DvxplorerPacket", {"imu_events"}),
        ("Evt3Packet", set()),
    ):
        assert common | more <= set(getattr(nd.packet, kind).__annotations__)
    assert set(nd.packet.Frame.__annotations__) == {"start_t", "exposure_start_t", "exposure_end_t", "t", "pixels"}
    listed = {field.name for field in dataclasses.fields(nd.ListedDevice)}
    assert {"name", "connection", "address", "serial", "error"} == listed


def test_the_compiled_half_holds_the_names_of_the_arrays_fields():
    """It gives no types away; its text does hold the names."""
    text = Path(extension.__file__).read_bytes()
    for name in ("accelerometer_x", "gyroscope_z", "temperature", "rising"):
        assert name.encode() in text
    assert b"txyon" in text or all(name in text for name in (b"polarity", b"on"))


def test_every_model_is_one_that_the_package_drives():
    assert {kind.name for kind in neuromorphic_settings.KINDS} == {name.value for name in nd.Name}
    unions = typing.get_args(nd.unions.Configuration) if hasattr(nd, "unions") else ()
    assert not unions or len(unions) == len(neuromorphic_settings.KINDS)


def test_without_usb_the_real_package_is_said_in_plain_words():
    """On a machine with USB and no camera nothing is listed: either is right, an exception of another kind is not."""
    from rtpipe.errors import WorldError

    try:
        assert all(camera.backend == "neuromorphic-drivers" for camera in neuromorphic.attached())
    except WorldError as error:
        assert "USB cannot be asked here" in str(error)
        assert len(str(error)) < 300
