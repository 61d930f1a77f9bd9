"""Every camera that is attached, as all back ends and the USB see it, merged: what ``rtpipe cameras`` prints.

Back ends are asked in processes of their own: an SDK that hangs or crashes is a line of the answer.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec

from rtpipe import registry
from rtpipe.errors import RtpipeError
from rtpipe.machine import usb
from rtpipe.machine.fact import Fact, reason

PATIENCE_S = 20.0
"""A back end that has not answered by then is said to hang."""

PREFERRED = ("dv-processing", "neuromorphic-drivers", "metavision")
"""Back ends in the order in which ``backend: auto`` tries them."""

_FORK = multiprocessing.get_context("fork")


class Capability(msgspec.Struct, frozen=True):
    """A setting that the camera takes: by itself (``where`` ``"hardware"``) or by this computer (``"host"``)."""

    name: str
    where: str
    says: str = ""


class Seen(msgspec.Struct, frozen=True):
    """One camera. Empty and None: not known. ``backends`` can open it, ``chosen`` is the one that will; ``problem`` is
    why it cannot be opened, or what is wrong all the same, ``mend`` what to do about it."""

    model: str
    serial: str = ""
    resolution: tuple[int, int] | None = None
    connection: str = ""
    firmware: str = ""
    streams: tuple[str, ...] = ()
    address: str = ""
    backends: tuple[str, ...] = ()
    chosen: str = ""
    driver: str = ""
    capabilities: tuple[Capability, ...] = ()
    problem: str = ""
    mend: str = ""


class Ready(msgspec.Struct, frozen=True):
    """A back end: ``why_not`` it cannot be used here, ``""`` if it can; ``trouble`` it had while it looked."""

    name: str
    title: str = ""
    models: tuple[str, ...] = ()
    install: str = ""
    why_not: str = ""
    trouble: str = ""


class Answer(msgspec.Struct, frozen=True):
    """What one back end sees."""

    ready: Ready
    cameras: tuple[Seen, ...] = ()


class Listing(msgspec.Struct, frozen=True):
    """Everything. ``usb``: whether this machine shows its USB at all."""

    cameras: tuple[Seen, ...]
    backends: tuple[Ready, ...]
    usb: bool = True


def listing(look_inside: bool = True, patience_s: float = PATIENCE_S) -> Listing:
    """Ask every back end and the USB. With ``look_inside`` cameras that nobody uses are opened for a moment, to say
    what they can do. Blocks for seconds; raises nothing for what a back end does."""
    names = sorted(registry.names("backends"), key=lambda name: (_rank(name), name))
    on_usb = usb.cameras()
    busy = {_digits(each.serial) for each in on_usb or () if users(each.node)}
    answers = _asked(names, look_inside, busy, patience_s)
    backends = tuple(answer.ready for answer in answers)
    found = merged([camera for answer in answers for camera in answer.cameras])
    return Listing(tuple(with_usb(found, on_usb or (), backends)), backends, on_usb is not None)


def backend(name: str) -> Fact:
    """One back end as a line of the doctor's answer."""
    try:
        module = registry.load("backends", name)
        title, why_not, install = str(module.TITLE), str(module.why_not()), str(module.INSTALL)
    except Exception as error:
        return Fact("cameras", name, "missing", reason(error))
    if why_not:
        return Fact("cameras", name, "note", why_not, install)
    return Fact("cameras", name, "ok", title)


def merged(found: Sequence[Seen]) -> list[Seen]:
    """Cameras that several back ends see, once: by serial number, or by model where one of the two does not tell it and
    each sees one such. The first that names no problem is chosen; what it does not know the others tell."""
    groups: list[list[Seen]] = []
    for camera in sorted(found, key=lambda each: not each.serial):
        same = [group for group in groups if camera.backends[0] not in group[0].backends and _same(camera, group[0])]
        if len(same) == 1 or (same and camera.serial):
            same[0].append(camera)
        else:
            groups.append([camera])
    return [_one(sorted(group, key=lambda each: _rank(each.backends[0]))) for group in groups]


