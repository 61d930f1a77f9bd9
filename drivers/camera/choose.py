"""Which camera, by which back end: what a driver's models, ``serial`` and ``backend`` leave, or why nothing is left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

from drivers.camera.contract import Attached
from drivers.camera.models import MODELS
from drivers.camera.settings import Camera
from rtpipe import registry
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.machine import usb
from rtpipe.machine.cameras import PREFERRED

LOOK = "rtpipe cameras"
"""What tells more."""


class NoneAttachedError(WorldError):
    """No camera that is meant is there: it may be waited for."""


@dataclass(frozen=True)
class Chosen:
    """A camera and the module (:class:`drivers.camera.contract.Backend`) that opens it."""

    backend: ModuleType
    camera: Attached


def choose(models: Sequence[str], settings: Camera) -> Chosen:
    """The camera that is meant. ``models`` of the driver; empty: any of Prophesee's. Blocks for up to a second per back
    end. Raises ``NoneAttachedError`` where it is not there, ``WorldError`` where it cannot be opened, ``InputError``
    for a back end that is none, all in plain words."""
    usable, why = _backends(models, settings.backend)
    if not usable:
        raise WorldError(f"no back end can open {_title(models)}: {'; '.join(why)}")
    seen: list[Attached] = []
    problems: list[str] = []
    for backend in usable:
        try:
            there = list(backend.attached())
        except RtpipeError as error:
            problems.append(f"{backend.NAME}: {error}")
            continue
        seen += there
        fit = [camera for camera in there if _fits(camera, models) and same_serial(camera.serial, settings.serial)]
        problems += [
            f"{camera.model} {camera.serial}".strip() + f": {camera.problem}" for camera in fit if camera.problem
        ]
        able = [camera for camera in fit if not camera.problem]
        if len(able) > 1:
            serials = ", ".join(camera.serial or "(unknown)" for camera in able)
            raise WorldError(f"{len(able)} cameras are attached that could be meant: set serial to one of {serials}")
        if able:
            return Chosen(backend, able[0])
    if problems:
        raise WorldError("; ".join(dict.fromkeys(problems)))
    raise NoneAttachedError(_absent(models, settings, seen, usable))


def again(chosen: Chosen, known: Attached) -> Attached | None:
    """The same camera (by serial, or by model where it has none), looked for again by the same back end; None while it
    is not there. Raises ``RtpipeError`` where it cannot be asked for, or opened."""
    for camera in chosen.backend.attached():
        if camera.model == known.model and same_serial(camera.serial, known.serial):
            if camera.problem:
                raise WorldError(f"{camera.model} {camera.serial}: {camera.problem}")
            found: Attached = camera
            return found
    return None


def same_serial(seen: str, wanted: str) -> bool:
    """Whether a camera may be the one that is wanted: SDKs pad serials differently, and some tell none before it is
    open."""
    one, other = (each.strip().lstrip("0").lower() for each in (seen, wanted))
    return not one or not other or one == other


def _fits(camera: Attached, models: Sequence[str]) -> bool:
    if models:
        return camera.model in models
    return all(model.name != camera.model or model.maker == "Prophesee" for model in MODELS)


def _title(models: Sequence[str]) -> str:
    return " or ".join(models) or "a Prophesee camera"


def _backends(models: Sequence[str], wanted: str) -> tuple[list[ModuleType], list[str]]:
    """Those that can open one of ``models`` here, the preferred first, and why the others cannot."""
    names = sorted(registry.names("backends"), key=lambda name: (*_rank(name), name))
    if wanted != "auto":
        if wanted not in names:
            raise InputError(f"there is no back end {wanted!r}; there are auto, {', '.join(names) or 'none'}")
        names = [wanted]
    usable, why = [], []
    for name in names:
        try:
            module = registry.load("backends", name)
        except InputError as error:
            why.append(str(error))
            continue
        if models and not set(models) & set(module.MODELS):
            if wanted != "auto":
                why.append(f"{name} drives {', '.join(module.MODELS)}")
            continue
        reason = module.why_not()
        if reason:
            why.append(f"{name}: {reason} ({module.INSTALL})")
        else:
            usable.append(module)
    return usable, why or ["none is installed: pip install 'rtpipe[cameras]'"]


def _rank(name: str) -> tuple[int]:
    return (PREFERRED.index(name) if name in PREFERRED else len(PREFERRED),)


def _absent(models: Sequence[str], settings: Camera, seen: Sequence[Attached], asked: Sequence[ModuleType]) -> str:
    """Nothing that is meant is there: what is there instead, and what to do."""
    wanted = _title(models) + (f" with serial {settings.serial}" if settings.serial else "")
    by = ", ".join(backend.NAME for backend in asked)
    on_usb = [each for each in usb.cameras() or () if not models or usb.among(models, each)]
    shut = next((each for each in on_usb if not each.may_open), None)
    if shut is not None:
        return f"{shut.name} is attached, but this user may not open it: {usb.INSTALL_UDEV}"
    others = ", ".join(f"{camera.model} {camera.serial}".strip() for camera in seen)
    if others:
        return f"no {wanted} is attached (asked {by}); there is {others}"
    if on_usb:
        return f"{on_usb[0].name} is on the USB, but {by} does not see it: unplug it, plug it in again; then {LOOK}"
    return (
        f"no {wanted} is attached (asked {by}): check cable and port (USB 3), then {LOOK}; "
        "wait: true waits for it, --source FILE plays a recording instead"
    )
