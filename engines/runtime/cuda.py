"""The CUDA driver API, as far as a session needs it; being written."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU: its name, compute capability (major, minor), memory in bytes, and the CUDA version that its driver serves
    (12060 is 12.6)."""

    name: str
    compute_capability: tuple[int, int]
    memory_bytes: int
    driver: int


def first_gpu() -> Gpu | None:
    """The GPU that a network would run on (device 0); None without a driver or a GPU. Never raises."""
    return None
