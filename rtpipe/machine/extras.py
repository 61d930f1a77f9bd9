"""What a machine may have beside the base: accelerators."""

from __future__ import annotations

import importlib
from importlib import metadata, util
from pathlib import Path

from rtpipe.machine.fact import Fact


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
    for place in ("proc/driver/nvidia/version", "etc/nv_tegra_release"):
        try:
            return (root / place).read_text(errors="replace").splitlines()[0].strip()
        except (OSError, IndexError):
            continue
    return ""


def gpu(release: str) -> Fact:
    """The GPU, from what :func:`nvidia_gpu` found."""
    if release:
        return Fact("accelerators", "GPU", "ok", release)
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
        return Fact("accelerators", "PyTorch", "note", says, "pip install --force-reinstall torch")
    return Fact("accelerators", "PyTorch", "ok", f"{version}, on the processor")


def tensorrt(release: str) -> Fact:
    """TensorRT (from the system, as on a Jetson) or TensorRT for RTX."""
    for module in ("tensorrt", "tensorrt_rtx"):
        if util.find_spec(module) is not None:
            version = importlib.import_module(module).__version__
            return Fact("accelerators", "TensorRT", "ok", f"{module} {version}")
    if not release:
        return Fact("accelerators", "TensorRT", "note", "not installed, and no GPU that could use it")
    if "tegra" in release.lower() or "R3" in release[:6]:
        mend = "python3 -m venv --system-site-packages .venv"
        return Fact("accelerators", "TensorRT", "note", "not visible; JetPack has it in the system's Python", mend)
    return Fact("accelerators", "TensorRT", "note", "not installed", "pip install tensorrt-rtx")
