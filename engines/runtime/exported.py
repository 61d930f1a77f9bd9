"""A network as an ONNX file: exported from PyTorch once, kept, checked when it is read.

``CACHE/NETWORK-KEY-EXPORTER.onnx`` beside its checksum (``sha256sum -c`` reads it), in ``XDG_CACHE_HOME/rtpipe/onnx``.
The key is of the network's code, weights, shapes, precision and opset; the exporter is PyTorch's version, or, where
PyTorch is not installed, whichever made the newest file: so later runs, and other machines, need no PyTorch.
"""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import io
import logging
import os
import re
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

from engines.runtime.graph import Graph, Port
from rtpipe import whole_file
from rtpipe.errors import WorldError

LOG = logging.getLogger(__name__)

OPSET = 18
"""Of the exported files: the lowest that PyTorch's exporter writes without converting back."""

LAYOUT = 2
"""Grows when the same network would be exported otherwise."""


def directory() -> Path:
    """Where exported files are kept; it may be emptied at any time."""
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "rtpipe" / "onnx"


def next_name(state: Port) -> str:
    """The output that holds a state's next value."""
    return f"{state.name}_next"


def onnx_of(graph: Graph, precision: str, progress: Callable[[str], None], native: bool = False) -> bytes:
    """The network as an ONNX file's bytes: the one it gives itself, a kept one, or one exported now and kept.

    Inputs and outputs are float32, states (inputs ``NAME``, outputs ``NAME_next``) in ``precision``. ``native``: in the
    form for runtimes that have its operators, where it has one. Blocks for seconds to a minute when it exports. Raises
    ``ImportError`` where that needs packages that are not installed and ``WorldError`` for an export that is not the
    network.
    """
    if graph.onnx is not None:
        return graph.onnx(precision)
    if graph.module is None:
        raise WorldError(f"{graph.name} has no form that ONNX Runtime could take")
    native = native and graph.native is not None
    kept = _kept(graph, precision, native)
    for path in kept:
        data = read(path)
        if data is not None:
            return data
    _need("onnx", "onnxscript", "torch")
    started = time.monotonic()
    progress(f"exporting {graph.name} to ONNX, once for this size")
    data = export(graph, precision, native)
    progress(f"{graph.name} exported in {time.monotonic() - started:.0f} s")
    keep(kept[0], data)
    return data


def _need(*packages: str) -> None:
    missing = [name for name in packages if _version(name) is None]
    if missing:
        raise ImportError(
            f"exporting to ONNX needs {', '.join(missing)}, once for each size: pip install 'rtpipe[torch]'"
        )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def key(graph: Graph, precision: str, native: bool = False) -> str:
    """What the exported file depends on, beside the exporter."""
    ports = [[(port.name, port.shape) for port in group] for group in (graph.inputs, graph.outputs, graph.states)]
    facts: tuple[Any, ...] = (graph.name, graph.weights, ports, precision, graph.keep_float32, OPSET, LAYOUT)
    facts += (_code(graph.module),)
    if native and graph.native is not None:
        facts += (graph.native.operators, graph.native.opset, _code(graph.native.module))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:24]


