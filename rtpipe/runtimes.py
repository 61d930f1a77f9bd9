"""What computes networks on this machine, as the command line asks for it.

The modules of the entry-point group ``rtpipe.runtimes`` have ``availability()``, one record per runtime: ``runtime``,
``version``, ``devices``, ``precisions`` by device, ``why`` it has none, ``needs``: what a device that it lacks wants.
One of them may also build for TensorRT ahead of time: it is a :class:`Builder`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

from rtpipe import registry
from rtpipe.errors import InputError


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first NVIDIA GPU: its name, ``compute_capability`` (``"8.7"``), memory in bytes, and the newest ``cuda`` that
    its driver serves (``"12.6"``)."""

    name: str
    compute_capability: str
    memory_bytes: int
    cuda: str


@dataclass(frozen=True, slots=True)
class Library:
    """The TensorRT that is in charge: ``title`` (``"TensorRT"``, ``"TensorRT for RTX"``; empty: none is installed) and
    ``version``; ``why`` it cannot run here (empty: it can) and whether it could at least build a network."""

    title: str
    version: str
    why: str = ""
    builds: bool = False


@dataclass(frozen=True, slots=True)
class Built:
    """A network built for TensorRT: where its plan is kept (empty: it was only tried, or cannot be kept), how large it
    is, how long it took, whether it was there already, the ``library``, and in words for what or what was
    ``verified``."""

    path: str
    size_bytes: int
    seconds: float
    kept_before: bool
    library: str
    verified: str


class Builder(Protocol):
    """A module of runtimes that knows TensorRT."""

    def gpu(self) -> Gpu | None:
        """The first GPU; None without a driver or a GPU. Never raises."""
        ...

    def gpu_free_bytes(self) -> int | None:
        """Its memory that nobody uses; None where nobody knows. Never raises."""
        ...

    def tensorrt(self) -> Library:
        """The TensorRT of this machine. Imports it: blocks for a second. Never raises."""
        ...

    def parse(self, graph: Any, precision: str, *, progress: Callable[[str], None]) -> str:
        """See whether TensorRT knows everything in a network, without building it: says what it is made of. Blocks as
        long as the network must be exported. Raises ``InputError`` and ``WorldError`` that names what it does not."""
        ...

    def build(
        self, graph: Any, precision: str, *, keep: bool, workspace_mb: int, progress: Callable[[str], None]
    ) -> Built:
        """Build a network (an engine's ``network.graph(size)``) and keep the plan, or only try (``keep`` False). Blocks
        for minutes; ``workspace_mb`` 0: as TensorRT likes. Raises ``InputError`` where this machine cannot,
        ``WorldError`` where the build fails."""
        ...


def builder() -> Builder:
    """The first that is installed. Raises ``InputError``."""
    for name in registry.names("runtimes"):
        module = registry.load("runtimes", name)
        if hasattr(module, "build"):
            return cast(Builder, module)
    raise InputError("no runtime is installed that builds networks for TensorRT")


def gpu() -> Gpu | None:
    """The first GPU that a driver knows; None where there is none. Never raises."""
    try:
        return builder().gpu()
    except InputError:
        return None


def gpu_free_bytes() -> int | None:
    """Memory of the first GPU that nobody uses; None where nobody knows. Never raises."""
    try:
        return builder().gpu_free_bytes()
    except InputError:
        return None
