"""What `rtpipe cameras` says: cameras of all back ends merged with what the USB shows, and what to do about each."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import pytest

from drivers.camera.contract import Attached, Capability
from rtpipe import registry
from rtpipe.cli.cameras import _chosen, lines
from rtpipe.errors import WorldError
from rtpipe.machine import cameras, usb
from rtpipe.machine.cameras import Listing, Ready, Seen, listing, merged, with_usb
from tests.drivers.camera.faults import Script, environment

NODE = Path("/dev/bus/usb/001/007")


class Device:
    def __init__(self, attached: Attached) -> None:
        self.attached = attached
        self.capabilities = (Capability("roi", "hardware", "one rectangle"),)

    def close(self) -> None:
        OPENED.append(self.attached.serial)


OPENED: list[str] = []


def back_end(name: str, *found: Attached, why_not: str = "", models: Sequence[str] = ("DAVIS346",)) -> ModuleType:
    module = ModuleType(name)
    module.__dict__.update(
        NAME=name,
        TITLE=name.upper(),
        MODELS=models,
        INSTALL=f"pip install {name}",
        why_not=lambda: why_not,
        attached=lambda: list(found),
        open=lambda camera, settings: Device(camera),
    )
    return module


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Listing]:
    """The listing on a machine with these back ends and USB cameras."""
    names, load = registry.names, registry.load

    def look(
        *modules: ModuleType, on_usb: Sequence[usb.UsbCamera] | None = (), inside: bool = True, patience_s: float = 20
    ) -> Listing:
        there = {module.__name__: module for module in modules}
        monkeypatch.setattr(registry, "names", lambda group: tuple(there) if group == "backends" else names(group))
        monkeypatch.setattr(registry, "load", lambda g, n: there[n] if g == "backends" else load(g, n))
        monkeypatch.setattr(usb, "cameras", lambda: None if on_usb is None else list(on_usb))
        return listing(inside, patience_s)

    return look


def plugged(serial: str = "", may_open: bool = True, speed: int = 5000, name: str = "DAVIS346") -> usb.UsbCamera:
    known = next(each for each in usb.KNOWN if each.name == name)
    return usb.UsbCamera(known, NODE, may_open, serial, "", speed)


def test_a_camera_that_two_back_ends_see_is_listed_once_and_opened_by_the_first(
    machine: Callable[..., Listing],
) -> None:
    one = Attached("dv-processing", "DAVIS346", "00000336", (346, 260), firmware="17", streams=("events", "frames"))
    same = Attached("neuromorphic-drivers", "DAVIS346", "336", connection="USB 3")
    found = machine(
        back_end("neuromorphic-drivers", same), back_end("dv-processing", one), on_usb=[plugged("00000336")]
    )
    (camera,) = found.cameras
    assert (camera.model, camera.serial, camera.resolution) == ("DAVIS346", "00000336", (346, 260))
    assert (camera.backends, camera.chosen) == (("dv-processing", "neuromorphic-drivers"), "dv-processing")
    assert (camera.driver, camera.firmware, camera.connection) == ("davis", "17", "USB 3, 5 Gbit/s")
    assert camera.capabilities == (cameras.Capability("roi", "hardware", "one rectangle"),)
    assert camera.problem == camera.mend == ""


def test_two_cameras_of_a_kind_stay_two(machine: Callable[..., Listing]) -> None:
    one, two = (Attached("dv-processing", "DAVIS346", serial) for serial in ("1", "2"))
    nameless = Attached("neuromorphic-drivers", "DAVIS346")
    found = machine(back_end("dv-processing", one, two), back_end("neuromorphic-drivers", nameless))
    assert len([each for each in found.cameras if each.serial]) == 2


def test_one_that_a_back_end_cannot_open_is_opened_by_the_other(machine: Callable[..., Listing]) -> None:
    old = Attached("dv-processing", "DAVIS346", "7", problem="firmware too old")
    fine = Attached("neuromorphic-drivers", "DAVIS346", "7")
    (camera,) = machine(back_end("dv-processing", old), back_end("neuromorphic-drivers", fine)).cameras
    assert (camera.chosen, camera.problem) == ("neuromorphic-drivers", "")


def test_looking_only_opens_nothing(machine: Callable[..., Listing]) -> None:
    one = Attached("dv-processing", "DAVIS346", "7")
    (camera,) = machine(back_end("dv-processing", one), inside=False).cameras
    assert camera.capabilities == ()


def test_a_camera_that_streams_already_is_not_opened(
    machine: Callable[..., Listing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cameras, "users", lambda node: [4711])
    one = Attached("dv-processing", "DAVIS346", "7")
    for on_usb in (plugged("7"), plugged("")):  # also where the kernel does not tell which it is
        (camera,) = machine(back_end("dv-processing", one), on_usb=[on_usb]).cameras
        assert camera.capabilities == ()
        assert camera.problem == "in use by process 4711"


def test_processes_that_hold_a_file_open_are_found(tmp_path: Path) -> None:
    for pid, target in (("12", NODE), ("13", "/dev/null"), ("self", NODE)):
        (tmp_path / pid / "fd").mkdir(parents=True)
        (tmp_path / pid / "fd" / "5").symlink_to(target)
    (tmp_path / "99").mkdir()
    assert cameras.users(NODE, tmp_path) == [12]
    assert cameras.users(NODE, tmp_path / "none") == []


@pytest.mark.parametrize(
    ("camera", "ready", "problem", "mend"),
    [
        (plugged(may_open=False), Ready("dv", models=("DAVIS346",)), "may not open it", "rtpipe doctor --install-udev"),
        (plugged(), Ready("dv", models=("DAVIS346",), install="pip x", why_not="gone"), "dv: gone", "pip x"),
        (plugged(), Ready("dv", models=("DAVIS346",), trouble="USB error"), "dv: USB error", "plug it in again"),
        (plugged(), Ready("dv", models=("DAVIS346",)), "dv does not see it", "firmware"),
        (plugged(), Ready("dv", models=("EVK4",)), "no back end of rtpipe drives it", ""),
        (
            plugged(name="uEye XCP-E"),
            Ready("metavision", why_not="none", install="OpenEB"),
            "metavision: none",
            "OpenEB",
        ),
    ],
)
def test_a_camera_on_the_usb_that_no_back_end_sees_is_said_with_the_reason(
    camera: usb.UsbCamera, ready: Ready, problem: str, mend: str
) -> None:
    (seen,) = with_usb([], [camera], [ready])
    assert seen.model == camera.name
    assert problem in seen.problem
    assert mend in seen.mend
    said = "\n".join(lines(Listing((seen,), (ready,))))
    assert seen.problem in said
    assert seen.mend in said


def test_permission_and_a_slow_port_are_told_of_a_camera_that_a_back_end_sees() -> None:
    seen = Seen("DAVIS346", "7", backends=("dv",), chosen="dv")
    (shut,) = with_usb([seen], [plugged("7", may_open=False)], [])
    assert (shut.problem, shut.mend) == ("this user may not open it", "rtpipe doctor --install-udev")
    (slow,) = with_usb([seen], [plugged("7", speed=480)], [])
    assert slow.problem == ""
    assert "USB 3" in slow.mend


def test_a_back_end_that_hangs_dies_or_raises_is_a_line_and_the_others_answer(machine: Callable[..., Listing]) -> None:
    fine = back_end("dv-processing", Attached("dv-processing", "DAVIS346", "7"))
    hangs, dies, raises, refuses = (back_end(name) for name in ("hangs", "dies", "raises", "refuses"))
    hangs.attached = lambda: time.sleep(30)  # type: ignore[attr-defined]
    dies.attached = lambda: os._exit(3)  # type: ignore[attr-defined]
    raises.attached = lambda: 1 / 0  # type: ignore[attr-defined]

    def no() -> None:
        raise WorldError("the USB is on strike")

    refuses.attached = no  # type: ignore[attr-defined]
    found = machine(fine, hangs, dies, raises, refuses, patience_s=2)
    assert [camera.serial for camera in found.cameras] == ["7"]
    told = {each.name: each.why_not + each.trouble for each in found.backends}
    assert told["dv-processing"] == ""
    assert "did not answer within 2 s" in told["hangs"]
    assert "ended" in told["dies"]
    assert "ZeroDivisionError" in told["raises"]
    assert told["refuses"] == "the USB is on strike"


def test_with_nothing_attached_it_says_what_to_do(machine: Callable[..., Listing]) -> None:
    said = "\n".join(lines(machine(back_end("dv-processing", why_not="not installed"))))
    assert "No event camera is attached" in said
    assert "pip install dv-processing" in said
    assert "rtpipe demo" in said
    assert "--device=/dev/bus/usb" in "\n".join(lines(machine(on_usb=None)))


def test_merging_keeps_what_any_of_them_knows() -> None:
    one = Seen("EVK4", "ca09", backends=("a",), problem="x")
    two = Seen("EVK4", "00CA09", (1280, 720), firmware="3.9", backends=("b",))
    (camera,) = merged([one, two])
    assert (camera.resolution, camera.firmware, camera.chosen, camera.problem) == ((1280, 720), "3.9", "b", "")


def test_the_verb_lists_an_attached_camera_as_json_and_in_words(shared: Callable[[str], Path], tmp_path: Path) -> None:
    recording = shared("recordings/aedat4/davis346_ball_throw.aedat4")
    script = Script(recording=str(recording), log=str(tmp_path / "log"))
    env = {**os.environ, **environment(tmp_path / "made", script, {"fake": "tests.drivers.camera.fake_backend"})}
    command = [sys.executable, "-m", "rtpipe", "cameras"]
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (camera,) = json.loads(done.stdout)["cameras"]
    assert (camera["model"], camera["serial"], camera["chosen"]) == ("DAVIS346", "00000499", "fake")
    assert {"frames.exposure_us", "biases.diff_on"} <= {each["name"] for each in camera["capabilities"]}
    found = msgspec.json.decode(done.stdout, type=Listing)
    assert "  opened by fake; driver: davis" in list(lines(found))


def test_a_serial_that_is_not_attached_is_said(machine: Callable[..., Listing]) -> None:
    found = machine(back_end("dv-processing", Attached("dv-processing", "DAVIS346", "7")))
    none = msgspec.structs.replace(found, cameras=())
    assert "No camera with serial 123 is attached." in list(lines(none, "123"))
    with pytest.raises(WorldError, match="no camera with serial 123 is attached"):
        _chosen(none, "123")
    two = msgspec.structs.replace(found, cameras=(*found.cameras, *found.cameras))
    with pytest.raises(WorldError, match="SERIAL --self-test"):
        _chosen(two, "")
    shut = msgspec.structs.replace(found.cameras[0], problem="this user may not open it", mend=usb.INSTALL_UDEV)
    with pytest.raises(WorldError, match="may not open it → rtpipe doctor --install-udev"):
        _chosen(msgspec.structs.replace(found, cameras=(shut,)), "")


@pytest.mark.slow
def test_the_verb_tests_a_camera_and_keeps_report_and_picture(shared: Callable[[str], Path], tmp_path: Path) -> None:
    recording = shared("recordings/aedat4/davis346_highway.aedat4")
    script = Script(recording=str(recording), log=str(tmp_path / "log"), transfer_us=10_000)
    made = environment(tmp_path / "made", script, {"lying": "tests.selftest.lying_backend"})
    command = [
        sys.executable,
        "-m",
        "rtpipe",
        "cameras",
        "--self-test",
        "--seconds",
        "3",
        "--out",
        str(tmp_path / "out"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **made})
    assert "Pull the camera's cable" not in done.stdout  # nobody is there to do it
    assert done.returncode == 0, done.stdout + done.stderr
    (report,) = (tmp_path / "out").glob("camera-DAVIS346-00000499-*.json")
    assert report.with_suffix(".png").stat().st_size > 20_000
    checks = {each["check"]: each["state"] for each in json.loads(report.read_text())["results"]}
    assert checks["setting roi"] == "passed"
    assert checks["unplug and replug"] == "skipped"
