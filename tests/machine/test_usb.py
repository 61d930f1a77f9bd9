"""Event cameras as the kernel lists them, and the rules by which they may be opened."""

import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from typer import Typer
from typer.testing import CliRunner

from drivers.camera.models import MODELS
from rtpipe.cli import doctor
from rtpipe.errors import WorldError
from rtpipe.machine import udev, usb


def usb_device(sys_: Path, name: str, **values: str) -> None:
    (sys_ / name).mkdir(parents=True)
    for key, value in values.items():
        (sys_ / name / key).write_text(f"{value}\n")


def davis(tmp_path: Path, **more: str) -> tuple[Path, Path]:
    """A machine with a DAVIS346 (and a mouse), as /sys/bus/usb/devices and /dev/bus/usb."""
    sys_, dev = tmp_path / "sys", tmp_path / "dev"
    usb_device(sys_, "1-2", idVendor="152a", idProduct="841a", busnum="1", devnum="7", **more)
    usb_device(sys_, "1-3", idVendor="046d", idProduct="c077", busnum="1", devnum="8")
    (sys_ / "1-0:1.0").mkdir()
    return sys_, dev


def test_an_attached_camera_is_found_and_its_permission_checked(tmp_path: Path) -> None:
    sys_, dev = davis(tmp_path, serial="00000336", manufacturer="iniVation", product="DAVIS346", speed="5000")
    (fact,) = usb.facts(sys_, dev)
    assert (fact.part, fact.state, fact.mend) == ("DAVIS346", "missing", "rtpipe doctor --install-udev")
    (dev / "001").mkdir(parents=True)
    (dev / "001" / "007").touch()
    (fact,) = usb.facts(sys_, dev)
    assert (fact.state, fact.mend) == ("ok", "")
    assert "USB 3, 5 Gbit/s" in fact.says
    (camera,) = usb.cameras(sys_, dev) or []
    assert (camera.serial, camera.says, camera.identity) == ("00000336", "iniVation DAVIS346", "152a:841a")
    assert camera.may_open


def test_a_camera_on_a_slow_port_is_noted(tmp_path: Path) -> None:
    sys_, dev = davis(tmp_path, speed="480")
    (dev / "001").mkdir(parents=True)
    (dev / "001" / "007").touch()
    (fact,) = usb.facts(sys_, dev)
    assert fact.state == "note"
    assert "USB 2, 480 Mbit/s" in fact.says


def test_no_usb_and_no_camera_are_notes(tmp_path: Path) -> None:
    assert usb.cameras(tmp_path / "none", tmp_path) is None
    assert [fact.state for fact in usb.facts(tmp_path / "none", tmp_path)] == ["note"]
    assert [fact.says for fact in usb.facts(tmp_path, tmp_path)] == ["no event camera is attached"]


def test_what_a_device_says_of_itself_is_not_believed(tmp_path: Path) -> None:
    sys_, dev = davis(tmp_path, serial="\x1b[31m" + "9" * 5000, speed="fast")
    (sys_ / "1-2" / "product").write_bytes(b"\xff\xfe\x00")
    (camera,) = usb.cameras(sys_, dev) or []
    assert len(camera.serial) <= usb.LONGEST
    assert camera.serial.isprintable()
    assert camera.speed_mbit_s == 0
    (sys_ / "1-2" / "busnum").write_text("../../etc")
    assert usb.cameras(sys_, dev) == []


def matching(text: str, vendor: str, product: str) -> list[str]:
    """The rules that udev would apply to such a device."""
    found = []
    for line in text.splitlines():
        wanted = dict(re.findall(r"ATTR\{(\w+)\}==\"([^\"]*)\"", line))
        if wanted == {"idVendor": vendor, "idProduct": product}:
            found.append(line)
    return found


def test_every_camera_of_every_driver_has_a_rule_and_a_name_on_the_usb() -> None:
    for model in MODELS:
        for vendor, product in model.usb:
            (rule,) = matching(udev.rules(), vendor, product)
            assert 'SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device"' in rule
            assert 'MODE="0660", GROUP="plugdev", TAG+="uaccess"' in rule
            (known,) = [each for each in usb.KNOWN if each.vendor == vendor and product in each.products]
            assert usb.among([model.name], usb.UsbCamera(known, Path("x"), True))


