"""Whether this machine is a Jetson, and which JetPack it has: from what the system itself keeps.

``/etc/nv_tegra_release`` names the release of Jetson Linux (L4T); dpkg knows JetPack and its TensorRT by version, but
only where the package ``nvidia-jetpack`` was installed, which a freshly flashed system has not.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

JETPACK_OF = {32: "4", 34: "5", 35: "5", 36: "6", 38: "7", 39: "7"}
"""JetPack's first number by that of Jetson Linux."""

PACKAGES = ("nvidia-jetpack", "tensorrt", "python3-libnvinfer", "libnvinfer10", "libnvinfer11")
MOST_STATUS_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Jetson:
    """A Jetson: ``l4t`` (``"36.4.3"``), ``jetpack`` (``"6.2.1"``, or ``"6"`` where only L4T tells; empty: unknown), the
    ``model`` in the device tree's words, and versions of the ``packages`` that concern TensorRT."""

    l4t: str
    jetpack: str
    model: str = ""
    packages: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """In one line."""
        jetpack = f"JetPack {self.jetpack}" if self.jetpack else "an unknown JetPack"
        return f"{self.model or 'a Jetson'}, {jetpack} (Jetson Linux {self.l4t})"


def jetson(root: Path) -> Jetson | None:
    """What is below ``root`` (normally ``/``); None where it is no Jetson."""
    l4t = release(_text(root / "etc/nv_tegra_release"))
    if not l4t:
        return None
    packages = versions(_text(root / "var/lib/dpkg/status"), PACKAGES)
    model = _text(root / "proc/device-tree/model").rstrip("\0\n ")
    return Jetson(l4t, jetpack(l4t, packages), model, packages)


def release(text: str) -> str:
    """The release of Jetson Linux in ``nv_tegra_release``: ``# R36 (release), REVISION: 4.3, GCID: …`` is 36.4.3.
    Empty for what is no such file."""
    found = re.match(r"#\s*R(\d{1,3})\s*\(release\),\s*REVISION:\s*(\d{1,3}(?:\.\d{1,3})*)", text)
    return f"{found[1]}.{found[2]}" if found else ""


def jetpack(l4t: str, packages: Mapping[str, str]) -> str:
    """JetPack's version: its own package's, or as much as Jetson Linux tells."""
    own = re.match(r"\d+(?:\.\d+)*", packages.get("nvidia-jetpack", ""))
    return own[0] if own else JETPACK_OF.get(int(l4t.partition(".")[0]), "")


def versions(status: str, names: Collection[str]) -> Mapping[str, str]:
    """Versions of packages that are installed, from the text of dpkg's ``status`` file."""
    found = {}
    for paragraph in status.split("\n\n"):
        fields = dict(re.findall(r"^(Package|Status|Version): (.*)$", paragraph, re.MULTILINE))
        if fields.get("Package") in names and fields.get("Status", "").endswith(" installed"):
            found[fields["Package"]] = fields.get("Version", "").strip()
    return found


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MOST_STATUS_BYTES).decode(errors="replace")
    except OSError:
        return ""
