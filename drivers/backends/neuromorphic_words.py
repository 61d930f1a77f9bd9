"""What neuromorphic-drivers says of cameras and errors, in our words and with what to do."""

from __future__ import annotations

from typing import Any

from drivers.backends.neuromorphic_settings import KINDS
from drivers.camera.contract import Attached, GoneError
from rtpipe.errors import WorldError

UDEV = "this user may not open it: rtpipe doctor --install-udev"
NO_USB = "USB cannot be asked here (no USB on this machine, or it is not passed into this container)"


def attached(backend: str, listed: Any) -> Attached:
    """A device as the SDK lists it."""
    kind = next((kind for kind in KINDS if kind.name == listed.name.value), None)
    model = listed.name.value if kind is None else kind.model
    problem = "" if listed.error is None else problem_of(str(listed.error))
    return Attached(
        backend,
        model,
        listed.serial or "",
        None if kind is None else kind.resolution,
        listed.connection.value,
        streams=("events",) if kind is None else kind.streams,
        address=str(listed.address),
        problem=problem if kind is not None else "this version of rtpipe does not know it",
    )


def problem_of(text: str) -> str:
    """Why a camera that is there cannot be opened, and what to do."""
    lower = text.lower()
    if "access denied" in lower or "insufficient permissions" in lower:
        return UDEV
    if "busy" in lower or "already used" in lower:
        return "another program has it open: close that first"
    if "version not supported" in lower or "patch not supported" in lower:
        return f"its firmware is not one that this back end knows: update it with the maker's software ({text[:200]})"
    return f"it does not answer: unplug it and plug it in again ({text[:200]})"


def listing(text: str) -> str:
    """Why the USB could not be asked."""
    if "access denied" in text.lower() or "insufficient permissions" in text.lower():
        return f"a camera is attached, but {UDEV}"
    return NO_USB if text == "Other error" else f"{NO_USB}: {text[:200]}"


def refused(camera: Attached, text: str) -> WorldError:
    """What opening raised: gone, or why not."""
    title, lower = f"{camera.model} {camera.serial}".strip(), text.lower()
    if "not found" in lower or "no device" in lower or "no such device" in lower or "no lucid" in lower:
        return GoneError(f"{title} is not there any more")
    if text == "Other error":
        return GoneError(f"{title}: {NO_USB}")
    return WorldError(f"{title} cannot be opened: {problem_of(text)}")


def plain(error: BaseException) -> str:
    """An error's text as one short line."""
    return " ".join(str(error).split())[:200]
