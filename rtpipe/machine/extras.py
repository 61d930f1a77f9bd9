"""What a machine may have beside the base: accelerators."""

from __future__ import annotations

import time
from importlib import metadata, util
from pathlib import Path

from rtpipe import registry
from rtpipe.errors import RtpipeError
from rtpipe.machine.fact import Fact
from rtpipe.machine.jetson import Jetson
from rtpipe.runtimes import Builder, Gpu, Library

SMALL = (64, 48)
"""The size at which networks are parsed: as telling as any, and quick."""
NETWORKS_S = 60.0
"""After which no further network is exported only to be looked at."""


def onnx_runtime() -> Fact:
    """Which of onnxruntime and onnxruntime-gpu is in charge: both install the same module, the last one wins."""
    import onnxruntime

    there = {}
    for name in ("onnxruntime", "onnxruntime-gpu"):
        try:
            there[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    providers = [name.removesuffix("ExecutionProvider") for name in onnxruntime.get_available_providers()]
    in_charge = "onnxruntime-gpu" if {"CUDA", "Tensorrt"} & set(providers) else "onnxruntime"
    says = f"{in_charge} {onnxruntime.__version__} is in charge, runs on {', '.join(providers)}"
    if len(there) == 2:
        mend = "pip uninstall -y onnxruntime onnxruntime-gpu && pip install onnxruntime-gpu"
        return Fact("accelerators", "ONNX Runtime", "note", f"both packages are installed; {says}", mend)
    return Fact("accelerators", "ONNX Runtime", "ok", says)


def nvidia_gpu(root: Path) -> str:
    """The NVIDIA driver or Jetson release below ``root`` (normally ``/``); empty where there is none."""
    for place in ("etc/nv_tegra_release", "proc/driver/nvidia/version"):
        try:
            return (root / place).read_text(errors="replace").splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return ""


def gpu(release: str, seen: Gpu | None, jetson: Jetson | None) -> Fact:
    """The GPU: what :func:`nvidia_gpu` found of its driver, and what the driver itself says when it is asked."""
    board = f"; {jetson.words}" if jetson is not None else ""
    if seen is not None:
        memory = f"{seen.memory_bytes / 2**30:.1f} GiB{' shared with the processor' if jetson is not None else ''}"
        says = f"{seen.name}, compute capability {seen.compute_capability}, {memory}, driver for CUDA {seen.cuda}"
        return Fact("accelerators", "GPU", "ok", says + board)
    if release:
        driver = board.removeprefix("; ") or release
        says = f"the driver knows no GPU that answers ({driver}); a container needs --gpus all, or --runtime nvidia"
        return Fact("accelerators", "GPU", "note", says)
    return Fact("accelerators", "GPU", "note", "no NVIDIA driver: engines run on the processor")


def torch(release: str) -> Fact:
    """PyTorch, and whether it sees the GPU."""
    if util.find_spec("torch") is None:
        says = "not installed; networks need it (but for PIE-Net), to run or to be exported once"
        return Fact("accelerators", "PyTorch", "note", says, "pip install 'rtpipe[torch]'")
    import torch

    version = str(torch.__version__)
    if torch.cuda.is_available():
        says = f"{version}, CUDA {torch.version.cuda}, {torch.cuda.get_device_name()}"
        return Fact("accelerators", "PyTorch", "ok", says)
    if release:
        says = f"{version} does not see the GPU (built for {torch.version.cuda or 'the processor alone'})"
        if "(release)" in release:  # a Jetson
            says += "; it exports networks for TensorRT all the same, and NVIDIA has a build for each JetPack"
            return Fact("accelerators", "PyTorch", "note", says)
        return Fact("accelerators", "PyTorch", "note", says, "pip install --force-reinstall torch")
    return Fact("accelerators", "PyTorch", "ok", f"{version}, on the processor")


def tensorrt(library: Library, seen: Gpu | None, jetson: Jetson | None) -> Fact:
    """Which TensorRT is in charge, and whether it can serve this GPU; where there is none, how to get it."""
    title = f"{library.title} {library.version}".strip()
    if title and not library.why:
        return Fact("accelerators", "TensorRT", "ok", f"{title} serves this GPU")
    if title:
        tried = "; it builds without one, to try: rtpipe engines build NETWORK --size WxH --dry-run"
        says = f"{title} is installed, but: {library.why}{tried if library.builds and seen is None else ''}"
        return Fact("accelerators", "TensorRT", "note", says)
    if jetson is not None:
        return Fact("accelerators", "TensorRT", "note", *_on_a_jetson(jetson))
    if seen is None:
        return Fact("accelerators", "TensorRT", "note", "not installed, and no GPU that could use it")
    return Fact("accelerators", "TensorRT", "note", library.why or "not installed", "pip install 'rtpipe[tensorrt]'")


def _on_a_jetson(jetson: Jetson) -> tuple[str, str]:
    """What is missing, and the command that mends it: there TensorRT comes with the system, never from an index."""
    if jetson.jetpack.startswith(("4", "5")):
        return f"JetPack {jetson.jetpack} has TensorRT 8, which is too old: JetPack 6 or newer is needed", ""
    if "python3-libnvinfer" in jetson.packages:
        version = jetson.packages["python3-libnvinfer"]
        return (
            f"{version} is in the system's Python, but not visible here",
            "python3 -m venv --system-site-packages .venv",
        )
    return "not installed; JetPack brings it", "sudo apt-get install tensorrt python3-libnvinfer"


def networks(builder: Builder, limit_s: float = NETWORKS_S) -> list[Fact]:
    """Which networks TensorRT takes: each whose weights are here is exported and parsed in half precision at a small
    size, which shows whether it knows every operation. Empty without a TensorRT that could build."""
    library = builder.tensorrt()
    if not library.title or (library.why and not library.builds):
        return []
    taken, facts, late, ends = [], [], [], time.monotonic() + limit_s
    for name in registry.names("engines"):
        try:
            module = registry.load("engines", name)
            engine = module.Engine(module.Settings()) if hasattr(module, "NETWORK") else None
            graph = engine.network.graph(SMALL) if engine is not None else None
        except RtpipeError:  # no weights, or it does not import: said elsewhere
            continue
        if graph is None:
            continue
        if time.monotonic() > ends:
            late.append(name)
            continue
        try:
            builder.parse(graph, "fp16", progress=lambda _: None)
            taken.append(name)
        except RtpipeError as error:
            facts.append(Fact("accelerators", "TensorRT", "note", f"{name} cannot be built: {error}"))
    title = f"{library.title} {library.version}"
    if late:
        mend = f"rtpipe engines build {late[0]} --size {SMALL[0]}x{SMALL[1]} --dry-run" if library.builds else ""
        facts.append(Fact("accelerators", "TensorRT", "note", f"not looked at, to be quick: {', '.join(late)}", mend))
    if taken:
        facts.insert(0, Fact("accelerators", "networks", "ok", f"{title} takes {', '.join(taken)} (fp16, parsed)"))
    elif not facts:
        says = "no network has weights here: nothing to build (rtpipe engines list says how to get them)"
        facts.append(Fact("accelerators", "networks", "note", says))
    return facts