def test_rules_of_neuromorphic_drivers_let_in_no_camera_that_ours_do_not(tmp_path: Path) -> None:
    pytest.importorskip("neuromorphic_drivers")
    source = Path(sys.modules["neuromorphic_drivers"].__file__ or "").parent / "udev.py"
    patterns = re.findall(r'idVendor}=="(\w+)", ATTRS{idProduct}=="([^"]+)"', source.read_text())
    assert len(patterns) >= 4
    ranges = {"84[0-1]?": ["8400", "8419", "841a", "841b"]}  # iniVation's share of Thesycon's numbers
    for vendor, pattern in patterns:
        digits = re.fullmatch(r"(\w+)\[(\w)-(\w)\]", pattern)
        products = ranges.get(pattern) or ([digits[1] + digits[2], digits[1] + digits[3]] if digits else [pattern])
        for product in products:
            assert matching(udev.rules(), vendor, product), (vendor, product)


def test_no_device_but_cameras_is_opened_to_people() -> None:
    for line in udev.rules().splitlines():
        assert line.startswith("#") or re.search(r'idVendor}=="\w{4}", ATTR{idProduct}=="\w{4}"', line), line
    assert not matching(udev.rules(), "152a", "880a")  # a guitar pedal with the same vendor


def test_the_shipped_rules_are_those_of_the_table() -> None:
    assert udev.rules() == udev.made()
    assert udev.FILE < "73-seat-late.rules"  # which takes up uaccess


def test_rules_are_put_in_place_once_and_applied(tmp_path: Path) -> None:
    done = udev.install(tmp_path)
    assert done.changed
    assert done.path.read_text() == udev.rules()
    assert stat.S_IMODE(done.path.stat().st_mode) == 0o644
    assert [path.name for path in done.path.parent.iterdir()] == [udev.FILE]  # nothing half written stays
    before = done.path.stat().st_mtime_ns
    assert not udev.install(tmp_path).changed
    assert done.path.stat().st_mtime_ns == before
    done.path.write_text("SUBSYSTEM==")
    assert udev.install(tmp_path).changed
    assert done.path.read_text() == udev.rules()


def test_a_link_in_their_place_is_replaced_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    path = tmp_path / udev.DIRECTORY / udev.FILE
    path.parent.mkdir(parents=True)
    path.symlink_to(other)
    udev.install(tmp_path)
    assert other.read_text() == "mine"
    assert not path.is_symlink()


def test_who_is_not_in_the_group_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/group").write_text("root:x:0:\nplugdev:x:46:ada,bob\n")
    assert udev.install(tmp_path, user="ada").missed == ()
    (missed,) = udev.install(tmp_path, user="eve").missed
    assert "usermod --append --groups plugdev eve" in missed
    (tmp_path / "etc/group").write_text("root:x:0:\n")
    assert "groupadd --system plugdev" in udev.install(tmp_path, user="root").missed[0]


def test_an_image_is_never_taken_for_the_running_machine(tmp_path: Path) -> None:
    asked: list[tuple[str, ...]] = []
    udev.install(tmp_path, run=lambda command: asked.append(tuple(command)) is None, user="ada")
    assert asked == []


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "etc").write_text("a file")
    with pytest.raises(WorldError, match="cannot be written"):
        udev.install(tmp_path)


def test_the_verb_prints_rules_that_can_be_piped_and_installs_only_when_told(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rtpipe", "doctor", "--install-udev"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stdout) == (0, udev.rules())
    assert "sudo" in said.stderr
    app = Typer()
    app.command()(doctor.doctor)
    runner = CliRunner()
    first = runner.invoke(app, ["--install-udev", "--yes", "--root", str(tmp_path)])
    again = runner.invoke(app, ["--install-udev", "--yes", "--root", str(tmp_path)])
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert "written" in first.stdout
    assert "in place already" in again.stdout
    assert (tmp_path / udev.DIRECTORY / udev.FILE).read_text() == udev.rules()
