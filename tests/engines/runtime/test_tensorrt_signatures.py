"""Every name of TensorRT that is used here exists, and is called as it wants to be, in each of the real bindings.

``tensorrt`` 10.3, 10.13 and 11.4 by their bindings alone, over libraries that hold nothing (their own are not to be had
where this is tested), and ``tensorrt_rtx`` as it is installed. So a name that is misspelled, or gone in one of them,
fails here and not on somebody's Jetson.
"""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.engines.runtime.standin import signatures, tensorrt

ROOT = Path(__file__).resolve().parents[3]
BINDINGS = Path(sys.prefix) / "tensorrt-bindings"
RTX = "tensorrt_rtx"
FLAVOURS = ("10.3.0", "10.13.3.9", "11.4.0.106", RTX)

FILES = ("tensorrt", "tensorrt_library", "plan_build", "plan_progress", "plan_session")

RECEIVERS = {
    **dict.fromkeys(("library", "trt", "module", "loaded.module", "place.loaded.module", "self.module"), ""),
    **dict.fromkeys(("engine", "self._engine"), "ICudaEngine"),
    **dict.fromkeys(("builder", "parsed.builder"), "Builder"),
    **dict.fromkeys(("tensor", "layer.get_input(0)", "layer.get_output(0)"), "ITensor"),
    "self._execution": "IExecutionContext",
    "place.loaded.runtime": "Runtime",
    "parsed.parser": "OnnxParser",
    "network": "INetworkDefinition",
    "layer": "ILayer",
    "types": "DataType",
    "level": "ILogger.Severity",
}
"""What stands in the sources in front of the dot, and of which class it is; the module itself is ``""``."""

RECEIVERS_BY_FILE = {
    "plan_build": {"config": "IBuilderConfig", "timing": "ITimingCache", "one": "ParserError"},
    "tensorrt": {"config": "IRuntimeConfig", "compiled": "IRuntimeCache"},
}

ONLY_RTX = {
    "CudaGraphStrategy",
    "CudaGraphStrategy.DISABLED",
    "ICudaEngine.create_runtime_config",
    "IExecutionContext.is_stream_capturable",
    "IRuntimeConfig.cuda_graph_strategy",
    "IRuntimeConfig.create_runtime_cache",
    "IRuntimeConfig.set_runtime_cache",
    "IRuntimeCache.deserialize",
    "IRuntimeCache.serialize",
    "IBuilderConfig.num_compute_capabilities",
    "IBuilderConfig.set_compute_capability",
    "ComputeCapability",
}
"""Used where the table of libraries says so, and there only."""

TOO_COMMON = re.compile(
    "name|shape|data|log|clear|append|read|reset|pop|dtype|start|nbytes|itemsize|value|type|serialize|runtime|builder|"
    "parser|code|desc|__version__|__init__|precision|keys|items|get|values|sort|index|count|finish"
)
"""Names that say nothing about whose they are: checked where their receiver is known, not missed where it is not."""


class Use(NamedTuple):
    """A name of the library where it stands; ``given``: positional arguments and keywords, if it is called."""

    path: str
    where: str
    given: tuple[int, frozenset[str]] | None


@cache
def tree(file: str) -> ast.Module:
    return ast.parse((ROOT / "engines" / "runtime" / f"{file}.py").read_text(encoding="utf-8"))


def owner(file: str, receiver: ast.expr) -> str | None:
    """The class of what stands in front of a dot; None: not the library's."""
    text = ast.unparse(receiver)
    known = {**RECEIVERS, **RECEIVERS_BY_FILE.get(file, {})}
    if text in known:
        return known[text]
    outer = owner(file, receiver.value) if isinstance(receiver, ast.Attribute) else None
    if outer is None or not isinstance(receiver, ast.Attribute) or not receiver.attr[0].isupper():
        return None
    return f"{outer}.{receiver.attr}".strip(".")


def uses() -> Iterator[Use]:
    for file in FILES:
        called = {id(node.func): node for node in ast.walk(tree(file)) if isinstance(node, ast.Call)}
        for node in ast.walk(tree(file)):
            if not isinstance(node, ast.Attribute):
                continue
            of = owner(file, node.value)
            if of is not None and (node.attr == "__init__" or not node.attr.startswith("__")):
                call = called.get(id(node))
                unbound = node.attr == "__init__"  # called with the object itself
                given = call and (len(call.args) - unbound, frozenset(str(each.arg) for each in call.keywords))
                yield Use(f"{of}.{node.attr}".strip("."), f"{file}.py:{node.lineno}", given)


