"""The stand-in for ``libcuda.so.1``: compiled, and controlled by tests."""

from __future__ import annotations

import ctypes
import subprocess
from ctypes import c_char_p, c_int, c_long, c_size_t, c_uint64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np

from rtpipe.types import Array

SOURCES = [Path(__file__).with_name(name) for name in ("gpu.c", "libcuda.c")]

KINDS = ("device bytes", "host bytes", "streams", "events", "graphs", "executables", "contexts")

OUT_OF_MEMORY, LAUNCH_FAILED = 2, 719


def build(folder: Path) -> Path:
    """Compile it."""
    target = folder / "libcuda.so.1"
    command = ["cc", "-shared", "-fPIC", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"]
    subprocess.run([*command, str(target), *map(str, SOURCES)], check=True)
    return target


class Gpu:
    """What a test may ask of the stand-in beside what CUDA offers."""

    def __init__(self, path: Path) -> None:
        self.path, self.library = path, ctypes.CDLL(str(path))
        for name, kinds in {
            "standin_devices": (c_int,),
            "standin_delay": (c_long,),
            "standin_memory": (c_long,),
            "standin_allocate_on": (c_int,),
            "standin_refuse_capture": (c_int,),
            "standin_break": (c_int,),
            "standin_fail": (c_long, c_int, c_int),
            "standin_forget": (),
            "standin_touch": (c_uint64, c_size_t, c_int),
            "cuLaunchHostFunc": (c_void_p, c_void_p, c_void_p),
            "cuMemAlloc_v2": (c_void_p, c_size_t),
            "cuMemFree_v2": (c_uint64,),
            "cuStreamSynchronize": (c_void_p,),
        }.items():
            getattr(self.library, name).argtypes = kinds
        for name, result in {
            "standin_said": c_char_p,
            "standin_calls": c_char_p,
            "standin_failed_in": c_char_p,
            "standin_races": c_long,
            "standin_faults": c_long,
            "standin_live": c_long,
            "standin_real": c_void_p,
        }.items():
            getattr(self.library, name).restype = result
        self.library.standin_real.argtypes = (c_uint64, c_size_t)

    def restore(self) -> None:
        """As at the start: one GPU, no delays, no failures, nothing said."""
        self.library.standin_devices(1)
        self.library.standin_delay(0)
        self.library.standin_memory(1 << 34)
        self.library.standin_allocate_on(0)
        self.library.standin_refuse_capture(0)
        self.library.standin_break(0)
        self.fail(-1)
        self.library.standin_forget()

    def fail(self, nth: int, code: int = LAUNCH_FAILED, for_good: bool = False) -> None:
        """The nth call from now on fails (``for_good``: and all after it); calls are counted and named from here."""
        self.library.standin_fail(nth, code, for_good)

    @property
    def failed_in(self) -> str:
        """Which function was made to fail."""
        return str(self.library.standin_failed_in().decode())

    @property
    def calls(self) -> list[str]:
        """The functions called since :meth:`fail`, in order."""
        return list(self.library.standin_calls().decode().split())

    @property
    def races(self) -> str:
        """What was found to race; empty if nothing."""
        return self.library.standin_said().decode() if self.library.standin_races() else ""

    @property
    def faults(self) -> str:
        """What was done that CUDA forbids; empty if nothing."""
        return self.library.standin_said().decode() if self.library.standin_faults() else ""

    @property
    def live(self) -> dict[str, int]:
        """What was taken and not given back."""
        found = {kind: int(self.library.standin_live(index)) for index, kind in enumerate(KINDS)}
        return {kind: count for kind, count in found.items() if count}

    def view(self, address: int, shape: tuple[int, ...], dtype: Any) -> Array:
        """Device memory as the stand-in's streams see it."""
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        real = self.library.standin_real(address, nbytes)
        if not real:
            raise MemoryError(f"{nbytes} bytes at {address:#x} were not taken")
        return np.frombuffer((ctypes.c_ubyte * nbytes).from_address(real), dtype).reshape(shape)
