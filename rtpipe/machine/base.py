"""The machine itself and what the base installation brings."""

from __future__ import annotations

import importlib
import platform
import re
import shutil
import tempfile
from importlib import metadata
from pathlib import Path

from rtpipe.machine.fact import Fact, State, mend_import, reason

IMPORTED_AS = {"pyzmq": "zmq", "pyyaml": "yaml", "opencv-python": "cv2"}
"""Where a distribution's name (in lower case) is not the module's."""

OURS = ("rtpipe", "drivers", "engines")
"""What this project's wheel brings: a part that lacks something else lacks an optional package."""

EXTRA_OF = {
    "dv_processing": "cameras",
    "neuromorphic_drivers": "cameras",
    "skimage": "demo",
    "torch": "torch",
    "onnx": "torch",
    "onnxscript": "torch",
}
"""The extra of rtpipe that brings a module."""

LITTLE_MEMORY, LITTLE_DISK = 2 << 30, 10 << 30


def rtpipe() -> Fact:
    """Which rtpipe answers, and from where."""
    where = Path(__file__).resolve().parents[1]
    try:
        return Fact("machine", "rtpipe", "ok", f"{metadata.version('rtpipe')} in {where}")
    except metadata.PackageNotFoundError:
        says = f"runs from {where} but is not installed: no driver, engine or sink can be found"
        return Fact("machine", "rtpipe", "missing", says, f"pip install -e {where.parent}", required=True)


def python() -> Fact:
    """The interpreter."""
    fits = (3, 10) <= tuple(map(int, platform.python_version_tuple()[:2])) < (3, 14)
    says = f"{platform.python_version()} on {platform.machine()}"
    return Fact("machine", "Python", "ok" if fits else "missing", says if fits else f"{says}; 3.10 to 3.13 wanted")


