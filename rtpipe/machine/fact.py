"""One line of the doctor's answer, and how a failed import is put into words."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

State: TypeAlias = Literal["ok", "note", "missing"]
"""It works; something falls away or should be known; it does not work."""

Group: TypeAlias = Literal["machine", "base", "accelerators", "cameras", "parts"]

SYSTEM_LIBRARIES = {"libGL.so": "libgl1", "libgthread": "libglib2.0-0", "libxcb": "libxcb1", "libusb": "libusb-1.0-0"}
"""Libraries that wheels link and minimal systems lack, and the Debian or Ubuntu package that has them."""


class Fact(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the doctor's answer. ``required``: without it rtpipe does not run. ``mend`` is one command, or
    empty."""

    group: Group
    part: str
    state: State
    says: str
    mend: str = ""
    required: bool = False


def reason(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def mend_import(error: BaseException, distribution: str) -> str:
    """The command that most likely mends an import: a system library that is missing, or the package itself."""
    for library, debian in SYSTEM_LIBRARIES.items():
        if library in str(error):
            return f"sudo apt-get install {debian}"
    if isinstance(error, ModuleNotFoundError):
        return f"pip install '{distribution}'"
    return f"pip install --force-reinstall '{distribution}'"
