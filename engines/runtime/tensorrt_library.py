"""TensorRT's flavours and versions: in one table what differs, loaded when first asked for.

``tensorrt`` 10.3 (JetPack 6) and newer, 11 (JetPack 7, workstations, data centres), and ``tensorrt_rtx`` (GeForce and
RTX). Nowhere else is a version looked at.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from rtpipe.errors import WorldError

LOG = logging.getLogger(__name__)

Capability = tuple[int, int]
"""A GPU's compute capability: (8, 7) is Orin's."""

OLDEST = (7, 5)
"""The least capability that any library serves from TensorRT 10.5 on (Turing)."""


@dataclass(frozen=True, slots=True)
class Library:
    """A row: what holds for ``module`` from version ``since`` on, up to the next row's.

    ``least`` and ``most`` are the compute capabilities served (``most`` None: those of GPUs to come as well); with
    ``enumerated`` they are, exactly, the members of the module's ``ComputeCapability``, and a plan is built for named
    ones. ``typed_flag``: strongly typed networks are asked for by a flag; without it they are the only ones.
    ``timing_cache``: kernels are chosen by measuring them, which is kept. ``compiles_later``: kernels are compiled when
    a plan is first run, which is kept (``IRuntimeCache``), and building needs no GPU.
    """

    module: str
    title: str
    since: tuple[int, ...]
    least: Capability = OLDEST
    most: Capability | None = None
    enumerated: bool = False
    typed_flag: bool = False
    timing_cache: bool = True
    compiles_later: bool = False


TABLE = (
    Library("tensorrt", "TensorRT", (11,)),
    Library("tensorrt", "TensorRT", (10, 8), typed_flag=True),
    Library("tensorrt", "TensorRT", (10, 5), most=(9, 0), typed_flag=True),
    Library("tensorrt", "TensorRT", (10, 3), least=(7, 0), most=(9, 0), typed_flag=True),
    Library("tensorrt_rtx", "TensorRT for RTX", (1,), enumerated=True, timing_cache=False, compiles_later=True),
)
"""Newest first. Of two modules that serve a GPU the first is taken."""

MODULES = tuple(dict.fromkeys(row.module for row in TABLE))

INSTALL = {
    "tensorrt": "pip install 'rtpipe[tensorrt]' (GeForce and RTX: tensorrt-rtx); on a Jetson it comes with JetPack: "
    "make the virtual environment with --system-site-packages",
    "tensorrt_rtx": "pip install tensorrt-rtx",
}


class Loaded:
    """A library that was imported: its ``module``, its ``row`` of the table, ``version``, and its log."""

    def __init__(self, module: Any, row: Library, version: str) -> None:
        self.module, self.row, self.version = module, row, version
        self.log = _log(module)
        self._runtime: Any = None

    @property
    def title(self) -> str:
        """Name and version, for people."""
        return f"{self.row.title} {self.version}"

    @property
    def runtime(self) -> Any:
        """Its ``Runtime``, one for the process. Raises ``WorldError`` where it cannot start (an old driver)."""
        if self._runtime is None:
            self.log.clear()
            try:
                self._runtime = self.module.Runtime(self.log)
            except Exception as error:  # pybind's TypeError: the factory gave nothing
                raise WorldError(f"{self.title} cannot start: {self.log.worst() or error}") from error
        return self._runtime

    def capabilities(self) -> tuple[Capability, ...]:
        """Those that a row with ``enumerated`` serves; empty for others."""
        if not self.row.enumerated:
            return ()
        names = (re.fullmatch(r"SM(\d+)(\d)", name) for name in self.module.ComputeCapability.__members__)
        return tuple(sorted((int(name[1]), int(name[2])) for name in names if name))

    def refuses(self, capability: Capability) -> str:
        """Why a GPU of this compute capability is not served, and what to use in its place; empty: it is served."""
        said = f"{self.title} does not serve compute capability {capability[0]}.{capability[1]}"
        if capability < self.row.least:
            return f"{said} ({_dotted(self.row.least)} at least): use ONNX Runtime or PyTorch on CUDA"
        if self.row.most is not None and capability > self.row.most:
            return f"{said} ({_dotted(self.row.most)} at most): use a newer TensorRT"
        served = self.capabilities()
        if self.row.enumerated and capability not in served:
            other = "tensorrt, which comes with JetPack" if capability in ((7, 2), (8, 7), (11, 0)) else "tensorrt"
            return f"{said} ({', '.join(_dotted(one) for one in served)}): use {other}"
        return ""


def _dotted(capability: Capability) -> str:
    return f"{capability[0]}.{capability[1]}"


@cache
def load(name: str) -> Loaded:
    """The library whose module has this name; blocks for a second the first time.

    Raises ``ImportError``, in words for people, where it is not installed, too old, or lacks its shared objects.
    """
    if importlib.util.find_spec(name) is None:
        raise ImportError(f"{name} is not installed: {INSTALL[name]}")
    try:
        module = importlib.import_module(name)
        version = str(module.__version__)
        _ = module.Builder, module.OnnxParser, module.ILogger
    except Exception as error:  # a package without its libraries fails in several ways
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
        raise ImportError(f"{name} is installed but cannot be loaded ({said}): its libraries are missing") from error
    row = row_of(name, version)
    if row is None:
        oldest = min(one.since for one in TABLE if one.module == name)
        raise ImportError(f"{name} {version} is too old: {'.'.join(map(str, oldest))} or newer is needed")
    return Loaded(module, row, version)


def row_of(module: str, version: str) -> Library | None:
    """The row of the table; None for a version that is older than all. One that is newer has the newest row."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", version.split("+")[0]))
    return next((row for row in TABLE if row.module == module and numbers >= row.since), None)