def processor(cpuinfo: str, cores: int) -> Fact:
    """Cores that this process may use and the vector units, from the text of /proc/cpuinfo."""
    model = re.search(r"^(?:model name|Model|Hardware)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    units = [unit for unit in ("avx2", "avx512f", "asimd", "sve") if flags and unit in flags.group(1).split()]
    says = ", ".join([model.group(1) if model else platform.machine(), f"{cores} cores", *units])
    if cores < 2:
        return Fact("machine", "processor", "note", f"{says}: driver, engine and display share one core")
    return Fact("machine", "processor", "ok", says)


def memory(meminfo: str) -> Fact:
    """Free memory, from the text of /proc/meminfo."""
    available, total = (
        int(found.group(1)) * 1024 if (found := re.search(rf"^{key}:\s*(\d+) kB", meminfo, re.MULTILINE)) else 0
        for key in ("MemAvailable", "MemTotal")
    )
    says = f"{available / 2**30:.1f} of {total / 2**30:.1f} GiB free"
    return Fact("machine", "memory", "ok" if available >= LITTLE_MEMORY else "note", says)


def recordings(directory: Path) -> Fact:
    """Whether recordings can be written to ``directory`` (or made there), and how much."""
    there = next(place for place in (directory, *directory.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    says = f"{free / 2**30:.0f} GiB free in {directory}"
    try:
        with tempfile.TemporaryFile(dir=there):
            return Fact("machine", "recordings", "ok" if free >= LITTLE_DISK else "note", says)
    except OSError as error:
        mend = f"sudo chown $USER {there}"
        return Fact("machine", "recordings", "note", f"{there} cannot be written: {error.strerror}", mend)


def kernels() -> Fact:
    """Whether kernels compile, and where they are kept for the next start."""
    from rtpipe.kernels import CACHE
    from rtpipe.packing import pack
    from rtpipe.types import Events

    packed = pack(Events(t=[5], x=[1], y=[2], p=[1]))  # type: ignore[arg-type]
    if (packed.t0, int(packed.x[0]), int(packed.yp[0])) != (5, 1, 2 | 1 << 15):
        return Fact("base", "kernels", "missing", "compiled code gives wrong results here", required=True)
    if CACHE is None:
        mend = "export NUMBA_CACHE_DIR=/a/directory/that/can/be/written"
        return Fact("base", "kernels", "note", "compile, but no cache can be written: every start compiles anew", mend)
    return Fact("base", "kernels", "ok", f"compile; kept in {CACHE}", required=True)


def base_packages() -> list[str]:
    """The distributions that rtpipe's own metadata asks for; empty where rtpipe is not installed."""
    try:
        wanted = metadata.requires("rtpipe") or []
    except metadata.PackageNotFoundError:
        return []
    return [re.split(r"[^A-Za-z0-9._-]", line)[0] for line in wanted if "extra ==" not in line]


def package(name: str) -> Fact:
    """Whether one base distribution is there and imports."""
    module = IMPORTED_AS.get(name.lower(), name.replace("-", "_"))
    try:
        importlib.import_module(module)
        return Fact("base", name, "ok", metadata.version(name), required=True)
    except Exception as error:
        return Fact("base", name, "missing", reason(error), mend_import(error, name), required=True)


def screen() -> Fact:
    """Whether a window can be opened, tried as the display tries it, and by what OpenCV draws it."""
    import cv2

    from rtpipe.sinks.screen import why_no_screen

    trouble = why_no_screen()
    backend = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    name = backend.group(1) if backend else "NONE"
    if not trouble:
        return Fact("base", "display", "ok", f"windows by {name}")
    mend = "export DISPLAY=:0"
    if name == "NONE":
        mend = "pip uninstall -y opencv-python-headless && pip install --force-reinstall opencv-python"
    return Fact("base", "display", "note", f"{trouble}: runs go on without a window", mend)


def encoders(nvidia: bool) -> Fact:
    """Which video encoders FFmpeg has inside PyAV. ``nvidia``: whether the machine has such a GPU."""
    from av.codec import Codec

    def has(name: str) -> bool:
        try:
            Codec(name, "w")
        except ValueError:  # PyAV's UnknownCodecError
            return False
        return True

    found = [name for name in ("libx264", "ffv1") if has(name)]
    if nvidia and has("h264_nvenc"):
        found.append("h264_nvenc")
    if "libx264" not in found:
        says = f"no H.264 encoder in this PyAV (it has {', '.join(found) or 'none'}): no videos"
        return Fact("base", "video", "note", says, "pip install --force-reinstall --only-binary=:all: av")
    return Fact("base", "video", "ok", f"encoders {', '.join(found)}")


def transport() -> Fact:
    """What this ZeroMQ can do: ipc between processes, CURVE between machines."""
    import zmq

    mend = "pip install --force-reinstall --only-binary=:all: pyzmq"
    if not zmq.has("ipc"):
        return Fact("base", "transport", "missing", "this ZeroMQ has no ipc", mend, required=True)
    if not zmq.has("curve"):
        return Fact("base", "transport", "note", "no CURVE: nothing is encrypted between machines", mend)
    return Fact("base", "transport", "ok", f"ZeroMQ {zmq.zmq_version()} with ipc and CURVE", required=True)


def parts(group: str) -> list[Fact]:
    """The drivers, engines, sinks or formats that are installed; each that does not import gets a line of its own."""
    from rtpipe import registry

    good, broken = [], []
    for name in registry.names(group):
        try:
            registry.load(group, name)
            good.append(name)
        except Exception as error:
            cause = error.__cause__ or error
            absent = (cause.name or "").split(".")[0] if isinstance(cause, ModuleNotFoundError) else OURS[0]
            optional = absent not in OURS
            state: State = "note" if optional else "missing"
            mend = f"pip install 'rtpipe[{EXTRA_OF[absent]}]'" if absent in EXTRA_OF else ""
            broken.append(Fact("parts", f"{group[:-1]} {name}", state, reason(cause), mend, required=not optional))
    if good:
        return [Fact("parts", group, "ok", ", ".join(good)), *broken]
    return broken or [Fact("parts", group, "missing", "none is installed", required=True)]