def _same(one: Seen, other: Seen) -> bool:
    if one.serial and other.serial:
        return same_serial(one.serial, other.serial)
    return one.model == other.model


def same_serial(one: str, other: str) -> bool:
    """Whether two serial numbers are the same: SDKs pad them differently."""
    return bool(_digits(one)) and _digits(one) == _digits(other)


def _digits(serial: str) -> str:
    """A serial number as it can be compared: SDKs pad it differently."""
    return serial.strip().lstrip("0").lower()


def _one(same: Sequence[Seen]) -> Seen:
    best = next((each for each in same if not each.problem), same[0])
    known: dict[str, Any] = {}
    for name in ("resolution", "connection", "firmware", "streams", "capabilities"):
        known[name] = next((value for each in (best, *same) if (value := getattr(each, name))), getattr(best, name))
    names = tuple(dict.fromkeys(each.backends[0] for each in same))
    return msgspec.structs.replace(best, backends=names, chosen="" if best.problem else best.backends[0], **known)


def with_usb(found: Sequence[Seen], on_usb: Sequence[usb.UsbCamera], backends: Sequence[Ready]) -> list[Seen]:
    """The same with what the kernel knows: speed and permission; and cameras that it lists and no back end sees, with
    the reason."""
    left = list(found)
    cameras = []
    for device in on_usb:
        camera = _match(device, left)
        if camera is None:
            cameras.append(_unseen(device, backends))
            continue
        left.remove(camera)
        connection = usb.speed_words(device.speed_mbit_s) or camera.connection
        camera = msgspec.structs.replace(camera, connection=connection)
        if not device.may_open:
            camera = msgspec.structs.replace(camera, problem="this user may not open it", mend=usb.INSTALL_UDEV)
        elif not camera.problem and (pids := users(device.node)):
            camera = msgspec.structs.replace(camera, problem=f"in use by process {', '.join(map(str, pids))}")
        elif not camera.problem and usb.too_slow(device):
            mend = "use a USB 3 port and cable: on this one events are lost as soon as something moves"
            camera = msgspec.structs.replace(camera, mend=mend)
        cameras.append(camera)
    return [*cameras, *left]


def _match(device: usb.UsbCamera, cameras: Sequence[Seen]) -> Seen | None:
    """The camera of a back end that is this device: by serial, else the only one of its model."""
    alike = [each for each in cameras if usb.among([each.model], device)]
    if device.serial:
        for each in alike:
            if same_serial(each.serial, device.serial):
                return each
    return next((each for each in alike if not (each.serial and device.serial)), None) or (
        alike[0] if len(alike) == 1 else None
    )


def _unseen(device: usb.UsbCamera, backends: Sequence[Ready]) -> Seen:
    able = [each for each in backends if usb.among(each.models, device)] or [
        each for each in backends if device.known.maker != "iniVation" and each.name == "metavision"
    ]
    usable = [each for each in able if not each.why_not]
    if not device.may_open:
        problem, mend = "this user may not open it", usb.INSTALL_UDEV
    elif not able:
        problem, mend = "no back end of rtpipe drives it", ""
    elif not usable:
        problem = "; ".join(f"{each.name}: {each.why_not}" for each in able)
        mend = able[0].install
    elif pids := users(device.node):
        problem, mend = f"in use by process {', '.join(map(str, pids))}", ""
    else:
        trouble = "; ".join(f"{each.name}: {each.trouble}" for each in usable if each.trouble)
        problem = trouble or f"on the USB, but {' and '.join(each.name for each in usable)} does not see it"
        mend = "unplug it and plug it in again; firmware too old? the maker's program updates it"
    return Seen(
        device.name,
        device.serial,
        connection=usb.speed_words(device.speed_mbit_s),
        address=str(device.node),
        backends=tuple(each.name for each in usable),
        problem=problem,
        mend=mend,
    )


def users(node: Path, proc: Path = Path("/proc")) -> list[int]:
    """The processes that hold ``node`` open, as far as this user may know: who streams must not be disturbed by a
    second that opens the camera."""
    pids = []
    for process in proc.iterdir() if proc.is_dir() else ():
        if process.name.isdigit() and int(process.name) != os.getpid() and _holds(process / "fd", node):
            pids.append(int(process.name))
    return sorted(pids)


