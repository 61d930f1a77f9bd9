"""How rtpipe compiles: one decorator for every numba kernel, and a cache directory that can be written.

numba's ``cache=True`` raises on import where neither the package nor the home can be written (a service's sandbox), so
the directory is chosen here, before any kernel is defined: ``NUMBA_CACHE_DIR`` if set, else the user's cache directory
(``XDG_CACHE_HOME`` or ``~/.cache``), else one under the system's temporary directory, else no cache at all.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba
from llvmlite import ir
from numba import extending, types

F = TypeVar("F", bound=Callable[..., Any])


def _writable(directory: Path) -> bool:
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if directory.stat().st_uid != os.getuid():  # someone else's directory under /tmp: do not load code from it
            return False
        with tempfile.TemporaryFile(dir=directory):
            return True
    except OSError:
        return False


def cache_directory() -> Path | None:
    """The directory for compiled kernels, or None where nothing can be written."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        candidates = [Path(os.environ["NUMBA_CACHE_DIR"])]
    else:
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        candidates = [home / "rtpipe" / "kernels", Path(tempfile.gettempdir()) / f"rtpipe-kernels-{os.getuid()}"]
    return next((directory for directory in candidates if _writable(directory)), None)


CACHE = cache_directory()
if CACHE is not None:
    numba.config.CACHE_DIR = str(CACHE)


def kernel(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` with the house's settings: releases the GIL, cached on disk where that is possible.

    Options are numba's (``fastmath``, ``inline`` …). Kernels check no bounds: callers validate coordinates first.
    """
    options.setdefault("nogil", True)
    options.setdefault("cache", CACHE is not None)
    options.setdefault("error_model", "numpy")
    decorate: Callable[[F], F] = numba.njit(**options)
    return decorate


_inside_kernels: Callable[[Callable[..., Any]], Callable[..., Any]] = extending.intrinsic


@_inside_kernels
def add_four(typing: Any, into: Any, at: Any, values: Any, row: Any) -> Any:  # noqa: ARG001 what numba asks for
    """In a kernel: ``into[at : at + 4] += values[row : row + 4]`` as one vector addition.

    ``into`` and ``values`` flat float32 arrays, ``at`` and ``row`` uint64; no bounds are checked. numba itself makes
    four scalar additions of it (it leaves LLVM's straight-line vectorizer off).
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        four = ir.VectorType(ir.FloatType(), 4).as_pointer()
        places = [
            builder.bitcast(builder.gep(context.make_array(kind)(context, builder, array).data, [index]), four)
            for kind, array, index in zip(signature.args[::2], args[::2], args[1::2], strict=True)
        ]
        total = builder.fadd(*(builder.load(place, align=4) for place in places))
        builder.store(total, places[0], align=4)
        return context.get_dummy_value()

    return types.void(into, types.uint64, values, types.uint64), generate


@_inside_kernels
def fetch(typing: Any, array: Any, at: Any) -> Any:  # noqa: ARG001 what numba asks for
    """In a kernel: begin to bring ``array[at]``, which will soon be written, into the cache. ``array`` flat, ``at``
    uint64; harmless wherever it points."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        place = builder.gep(context.make_array(signature.args[0])(context, builder, args[0]).data, [args[1]])
        place = builder.bitcast(place, ir.IntType(8).as_pointer())
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        to_write, keep, data = number(1), number(3), number(1)
        prefetch = builder.module.declare_intrinsic("llvm.prefetch", [place.type], kind)
        builder.call(prefetch, [place, to_write, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate
