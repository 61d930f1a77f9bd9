"""Kept plans: what TensorRT built, found again by what it was built from, and never loaded when it is not whole.

``XDG_CACHE_HOME/rtpipe/tensorrt/NETWORK-WxH-PRECISION-KEY.plan``: one line with a checksum of all that follows, one
line of facts as JSON, and the plan's bytes. Checksum and content are one file, so that whichever of two writers comes
last is whole. Beside them lie what makes building and starting faster, in the same form: ``*.timing`` (which kernels
were measured to be fast, by GPU and version) and ``*.kernels`` (what TensorRT for RTX compiled at run time, by plan).
The folder may be emptied at any time.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import msgspec

from engines.runtime.graph import Graph
from rtpipe import whole_file

LOG = logging.getLogger(__name__)

LAYOUT = 1
"""Grows when the same ONNX file would be built otherwise."""

MAGIC = b"rtpipe plan 1 "
FACTS_LIMIT = 1 << 16
"""Bytes that the line of facts may have."""

ABANDONED_S = 3600
"""Age at which a part file is what a killed process left behind."""


def directory() -> Path:
    """Where plans are kept."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rtpipe" / "tensorrt"


@dataclass(frozen=True, slots=True)
class Key:
    """All that a plan depends on. ``onnx`` and ``weights`` are sha256 digests, ``shapes`` those of inputs and states by
    name, ``library`` and ``version`` of what built it, ``capability`` the GPU's compute capability."""

    network: str
    onnx: str
    weights: str
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    precision: str
    library: str
    version: str
    gpu: str
    capability: tuple[int, int]

    @property
    def digest(self) -> str:
        """Of all of it, and of :data:`LAYOUT`."""
        return hashlib.sha256(repr((LAYOUT, *astuple(self))).encode()).hexdigest()[:24]

    @property
    def path(self) -> Path:
        """The plan's file."""
        height, width = _side(self.shapes[0][1]) if self.shapes else (0, 0)
        stem = f"{_plain(self.network)}-{width}x{height}-{self.precision}-{self.digest}"
        return directory() / f"{stem}.plan"

    @property
    def kernels(self) -> Path:
        """The file of what was compiled at run time for this plan."""
        return self.path.with_suffix(".kernels")

    @property
    def timing(self) -> Path:
        """The file of measured kernels, shared by all plans of this GPU and version."""
        return directory() / f"{timing_key(self)}.timing"


def key_of(
    graph: Graph, onnx: bytes, precision: str, library: str, version: str, gpu: str, capability: tuple[int, int]
) -> Key:
    """The key of a network's plan; ``onnx`` is the file that is built."""
    shapes = tuple((port.name, port.shape) for port in (*graph.inputs, *graph.states))
    digest = hashlib.sha256(onnx).hexdigest()
    return Key(graph.name, digest, graph.weights, shapes, precision, library, version, gpu, capability)


def timing_key(key: Key) -> str:
    """What measured kernels depend on: the GPU, and the version of the library."""
    return _plain(f"{key.library}-{key.version}-{key.gpu}-{key.capability[0]}.{key.capability[1]}")


def _side(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width: of (1, C, H, W) the last two, of (H, W, C) the first."""
    return (shape[-2], shape[-1]) if len(shape) != 3 else (shape[0], shape[1])


def _plain(name: str) -> str:
    return re.sub("[^A-Za-z0-9._-]", "_", name)


class _Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    key: str
    size: int
    facts: dict[str, str]


@dataclass(frozen=True, slots=True)
class Kept:
    """What was found: the bytes as they were given to :func:`keep`, and the facts."""

    data: bytes
    facts: Mapping[str, str]


def read(path: Path, key: str) -> Kept | None:
    """The file's content; None where it is not there, and, said in the log, where it is not whole or not of ``key``."""
    try:
        with path.open("rb") as file:
            first = file.readline(len(MAGIC) + 65)
            line = file.readline(FACTS_LIMIT)
            data = file.read()  # an object of its own: TensorRT wants the plan aligned
    except FileNotFoundError:
        return None
    except OSError as error:
        LOG.warning("%s cannot be read and will be made anew: %s", path, error.strerror or error)
        return None
    if first == _first_line(line, data):
        with contextlib.suppress(msgspec.MsgspecError):
            header = msgspec.json.decode(line, type=_Header)
            if header.key == key and header.size == len(data):
                return Kept(data, header.facts)
    LOG.warning("%s is damaged or not what it should be, and will be made anew", path)
    return None


def _first_line(line: bytes, data: bytes) -> bytes:
    digest = hashlib.sha256(line)
    digest.update(data)
    return MAGIC + digest.hexdigest().encode() + b"\n"


def keep(path: Path, key: str, data: bytes, facts: Mapping[str, str] | None = None) -> bool:
    """Write a file that appears whole or not at all. A cache that cannot be written is no reason to stop: it is said in
    the log, and False given. Raises ``ValueError`` for facts that are too long."""
    line = msgspec.json.encode(_Header(key, len(data), dict(facts or {}))) + b"\n"
    if len(line) > FACTS_LIMIT:
        raise ValueError(f"facts of {len(line)} bytes; {FACTS_LIMIT} at most")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _sweep(path.parent)
        whole_file.write(path, [_first_line(line, data), line, data], folder_mode=0o700)
    except OSError as error:
        LOG.warning("%s cannot be kept, and will be made each time: %s", path, error.strerror or error)
        return False
    return True


def _sweep(folder: Path) -> None:
    """Remove what killed processes left half written."""
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED_S:
                part.unlink()


@contextlib.contextmanager
def one_builder(waiting: Callable[[], None]) -> Iterator[None]:
    """While this is held no other process builds: kernels that are measured while another build uses the GPU are chosen
    wrongly. Blocks as long as another builds; ``waiting`` is called once before. The kernel frees it when its holder
    dies; where a folder cannot be locked nothing is waited for."""
    try:
        directory().mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = (directory() / "building.lock").open("ab")
    except OSError:
        yield
        return
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            with contextlib.suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            LOG.debug("%s cannot be locked", lock.name)
        yield
