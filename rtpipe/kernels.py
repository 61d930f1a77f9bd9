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