@pytest.fixture(scope="session")
def offered(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """``offered(flavour)``: what a flavour has (:func:`signatures.described`)."""

    @cache
    def describe(flavour: str) -> dict[str, Any]:
        environment = dict(os.environ)
        if flavour != RTX:
            bindings = BINDINGS / flavour
            if not bindings.is_dir() or shutil.which("cc") is None:
                missing("needs a C compiler, and TensorRT's bindings: make .venv/.installed-bindings")
            folder = tmp_path_factory.mktemp(flavour)
            signatures.stubs(bindings, folder)
            environment |= {"LD_LIBRARY_PATH": str(folder), "PYTHONPATH": str(bindings)}
        module = RTX if flavour == RTX else "tensorrt_bindings"
        command = [sys.executable, signatures.__file__, module]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        assert found[""]["__version__"].startswith("1." if flavour == RTX else flavour)
        return found

    return describe


def missing(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def member(offered: dict[str, Any], path: str) -> Any:
    """What a dotted name is in a flavour; None if it has no such."""
    first, *rest = path.split(".")
    found = offered.get(first, offered[""].get(first))
    for name in rest:
        found = found.get(name) if isinstance(found, dict) else None
    return found


def takes(overloads: list[list[tuple[str, bool]]], given: tuple[int, frozenset[str]]) -> bool:
    """Whether one of a method's signatures takes so many arguments by place, and these by name."""
    positional, named = given
    for arguments in overloads:
        rest = arguments[positional:]
        left = {name for name, has_default in rest if not has_default} - named
        if positional <= len(arguments) and named <= {name for name, _ in rest} and not left:
            return True
    return False


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_every_name_that_is_used_exists_and_is_called_rightly(offered: Any, flavour: str) -> None:
    there, wrong = offered(flavour), []
    for use in uses():
        for_rtx = use.path in ONLY_RTX or (use.given and "runtime_config" in use.given[1])
        if for_rtx and flavour != RTX:
            continue
        found = member(there, use.path)
        if found is None:
            wrong.append(f"{use.where}: {use.path} is not there")
        elif use.given is not None and isinstance(found, dict):
            continue  # a class: its __init__ is looked at below
        elif use.given is not None and (not isinstance(found, list) or not takes(found, use.given)):
            wrong.append(f"{use.where}: {use.path} is {found}, called with {use.given}")
        elif use.given is None and isinstance(found, list) and not use.path.endswith("__init__"):
            wrong.append(f"{use.where}: {use.path} is to be called")
    assert wrong == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_objects_are_made_as_their_classes_want(offered: Any, flavour: str) -> None:
    there = offered(flavour)
    made = {use.path: use.given for use in uses() if use.given and isinstance(member(there, use.path), dict)}
    assert {"Builder", "OnnxParser", "Runtime"} <= set(made)
    assert [path for path, given in made.items() if not takes(member(there, f"{path}.__init__"), given)] == []


@pytest.mark.parametrize("flavour", FLAVOURS)
def test_what_the_library_calls_back_is_there(offered: Any, flavour: str) -> None:
    """Classes of ours that derive from the library's have its methods, with as many arguments."""
    derived = 0
    for file in FILES:
        for node in ast.walk(tree(file)):
            base = ast.unparse(node.bases[0]) if isinstance(node, ast.ClassDef) and node.bases else ""
            if not isinstance(node, ast.ClassDef) or not base.startswith(("module.", "loaded.module.")):
                continue
            derived += 1
            ours = {each.name: len(each.args.args) - 1 for each in node.body if isinstance(each, ast.FunctionDef)}
            theirs = {name: each for name, each in member(offered(flavour), base.split(".")[-1]).items() if each}
            for name, found in theirs.items():
                if isinstance(found, list) and name != "__init__":
                    assert takes(found, (ours[name], frozenset())), f"{node.name}.{name}"
    assert derived == 2


def test_no_use_is_overlooked(offered: Any) -> None:
    """A name that only the library can mean is known by what stands in front of it: else add it to RECEIVERS."""
    known = {use.path.rsplit(".", 1)[-1] for use in uses()}
    theirs = {name for flavour in FLAVOURS for of, members in offered(flavour).items() if of for name in members}
    overlooked = []
    for file in FILES:
        for node in ast.walk(tree(file)):
            if not isinstance(node, ast.Attribute) or node.attr not in theirs or TOO_COMMON.fullmatch(node.attr):
                continue
            if owner(file, node.value) is None:
                overlooked.append(f"{file}.py:{node.lineno}: {ast.unparse(node)}")
    assert overlooked == []
    assert {"execute_async_v3", "set_tensor_address", "build_serialized_network", "STRONGLY_TYPED"} <= known


def test_what_is_for_one_flavour_alone_is_still_used() -> None:
    used = {use.path for use in uses()} | {"IExecutionContext.is_stream_capturable"}
    assert used >= ONLY_RTX


def test_the_check_for_capture_is_that_of_tensorrt_rtx(offered: Any) -> None:
    assert member(offered(RTX), "IExecutionContext.is_stream_capturable") == [[["stream", False]]]
    assert all(member(offered(one), "IExecutionContext.is_stream_capturable") is None for one in FLAVOURS[:-1])


STANDINS = [
    value for value in vars(tensorrt).values() if isinstance(value, type) and value.__module__ == tensorrt.__name__
]


@pytest.mark.parametrize("flavour", FLAVOURS)
@pytest.mark.parametrize("standin", STANDINS, ids=lambda one: one.__name__)
def test_the_stand_in_has_nothing_that_the_real_one_has_not(offered: Any, flavour: str, standin: type) -> None:
    """Else the session's tests would pass on a library that nobody has."""
    there = offered(flavour)[standin.__name__]
    for name, value in vars(standin).items():
        if name.startswith("_") and (name != "__init__" or standin.__name__ not in ("Runtime",)):
            continue
        if hasattr(value, "value"):
            assert there[name] == value.value, "a number of an enumeration"
        elif isinstance(value, property):
            assert there[name] == "property"
        else:
            ours = list(inspect.signature(value).parameters.values())[1:]
            given = frozenset(each.name for each in ours if each.default is each.empty)
            assert takes(there[name], (0, given)), name
            assert any({each.name for each in ours} <= {one[0] for one in overload} for overload in there[name]), name


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ((1, frozenset()), True),
        ((0, frozenset({"name"})), True),
        ((2, frozenset({"c"})), True),
        ((0, frozenset()), False),
        ((2, frozenset({"name"})), False),
        ((4, frozenset()), False),
        ((1, frozenset({"d"})), False),
    ],
)
def test_what_a_signature_takes(given: tuple[int, frozenset[str]], right: bool) -> None:
    text = "f(self: a.B, name: str, b: typing.Dict[str, int] = <E.X: 0>, *, c: bool = None) -> None"
    (parsed,) = signatures.overloads("f", text)
    assert parsed == [("name", False), ("b", True), ("c", True)]
    assert takes([parsed], given) == right
