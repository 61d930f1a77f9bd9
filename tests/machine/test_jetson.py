"""What a Jetson says of itself: the files of real boards (nv_tegra_release as it is on Orin and Thor)."""

from pathlib import Path

import pytest

from rtpipe.machine.jetson import jetpack, jetson, release, versions

ORIN = """\
# R36 (release), REVISION: 4.7, GCID: 42132812, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 22:54:44 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
"""
THOR = """\
# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, DATE: Fri Aug 22 00:55:42 UTC 2025
# KERNEL_VARIANT: oot
TARGET_USERSPACE_LIB_DIR=nvidia
TARGET_USERSPACE_LIB_DIR_PATH=usr/lib/aarch64-linux-gnu/nvidia
"""
STATUS = """Package: python3-libnvinfer-dev
Status: install ok installed
Architecture: arm64
Version: 10.3.0.30-1+cuda12.5

Package: nvidia-jetpack
Status: install ok installed
Priority: standard
Section: metapackages
Installed-Size: 194
Maintainer: NVIDIA Corporation
Architecture: arm64
Source: nvidia-jetpack (6.2.1)
Version: 6.2.1+b38
Depends: nvidia-jetpack-runtime (= 6.2.1+b38), nvidia-jetpack-dev (= 6.2.1+b38)
Description: NVIDIA Jetpack Meta Package
 Version: 9.9 in a description is no version

Package: python3-libnvinfer
Status: install ok installed
Version: 10.3.0.30-1+cuda12.5

Package: tensorrt
Status: deinstall ok config-files
Version: 8.5.2.2-1+cuda11.4
"""


@pytest.mark.parametrize(
    ("text", "l4t"),
    [
        (ORIN, "36.4.7"),
        (THOR, "38.2.0"),
        ("# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64", "35.4.1"),
        ("# R32 (release), REVISION: 7.4, GCID: 33514132, BOARD: t210ref, EABI: aarch64", "32.7.4"),
        ("NVRM version: NVIDIA UNIX x86_64 Kernel Module  590.1", ""),
        ("", ""),
        ("# R36 (release)", ""),
        ("# R" + "3" * 10_000, ""),
    ],
)
def test_the_release_of_jetson_linux_is_read(text: str, l4t: str) -> None:
    assert release(text) == l4t


@pytest.mark.parametrize(
    ("l4t", "version"),
    [("32.7.4", "4"), ("35.4.1", "5"), ("36.4.3", "6"), ("38.2.0", "7"), ("39.2.0", "7"), ("99.1", "")],
)
def test_jetson_linux_tells_jetpacks_first_number(l4t: str, version: str) -> None:
    assert jetpack(l4t, {}) == version
    assert jetpack(l4t, {"nvidia-jetpack": "6.2.1+b38"}) == "6.2.1"


def test_only_installed_packages_of_these_very_names_count() -> None:
    found = versions(STATUS, ("nvidia-jetpack", "python3-libnvinfer", "tensorrt"))
    assert found == {"nvidia-jetpack": "6.2.1+b38", "python3-libnvinfer": "10.3.0.30-1+cuda12.5"}
    assert versions("", ("tensorrt",)) == {}


def board(root: Path, text: str, status: str = "", model: bytes = b"") -> Path:
    for name, content in (
        ("etc/nv_tegra_release", text.encode()),
        ("var/lib/dpkg/status", status.encode()),
        ("proc/device-tree/model", model),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


def test_a_board_is_described_in_a_line(tmp_path: Path) -> None:
    found = jetson(board(tmp_path, ORIN, STATUS, b"NVIDIA Jetson Orin Nano Developer Kit\0"))
    assert found is not None
    assert found.words == "NVIDIA Jetson Orin Nano Developer Kit, JetPack 6.2.1 (Jetson Linux 36.4.7)"
    assert found.packages["python3-libnvinfer"].startswith("10.3.0.30")


def test_a_freshly_flashed_board_knows_its_jetpack_by_its_first_number(tmp_path: Path) -> None:
    found = jetson(board(tmp_path, THOR))
    assert found is not None
    assert found.words == "a Jetson, JetPack 7 (Jetson Linux 38.2.0)"


def test_another_machine_is_no_jetson(tmp_path: Path) -> None:
    assert jetson(tmp_path) is None
