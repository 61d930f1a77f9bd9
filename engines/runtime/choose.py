"""Which runtime computes a network: by device first, then by what was measured to be faster; and why the others do not.

A runtime that ``auto`` would prefer but that fails (no memory, a missing library, an operation it lacks) is passed over
for the next one, and the session's ``facts`` say so. What the user named is used or refused, never replaced.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from engines.runtime.ahead import build, gpu, gpu_free_bytes, parse, tensorrt
from engines.runtime.cores import threads
from engines.runtime.graph import Availability, Graph, Session
from engines.settings import Learned
from rtpipe.errors import InputError, RtpipeError, WorldError
from rtpipe.types import Array

__all__ = ["Chosen", "Way", "availability", "build", "gpu", "gpu_free_bytes", "open", "parse", "tensorrt"]

LOG = logging.getLogger(__name__)


MOST_UNDER_WAY = 2
"""Steps that a session with ``begin`` and ``end`` lets overlap."""


class Way(NamedTuple):
    """A runtime on a device."""

    runtime: str
    device: str


WAYS = (
    Way("tensorrt", "cuda"),
    Way("onnxruntime", "cuda"),
    Way("torch", "cuda"),
    Way("onnxruntime", "cpu"),
    Way("torch", "cpu"),
)
"""In order of preference."""

TITLES = {"tensorrt": "TensorRT", "onnxruntime": "ONNX Runtime", "torch": "PyTorch"}

INSTALL = {
    ("tensorrt", "cuda"): "an NVIDIA driver, and TensorRT (docs/tensorrt.md)",
    ("onnxruntime", "cpu"): "pip install onnxruntime",
    ("onnxruntime", "cuda"): "an NVIDIA driver, and pip install onnxruntime-gpu in place of onnxruntime",
    ("torch", "cpu"): "pip install 'rtpipe[torch]'",
    ("torch", "cuda"): "an NVIDIA driver, and pip install 'rtpipe[torch]' with a CUDA build of PyTorch",
}


def availability() -> tuple[Availability, ...]:
    """What each runtime can do on this machine. Imports them: blocks for seconds."""
    return tuple(_ask(name) for name in dict.fromkeys(way.runtime for way in WAYS))


def _module(runtime: str) -> ModuleType:
    return importlib.import_module(f"engines.runtime.{runtime}")


def _ask(runtime: str) -> Availability:
    try:
        version, precisions = _module(runtime).available()
    except Exception as error:  # a library that is broken, whatever it raises, must not keep the others from running
        said = _first_line(error)
        if isinstance(error, ImportError) and (runtime, "cpu") in INSTALL:
            said += f"; {INSTALL[runtime, 'cpu']}"
        return Availability(runtime, why=said)
    needs = {way.device: INSTALL[way] for way in WAYS if way.runtime == runtime and way.device not in precisions}
    return Availability(runtime, version, tuple(precisions), precisions, needs=needs)


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def open(graph: Graph, settings: Learned, progress: Callable[[str], None] = LOG.info) -> Chosen:
    """The network loaded and run once by what ``settings`` name or, for ``auto``, by the first of :data:`WAYS` that
    works. Blocks: seconds; a minute where the network must be exported first, minutes where TensorRT must build it.

    Raises ``InputError`` for what this machine cannot do (with what to install), ``WorldError`` where the device fails.
    """
    wanted = [
        way for way in WAYS if settings.runtime in ("auto", way.runtime) and settings.device in ("auto", way.device)
    ]
    asked = {name: _ask(name) for name in dict.fromkeys(way.runtime for way in wanted)}
    passed_over: list[str] = []
    failures: list[str] = []
    for way in wanted:
        there = asked[way.runtime]
        precision, refused = _precision(there, way, settings)
        if not refused and way.runtime == "torch" and graph.module is None:
            refused = f"{graph.name} comes as an ONNX file, which PyTorch cannot run"
        if refused:
            passed_over.append(refused)
            continue
        try:
            session = _module(way.runtime).open(graph, way.device, precision, threads(settings.threads), progress)
        except Exception as error:  # whatever a library raises: the next way is tried, and what was wrong is told
            passed_over.append(f"{TITLES[way.runtime]} on {way.device} failed: {_first_line(error)}")
            LOG.warning("%s: %s", graph.name, passed_over[-1])
            failures += [] if isinstance(error, ImportError | InputError) else passed_over[-1:]
            continue
        return Chosen(graph.name, session, _facts(way, there, precision, settings, passed_over, session))
    if not wanted:
        raise InputError(f"{graph.name} cannot run: {TITLES[settings.runtime]} runs on a GPU alone: device: cuda")
    told = f"{graph.name} cannot run: {'; '.join(dict.fromkeys(failures or passed_over))}"
    raise (WorldError if failures else InputError)(told)


def _allows(setting: str, value: str) -> bool:
    return setting in ("auto", value)


def _precision(there: Availability, way: Way, settings: Learned) -> tuple[str, str]:
    """The precision to use, or why this way is not usable."""
    title = TITLES[way.runtime]
    if there.why:
        return "", f"{title}: {there.why}"
    if way.device not in there.devices:
        return "", f"{title} on {way.device} needs {INSTALL[way]}"
    allowed = there.precisions[way.device]
    if settings.precision == "auto":
        return ("fp16" if "fp16" in allowed else "fp32"), ""
    if settings.precision not in allowed:
        return (
            "",
            f"{settings.precision} on a {way.device.upper()} saves no time and costs accuracy: use precision: fp32",
        )
    return settings.precision, ""


def _facts(
    way: Way, there: Availability, precision: str, settings: Learned, passed_over: Sequence[str], session: Session
) -> Mapping[str, str]:
    said = {"runtime": f"{TITLES[way.runtime]} {there.version}, {way.device}, {precision}"}
    details = ", ".join(f"{value} {key}" for key, value in session.facts.items())
    if details:
        said["runtime"] += f", {details}"
    if settings.runtime == "auto" or settings.device == "auto":
        said["chosen"] = f"because {'; '.join(dict.fromkeys(passed_over))}" if passed_over else "it is the first choice"
    return said


class Chosen:
    """A runtime's session with the reasons for it; a device that fails is said in plain words."""

    def __init__(self, name: str, session: Session, facts: Mapping[str, str]) -> None:
        self._name, self._session, self._facts = name, session, facts

    @property
    def facts(self) -> Mapping[str, str]:
        """``"runtime"``: which, its version, device and precision; ``"chosen"``: why not one that comes before it."""
        return self._facts

    def run(self, inputs: Sequence[Array]) -> Sequence[Array]:
        """One step; see :class:`engines.runtime.graph.Session`."""
        made: Sequence[Array] = self._said(self._session.run, inputs)
        return made

    def _said(self, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except (RtpipeError, ValueError, TypeError):
            raise
        except Exception as error:
            raise WorldError(f"{self._name}: {self._facts['runtime']} failed: {_first_line(error)}") from error

    @property
    def overlaps(self) -> bool:
        """Whether :meth:`stream` gains anything here: the runtime takes the next inputs while it computes."""
        return hasattr(self._session, "begin")

    def stream(self, steps: Iterable[Sequence[Array]]) -> Iterator[Sequence[Array]]:
        """The outputs of one step after the other, as :meth:`run` gives them, each valid until the next is asked for.
        Where the runtime :attr:`overlaps`, the next step's inputs travel while this one is computed."""
        session: Any = self._session
        if not self.overlaps:
            for inputs in steps:
                yield self.run(inputs)
            return
        under_way = 0
        for inputs in steps:
            self._said(session.begin, inputs)
            under_way += 1
            if under_way == MOST_UNDER_WAY:
                under_way -= 1
                yield self._said(session.end)
        for _ in range(under_way):
            yield self._said(session.end)

    def reset(self) -> None:
        """States are zero again."""
        self._session.reset()

    def close(self) -> None:
        """Give the device's memory back."""
        self._session.close()