@dataclass(frozen=True, slots=True)
class Installed:
    """What is known of a module without a GPU: ``version``, or, with none, ``why`` not."""

    module: str
    title: str
    version: str = ""
    why: str = ""


def installed() -> tuple[Installed, ...]:
    """Every flavour, installed or not. Imports them: blocks for seconds."""
    found = []
    for name in MODULES:
        title = next(row.title for row in TABLE if row.module == name)
        try:
            found.append(Installed(name, title, load(name).version))
        except ImportError as error:
            found.append(Installed(name, title, why=str(error)))
    return tuple(found)


def serving(capability: Capability | None) -> Loaded:
    """The first library that serves a GPU of this capability; None: one that builds without a GPU.

    Raises ``ImportError`` that says of each why not.
    """
    reasons = []
    for name in MODULES:
        try:
            loaded = load(name)
        except ImportError as error:
            reasons.append((importlib.util.find_spec(name) is not None, str(error)))
            continue
        refused = loaded.refuses(capability) if capability else ""
        if capability is None and not loaded.row.compiles_later:
            refused = f"{loaded.title} builds on the GPU itself"
        if not refused:
            return loaded
        reasons.append((True, refused))
    there = [said for is_there, said in reasons if is_there]
    raise ImportError("; ".join(there or [reasons[0][1]]))


def _log(module: Any) -> Any:
    """The library's log: warnings and errors are held for whoever asks, everything goes to ours at level debug. The
    library keeps the first one that it is given for ever: there is one for each."""

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self._held: deque[tuple[bool, str]] = deque(maxlen=200)

        def log(self, severity: Any, message: str) -> None:
            """Called by the library, from any thread."""
            LOG.debug("%s: %s", module.__name__, message)
            level = module.ILogger.Severity
            if severity in (level.INTERNAL_ERROR, level.ERROR, level.WARNING):
                self._held.append((severity != level.WARNING, message.strip()))

        def clear(self) -> None:
            """Forget what was said before."""
            self._held.clear()

        def said(self) -> Sequence[str]:
            """Warnings and errors, oldest first."""
            return [message for _, message in list(self._held)]

        def worst(self) -> str:
            """The first error, else the last warning, in one line; empty if all was well."""
            held = list(self._held)
            chosen = next((said for error, said in held if error), held[-1][1] if held else "")
            return " ".join(chosen.split())[:200]

    return Log()
