"""Permission to open cameras: the udev rules for all that are known, and putting them in place.

Who sits at the machine may open a camera (``uaccess``, an access list that follows the person logged in at the seat),
and so may the group ``plugdev``: a service, or a person over SSH on a headless Jetson, has no seat. Nobody else may
(vendors' rules say 0666: everyone on the machine may look through the camera).
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from rtpipe.errors import WorldError
from rtpipe.machine.usb import KNOWN

FILE = "70-rtpipe-cameras.rules"
"""``uaccess`` is taken up by systemd's 73-seat-late.rules: the number must be lower, and above the vendors' 65."""

DIRECTORY = Path("etc/udev/rules.d")
GROUP = "plugdev"

RELOAD = ("udevadm", "control", "--reload")
TRIGGER = ("udevadm", "trigger", "--subsystem-match=usb")
"""Applies the rules to what is plugged in already."""

Run = Callable[[Sequence[str]], bool]
"""Runs a command; whether it succeeded."""


def rules() -> str:
    """The rules file as it is shipped."""
    return resources.files("rtpipe.machine").joinpath(FILE).read_text(encoding="utf-8")


def made() -> str:
    """The rules file, made from :data:`rtpipe.machine.usb.KNOWN` (``python -m rtpipe.machine.udev`` writes it)."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Event cameras may be opened by who sits at this machine and by the group plugdev (services, SSH)."
    yield "# Made by rtpipe (rtpipe doctor --install-udev); changes here are overwritten by it."
    for camera in KNOWN:
        yield f"# {camera.maker} {camera.name}"
        for product in camera.products:
            which = f'ATTR{{idVendor}}=="{camera.vendor}", ATTR{{idProduct}}=="{product}"'
            yield (
                f'SUBSYSTEM=="usb", ENV{{DEVTYPE}}=="usb_device", {which}, MODE="0660", GROUP="{GROUP}", TAG+="uaccess"'
            )


@dataclass(frozen=True)
class Installed:
    """What was done. ``changed``: the file was not there or was another. ``missed``: what could not be done and what
    to do instead, in words."""

    path: Path
    changed: bool
    missed: tuple[str, ...] = ()


def run(command: Sequence[str]) -> bool:
    """The real :data:`Run`. Blocks for at most ten seconds."""
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except (OSError, subprocess.SubprocessError):
        return False


def install(root: Path = Path("/"), run: Run = run, user: str = "") -> Installed:
    """Put the rules below ``root`` (normally ``/``, else an image's root directory) and have them applied; may be done
    again at any time. The file is there whole or not at all. ``user`` is told of the group if it is not in it.

    Raises ``WorldError`` where the file cannot be written.
    """
    path = root / DIRECTORY / FILE
    text = rules()
    try:
        changed = not path.is_file() or path.is_symlink() or path.read_text(encoding="utf-8", errors="replace") != text
        if changed:
            _replace(path, text)
    except OSError as error:
        raise WorldError(f"{path} cannot be written: {error.strerror} (it needs root: sudo)") from error
    return Installed(path, changed, tuple(_after(root, run, user)))


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")  # udev reads only *.rules
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _after(root: Path, run: Run, user: str) -> Iterator[str]:
    """The group and the running udev; yields what could not be done."""
    members = _members(root)
    here = root == Path("/")
    if members is None and not (here and run(("groupadd", "--system", GROUP))):
        yield f"there is no group {GROUP}: groupadd --system {GROUP}"
    if user and user != "root" and user not in (members or ()):
        yield f"for services and SSH: usermod --append --groups {GROUP} {user} (from the next login on)"
    if here and not (run(RELOAD) and run(TRIGGER)):
        yield "udev did not answer (a container?): unplug the camera and plug it in again, or restart the machine"


def _members(root: Path) -> Sequence[str] | None:
    """Who is in the group, None where there is no such group."""
    try:
        lines = (root / "etc/group").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, rest = line.partition(":")
        if name == GROUP:
            return rest.rpartition(":")[2].split(",")
    return None


if __name__ == "__main__":
    (Path(__file__).parent / FILE).write_text(made(), encoding="utf-8")