def _code(module: Callable[[], Any] | None) -> str:
    """A digest of the sources beside the function that makes the network: a mended network is exported anew."""
    while isinstance(module, partial):
        module = module.func
    source = inspect.getsourcefile(module) if inspect.isroutine(module) or inspect.isclass(module) else None
    if source is None:
        return ""
    folder = Path(source).parent
    files = sorted(folder.glob("*.py")) if (folder / "__init__.py").is_file() else [Path(source)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def _kept(graph: Graph, precision: str, native: bool) -> list[Path]:
    """Files to try; the first is the one that an export writes."""
    stem = f"{re.sub('[^A-Za-z0-9._-]', '_', graph.name)}-{key(graph, precision, native)}"
    here = _version("torch")
    if here is not None:
        exporter = f"torch{here}-onnxscript{_version('onnxscript') or '0'}".replace("+", "_")
        return [directory() / f"{stem}-{exporter}.onnx"]
    found = list(directory().glob(f"{stem}-*.onnx"))
    return sorted(found, key=_age, reverse=True) or [directory() / f"{stem}-none.onnx"]


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _checksum(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def read(path: Path) -> bytes | None:
    """The file's bytes; None where it is not there or is not what was written (said in the log)."""
    try:
        data = path.read_bytes()
        wanted = _checksum(path).read_text(encoding="ascii")[:64]
    except (OSError, UnicodeDecodeError):
        return None
    if hashlib.sha256(data).hexdigest() != wanted:
        LOG.warning("%s is damaged and will be made anew", path)
        return None
    return data


def keep(path: Path, data: bytes) -> None:
    """Write a file and its checksum, each appearing whole or not at all. A cache that cannot be written is no reason
    to stop: it is said in the log."""
    digest = f"{hashlib.sha256(data).hexdigest()}  {path.name}\n"
    try:
        for target, content in ((_checksum(path), digest.encode()), (path, data)):
            whole_file.write(target, [content])
    except OSError as error:
        LOG.warning("%s cannot be kept, and will be exported each time: %s", path, error.strerror or error)


def export(graph: Graph, precision: str, native: bool = False) -> bytes:
    """The network exported by PyTorch, as bytes. Every input and state must be used and every output made.

    States are exported as distinct random tensors: equal or shared ones are silently taken for one another.
    """
    import torch

    from engines.runtime.torch import Typed

    opset, form = OPSET, graph.native
    if native and form is not None:
        graph, opset = replace(graph, module=form.module), max(OPSET, form.opset)
    module = Typed(graph, precision)
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.rand(port.shape, generator=generator) for port in graph.inputs]
    states = [torch.rand(port.shape, generator=generator).to(module.dtype) for port in graph.states]
    with _quiet():
        program = torch.onnx.export(
            module,
            (*inputs, *states),
            dynamo=True,
            opset_version=opset,
            input_names=[port.name for port in (*graph.inputs, *graph.states)],
            output_names=[*(port.name for port in graph.outputs), *(next_name(port) for port in graph.states)],
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    _check(graph, model)
    _name(model)
    data: bytes = model.SerializeToString()
    return data


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on packages that no network here needs."""
    said, log = io.StringIO(), logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _check(graph: Graph, model: Any) -> None:
    """Raises ``WorldError`` where the exported graph has not the network's ports or ignores one."""
    wanted_in = [(port.name, port.shape) for port in (*graph.inputs, *graph.states)]
    wanted_out = [(port.name, port.shape) for port in graph.outputs]
    wanted_out += [(next_name(port), port.shape) for port in graph.states]
    for what, wanted, found in (("inputs", wanted_in, model.graph.input), ("outputs", wanted_out, model.graph.output)):
        got = [(value.name, tuple(side.dim_value for side in value.type.tensor_type.shape.dim)) for value in found]
        if got != list(wanted):
            raise WorldError(f"{graph.name}: the export has {what} {got}, the network {list(wanted)}")
    unused = _unused(wanted_in, model)
    if unused:
        raise WorldError(f"{graph.name}: the export does not use {', '.join(unused)}: it is not the network")


def _name(model: Any) -> None:
    """Nodes are named ``MODULE/OPERATION``, so that what a runtime says of one can be found, and what was to stay in
    float32 can be told from what did. What else the exporter notes of them, paths of this machine too, is left out."""
    for node in model.graph.node:
        scopes = next((note.value for note in node.metadata_props if note.key.endswith("name_scopes")), "[]")
        path = re.findall(r"'([^']*)'", scopes)[:-1]
        module = path[-1].removeprefix("inner").lstrip(".") if path else ""
        node.name = f"{module}/{node.name}"
        del node.metadata_props[:]


def _unused(ports: Sequence[tuple[str, Any]], model: Any) -> list[str]:
    used = {name for node in model.graph.node for name in node.input} | {value.name for value in model.graph.output}
    return [name for name, _ in ports if name not in used]
