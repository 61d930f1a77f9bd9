"""What a TensorRT module offers, as JSON: ``python signatures.py MODULE``. In a process of its own: each of the
bindings claims the same names, and they are loaded over libraries that hold nothing (:func:`stubs`)."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = (
    "createInferBuilder_INTERNAL",
    "createInferRefitter_INTERNAL",
    "createInferRuntime_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL",
    "createNvOnnxParser_INTERNAL",
    "getBuilderPluginRegistry",
    "getNvOnnxParserVersion",
    "getPluginRegistry",
    "initLibNvInferPlugins",
)
"""What the bindings take from TensorRT's libraries."""


def stubs(bindings: Path, folder: Path) -> None:
    """Libraries that let bindings be imported without TensorRT: the right names, and nothing that can be called."""
    source = folder / "stubs.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in NAMES))
    (module,) = bindings.glob("tensorrt_bindings/tensorrt*.so")
    for name in sorted(set(re.findall(rb"lib(?:nvinfer|nvinfer_plugin|nvonnxparser)\.so\.\d+", module.read_bytes()))):
        target = folder / name.decode()
        subprocess.run(["cc", "-shared", "-o", target, f"-Wl,-soname,{target.name}", source], check=True)


def described(module: Any) -> dict[str, Any]:
    """``{"class": {"member": ...}}``; a member is the list of its overloads if it is a method, each a list of
    ``[argument, has a default]``, ``"property"``, or, of an enumeration, its number."""
    found: dict[str, Any] = {"": {"__version__": module.__version__}}
    for name, value in vars(module).items():
        if isinstance(value, type):
            found[name] = {each: _member(each, getattr(value, each)) for each in dir(value) if _shown(each)}
        elif callable(value) and not name.startswith("_"):
            found[""][name] = _member(name, value)
    return found


def _shown(name: str) -> bool:
    return name == "__init__" or not name.startswith("_")


def _member(name: str, value: Any) -> Any:
    if isinstance(value, type):
        return {each: _member(each, getattr(value, each)) for each in dir(value) if _shown(each)}
    if callable(value):
        return list(overloads(name, value.__doc__ or ""))
    if isinstance(value, property):
        return "property"
    try:
        return int(value)
    except (TypeError, ValueError):
        return "value"


def overloads(name: str, text: str) -> Iterator[list[tuple[str, bool]]]:
    """The arguments of each signature in a docstring, as pybind11 writes it."""
    for found in re.finditer(rf"^(?:\d+\. )?{re.escape(name)}\((.*)\) -> ", text, re.M):
        if found.group(1) != "*args, **kwargs":
            arguments = [one for one in split(found.group(1)) if one.split(":")[0] != "self"]
            yield [(one.split(":")[0].split("=")[0].strip(), " = " in one) for one in arguments if one not in "*/"]


def split(text: str) -> Iterator[str]:
    """At the commas that are in no brackets."""
    depth, start = 0, 0
    for index, letter in enumerate(text):
        depth += (letter in "([{<") - (letter in ")]}" or (letter == ">" and text[index - 1] != "-"))
        if letter == "," and not depth:
            yield text[start:index].strip()
            start = index + 1
    if text[start:].strip():
        yield text[start:].strip()


if __name__ == "__main__":
    print(json.dumps(described(importlib.import_module(sys.argv[1]))))