def _holds(files: Path, node: Path) -> bool:
    try:
        return any(str(file.readlink()) == str(node) for file in files.iterdir())
    except OSError:
        return False


def driver_of(model: str) -> tuple[str, ModuleType] | None:
    """The driver for a model, by the ``MODELS`` of its module; else one that takes what no other names (its ``MODELS``
    are empty). None where there is none."""
    fit: list[tuple[int, str, ModuleType]] = []
    for name in registry.names("drivers"):
        try:
            module = registry.load("drivers", name)
        except RtpipeError:
            continue
        models: Sequence[str] | None = getattr(module, "MODELS", None)
        if models is not None and (model in models or not models):
            fit.append((len(models) or 1000, name, module))
    return min(fit, key=lambda each: each[:2])[1:] if fit else None


def _rank(name: str) -> int:
    return PREFERRED.index(name) if name in PREFERRED else len(PREFERRED)


def _asked(names: Iterable[str], look_inside: bool, busy: set[str], patience_s: float) -> list[Answer]:
    """The answers of all back ends, which look one after the other: two SDKs must not open one camera at a time."""
    answers = []
    closed = set(busy)
    for name in names:
        ours, theirs = _FORK.Pipe(duplex=False)
        process = _FORK.Process(target=_ask, args=(name, look_inside and "" not in busy, closed, theirs), daemon=True)
        process.start()
        theirs.close()  # so that the child's death ends the pipe
        try:
            if ours.poll(patience_s):
                answer = msgspec.msgpack.decode(ours.recv_bytes(), type=Answer)
                closed |= {_digits(each.serial) for each in answer.cameras if each.capabilities and each.serial}
            else:
                answer = Answer(Ready(name, why_not=f"did not answer within {patience_s:.0f} s"))
        except EOFError:
            process.join()
            code = process.exitcode or 0
            why = f"the process that asked it died of {signal.Signals(-code).name}" if code < 0 else "its process ended"
            answer = Answer(Ready(name, why_not=why))
        finally:
            process.kill()
            process.join()
            ours.close()
        answers.append(answer)
    return answers


def _ask(name: str, look_inside: bool, closed: set[str], line: Connection) -> None:
    """In the child: what the SDK prints goes nowhere, the answer goes up the pipe."""
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
        answer = asked(name, look_inside, closed)
    line.send_bytes(msgspec.msgpack.encode(answer))


def asked(name: str, look_inside: bool, closed: set[str]) -> Answer:
    """What one back end says, in this process. ``closed``: serials that are not to be opened (in use, or known)."""
    try:
        module = registry.load("backends", name)
        ready = Ready(name, module.TITLE, tuple(module.MODELS), module.INSTALL, module.why_not())
    except Exception as error:
        return Answer(Ready(name, why_not=reason(error)))
    if ready.why_not:
        return Answer(ready)
    try:
        found = module.attached()
    except Exception as error:
        return Answer(msgspec.structs.replace(ready, trouble=_words(error)))
    return Answer(
        ready, tuple(_seen(module, each, look_inside and _digits(each.serial) not in closed) for each in found)
    )


def _seen(module: ModuleType, attached: Any, look_inside: bool) -> Seen:
    driver = driver_of(attached.model)
    capabilities: tuple[Capability, ...] = ()
    if look_inside and not attached.problem and driver is not None:
        try:
            device = module.open(attached, driver[1].Settings())
            try:
                attached = device.attached
                capabilities = tuple(Capability(each.name, each.where, each.says) for each in device.capabilities)
            finally:
                device.close()
        except Exception as error:
            attached = replace(attached, problem=_words(error))
    return Seen(
        attached.model,
        attached.serial,
        attached.resolution,
        attached.connection,
        attached.firmware,
        tuple(attached.streams),
        attached.address,
        (module.NAME,),
        "",
        driver[0] if driver is not None else "",
        capabilities,
        attached.problem,
    )


def _words(error: BaseException) -> str:
    return str(error) if isinstance(error, RtpipeError) else reason(error)
